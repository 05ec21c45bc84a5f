"""Metrics of real predictions, in original units."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces import Metric
from lossbench.interfaces.metric import ExampleMetric
from lossbench.metrics.rows import finite, or_nan, wide

_REGRESSION = ("regression",)


def _errors(prediction: Tensor, target: Tensor) -> Tensor:
    return wide(prediction) - target.to(wide(prediction).dtype)


@dataclass(frozen=True)
class MAE(ExampleMetric):
    """Mean absolute error, in the target's units: mean over examples and D of abs(prediction - target)."""

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, D]` to `[R, N]`."""
        return or_nan(_errors(prediction, target).abs().mean(-1), finite(prediction))


@dataclass(frozen=True)
class RMSE(ExampleMetric):
    """Root of the mean over examples and D of the squared error, in the target's units.

    With D > 1 that is one root of the mean over all, not the mean of D roots as in scikit-learn.
    """

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False
    transform: ClassVar[str] = "root"

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Squared errors, `[R, N, D]` to `[R, N]`."""
        return or_nan(_errors(prediction, target).square().mean(-1), finite(prediction))


@dataclass(frozen=True)
class MAPE(ExampleMetric):
    """Mean absolute percentage error as a share: abs(error) / abs(target).

    As in scikit-learn the divisor is at least 2.2e-16, so a target of 0 makes it huge.
    """

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, D]` to `[R, N]`."""
        shares = _errors(prediction, target).abs() / target.abs().clamp_min(torch.finfo(torch.float64).eps)
        return or_nan(shares.mean(-1).to(wide(prediction).dtype), finite(prediction))


@dataclass(frozen=True)
class R2(Metric):
    """Coefficient of determination: 1 - (squared errors) / (squared deviations of the target from its mean).

    The mean over D. A target that is constant gives 1 for a perfect prediction, else 0, as in scikit-learn.
    """

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, D]` to `[R]`."""
        target = target.to(wide(prediction).dtype)
        unexplained = _errors(prediction, target).square().sum(-2)
        total = (target - target.mean(-2, keepdim=True)).square().sum(-2)
        constant = (unexplained == 0).to(unexplained.dtype)
        r2 = torch.where(total > 0, 1 - unexplained / total, constant)
        return or_nan(r2.mean(-1), finite(prediction).all(-1))


@dataclass(frozen=True)
class MedianAbsoluteError(Metric):
    """Median over examples of the absolute error, in the target's units; the mean of that over D."""

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, D]` to `[R]`."""
        ordered = _errors(prediction, target).abs().sort(-2).values
        n = ordered.shape[-2]
        # the mean of the middle two, where torch.median takes the lower one
        middle = (ordered[..., (n - 1) // 2, :] + ordered[..., n // 2, :]) / 2
        return or_nan(middle.mean(-1), finite(prediction).all(-1))
