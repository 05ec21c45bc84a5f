"""Errors as shares of the values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss
from lossbench.losses.terms import mean, residual
from lossbench.types import Encoding, Space


@dataclass(frozen=True)
class MAPE(Loss):
    r"""The absolute error as a share of the target.

    .. math:: \ell = \frac{|\hat y - y|}{|y|}

    prediction :math:`\hat y`, target y: ``[..., D]`` in the target's original units; no target may be 0, where the loss
    is infinite (the task refuses such targets before training). Returns ``[...]``: the mean over D, a share and not per
    cent. Raises `InvalidValue` if the shapes differ.
    Reference: Hyndman and Koehler, Another Look at Measures of Forecast Accuracy, 2006,
    https://doi.org/10.1016/j.ijforecast.2006.03.001
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.POSITIVE
    encoding = Encoding.ABOVE_ZERO
    known_as = ("sklearn.metrics.mean_absolute_percentage_error", "keras.losses.MeanAbsolutePercentageError / 100")
    use_when = "targets are positive, and being 10 % off costs the same whatever their size"
    beware = "it under-predicts: too low costs at most 1, too high has no bound, and the smallest targets rule"
    convex = True
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        return mean(residual(prediction, target).abs() / target.abs())


@dataclass(frozen=True)
class SMAPE(Loss):
    r"""The absolute error as a share of the mean of prediction and target.

    .. math:: \ell = \frac{2 |\hat y - y|}{|\hat y| + |y|}

    and 0 where both are. prediction :math:`\hat y`, target y: ``[..., D]`` in the target's original units. Returns
    ``[...]``: the mean over D, from 0 to 2 and not in per cent. Raises `InvalidValue` if the shapes differ.
    Reference: Makridakis, Accuracy Measures: Theoretical and Practical Concerns, 1993,
    https://doi.org/10.1016/0169-2070(93)90079-3
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.POSITIVE
    encoding = Encoding.POSITIVE
    known_as = ("symmetric MAPE", "torchmetrics.functional.symmetric_mean_absolute_percentage_error")
    use_when = "ratios matter, and no single example should cost more than 2"
    beware = "not symmetric: 10 too low costs more than 10 too high; a target of 0 costs 2 whatever is predicted"
    convex = False
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        error, size = residual(prediction, target).abs(), prediction.abs() + target.abs()
        return mean(2 * error / torch.where(size > 0, size, 1.0))
