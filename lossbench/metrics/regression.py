"""Metrics of real-valued predictions, in original units."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, is_finite, mask_invalid, widen

_REGRESSION = ("regression",)


def _compute_errors(prediction: Tensor, target: Tensor) -> Tensor:
    return widen(prediction) - target.to(widen(prediction).dtype)


@dataclass(frozen=True)
class MAE(ExampleMetric):
    """Mean absolute error, in the target's units: mean over examples and D of abs(prediction - target)."""

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a score per example: `[R, N, D]` to `[R, N]`."""
        return mask_invalid(_compute_errors(prediction, target).abs().mean(-1), is_finite(prediction))


@dataclass(frozen=True)
class RMSE(ExampleMetric):
    """Root of the mean over examples and D of the squared error, in the target's units.

    With D > 1 it is a single root of the mean over all, while scikit-learn takes the mean of D roots.
    """

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False
    transform: ClassVar[str] = "root"

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of each example: `[R, N, D]` to `[R, N]`."""
        return mask_invalid(_compute_errors(prediction, target).square().mean(-1), is_finite(prediction))


@dataclass(frozen=True)
class MAPE(ExampleMetric):
    """Mean absolute percentage error as a share: abs(error) / abs(target).

    As in scikit-learn the divisor is at least 2.2e-16, so a target of 0 makes it huge.
    """

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a score per example: `[R, N, D]` to `[R, N]`."""
        shares = _compute_errors(prediction, target).abs() / target.abs().clamp_min(torch.finfo(torch.float64).eps)
        return mask_invalid(shares.mean(-1).to(widen(prediction).dtype), is_finite(prediction))


@dataclass(frozen=True)
class R2(LinearisedMetric):
    """Coefficient of determination: 1 - (squared errors) / (squared deviations of the target from its mean).

    It is averaged over D. As in scikit-learn, a constant target gives 1 for a perfect prediction, else 0.
    """

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: `[R, N, D]` to `[R]`."""
        unexplained, total = (x.sum(-2) for x in _compute_squares(prediction, target))  # [R, D]
        constant = (unexplained == 0).to(unexplained.dtype)
        r2 = torch.where(total > 0, 1 - unexplained / total, constant)
        return mask_invalid(r2.mean(-1), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, D]` to `[R, N]`; 0 for a constant target."""
        unexplained, deviation = _compute_squares(prediction, target)
        total = deviation.sum(-2, keepdim=True)
        # R2 = 1 - sum(unexplained) / sum(deviation) is a ratio of sums
        ratio = unexplained.sum(-2, keepdim=True) / total
        influence = unexplained.shape[-2] * (ratio * deviation - unexplained) / total
        return mask_invalid(torch.where(total > 0, influence, 0).mean(-1), is_finite(prediction).all(-1, keepdim=True))


def _compute_squares(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squares of the errors, and of the targets' deviations from their mean, `[R, N, D]`."""
    target = target.to(widen(prediction).dtype)
    return _compute_errors(prediction, target).square(), (target - target.mean(-2, keepdim=True)).square()


@dataclass(frozen=True)
class MedianAbsoluteError(LinearisedMetric):
    """Median over examples of the absolute error, in the target's units, averaged over D."""

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: `[R, N, D]` to `[R]`."""
        ordered = _compute_errors(prediction, target).abs().sort(-2).values
        n = ordered.shape[-2]
        # the mean of the middle two, where torch.median takes the lower one
        middle = (ordered[..., (n - 1) // 2, :] + ordered[..., n // 2, :]) / 2
        return mask_invalid(middle.mean(-1), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, D]` to `[R, N]`.

        The influence on a median is sign(error - median) / (2 density). The density at the median is estimated from the
        distance of two quantiles, each two standard errors of the median's rank away from it.
        """
        errors = _compute_errors(prediction, target).abs()
        ordered, n = errors.sort(-2).values, errors.shape[-2]
        reach = min(math.ceil(math.sqrt(n)), (n - 1) // 2)
        low, high = ordered[..., (n - 1) // 2 - reach, :], ordered[..., n // 2 + reach, :]
        middle = (ordered[..., (n - 1) // 2, :] + ordered[..., n // 2, :]) / 2
        side = (errors - middle.unsqueeze(-2)).sign()
        density = (2 * reach + 1) / n / (high - low).unsqueeze(-2)
        influence = (side - side.mean(-2, keepdim=True)) / (2 * density)
        return mask_invalid(influence.mean(-1), is_finite(prediction).all(-1, keepdim=True))
