"""Metrics: how well predictions do, whatever loss they were trained with. All rows of a stack are computed at once.

A row with a prediction that is not finite gets NaN; other rows are not touched. Half precision is computed in single.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossbench import registry
from lossbench.interfaces import Metric
from lossbench.interfaces.metric import ExampleMetric
from lossbench.softmax import argmax, log_softmax, softmax

_REGRESSION = ("regression",)
_CLASSES = ("binary", "multiclass")


def get(name: str, **fields: Any) -> Metric:
    """The metric called `name` with its fields set; raises `UnknownName` with the nearest name and all of them."""
    return registry.metrics.get(name, **fields)


def names(task: str | None = None) -> list[str]:
    """The names of all metrics, or of those that fit `task`."""
    return registry.metrics.names(task)


def _wide(prediction: Tensor) -> Tensor:
    return prediction if prediction.dtype in {torch.float32, torch.float64} else prediction.float()


def _finite(prediction: Tensor) -> Tensor:
    return prediction.abs().amax(-1).isfinite()  # the largest is NaN where any is; isfinite() of all takes 5x as long


def _or_nan(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, torch.nan)


def _errors(prediction: Tensor, target: Tensor) -> Tensor:
    return _wide(prediction) - target.to(_wide(prediction).dtype)


@dataclass(frozen=True)
class MAE(ExampleMetric):
    """Mean absolute error, in the target's units: mean over examples and D of abs(prediction - target)."""

    tasks: ClassVar[tuple[str, ...]] = _REGRESSION
    higher_is_better: ClassVar[bool] = False

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, D]` to `[R, N]`."""
        return _or_nan(_errors(prediction, target).abs().mean(-1), _finite(prediction))


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
        return _or_nan(_errors(prediction, target).square().mean(-1), _finite(prediction))


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
        return _or_nan(shares.mean(-1).to(_wide(prediction).dtype), _finite(prediction))


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
        target = target.to(_wide(prediction).dtype)
        unexplained = _errors(prediction, target).square().sum(-2)
        total = (target - target.mean(-2, keepdim=True)).square().sum(-2)
        constant = (unexplained == 0).to(unexplained.dtype)
        r2 = torch.where(total > 0, 1 - unexplained / total, constant)
        return _or_nan(r2.mean(-1), _finite(prediction).all(-1))


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
        return _or_nan(middle.mean(-1), _finite(prediction).all(-1))


def _chosen(prediction: Tensor) -> Tensor:
    """The predicted class, `[R, N]`: the highest score (the first of equals), or 1 where a single score is above 0."""
    if prediction.shape[-1] == 1:
        return (prediction[..., 0] > 0).long()
    return argmax(prediction)


def _n_classes(prediction: Tensor) -> int:
    return max(prediction.shape[-1], 2)


def _tally(classes: Tensor, values: Tensor, n_classes: int) -> Tensor:
    """The sum of `values` `[R, N]` by class, `[R, C]`."""
    return values.new_zeros(*values.shape[:-1], n_classes).scatter_add(-1, classes, values)


@dataclass(frozen=True)
class Accuracy(ExampleMetric):
    """Share of examples whose class is predicted: the highest score, or for a binary task a score above 0."""

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """0 or 1 per example, `[R, N, C]` to `[R, N]`."""
        correct = (_chosen(prediction) == target).to(_wide(prediction).dtype)
        return _or_nan(correct, _finite(prediction))


@dataclass(frozen=True)
class BalancedAccuracy(Metric):
    """Mean over classes of the share of a class's examples that are predicted; classes without examples are left out.

    Reference: Brodersen et al., The Balanced Accuracy and Its Posterior Distribution, 2010,
    https://doi.org/10.1109/ICPR.2010.764
    """

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R]`."""
        correct = (_chosen(prediction) == target).to(_wide(prediction).dtype)
        n_classes, target = _n_classes(prediction), target.expand_as(correct)
        present = _tally(target, torch.ones_like(correct), n_classes)
        recall = _tally(target, correct, n_classes) / present  # 0 / 0 is NaN where a class is absent
        return _or_nan(recall.nanmean(-1), _finite(prediction).all(-1))


def _f1(prediction: Tensor, target: Tensor) -> Tensor:
    """F1 = 2 TP / (2 TP + FP + FN) of each class, `[R, C]`; NaN for a class neither present nor predicted."""
    chosen, n_classes = _chosen(prediction), _n_classes(prediction)
    correct = (chosen == target).to(_wide(prediction).dtype)
    ones = torch.ones_like(correct)
    both = _tally(chosen, ones, n_classes) + _tally(target.expand_as(chosen), ones, n_classes)
    return 2 * _tally(chosen, correct, n_classes) / both


@dataclass(frozen=True)
class F1(Metric):
    """Harmonic mean of precision and recall of the positive class; 0 if it is neither present nor predicted."""

    tasks: ClassVar[tuple[str, ...]] = ("binary",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 1]` to `[R]`."""
        return _or_nan(_f1(prediction, target)[..., 1].nan_to_num(0.0), _finite(prediction).all(-1))


@dataclass(frozen=True)
class MacroF1(Metric):
    """Mean over classes of F1; a class that is neither present nor predicted is left out."""

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R]`."""
        return _or_nan(_f1(prediction, target).nanmean(-1), _finite(prediction).all(-1))


@dataclass(frozen=True)
class AUROC(Metric):
    """Share of pairs of a positive and a negative example in which the positive one scores higher; ties count half.

    The area under the receiver operating characteristic, from ranks. NaN where a class is absent: there are no pairs.
    Reference: Hanley, McNeil, The meaning and use of the area under a ROC curve, 1982,
    https://doi.org/10.1148/radiology.143.1.7063747
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 1]` to `[R]`."""
        scores = _wide(prediction)[..., 0].contiguous()
        positive = (target == 1).expand_as(scores).double()  # sums of ranks are too long for float32
        n_positive = positive.sum(-1)
        wins = (_ranks(scores) * positive).sum(-1) - n_positive * (n_positive + 1) / 2
        area = wins / (n_positive * (scores.shape[-1] - n_positive))
        return _or_nan(area, _finite(prediction).all(-1)).to(scores.dtype)


def _ranks(scores: Tensor) -> Tensor:
    """Ranks from 1, equal scores sharing their mean rank; `[R, N]` in float64."""
    ordered = scores.sort(-1).values
    below = torch.searchsorted(ordered, scores)
    up_to = torch.searchsorted(ordered, scores, right=True)
    return (below + up_to + 1).double() / 2


@dataclass(frozen=True)
class LogLoss(ExampleMetric):
    """Mean of -log p(target), p being the softmax of the scores, or the sigmoid of a single one."""

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = False

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R, N]`."""
        return _or_nan(-_log_probability(prediction, target), _finite(prediction))


def _log_probability(prediction: Tensor, target: Tensor) -> Tensor:
    prediction = _wide(prediction)
    if prediction.shape[-1] == 1:
        return logsigmoid((2 * target - 1) * prediction[..., 0])  # 1 - sigmoid(z) = sigmoid(-z)
    target = target.expand(prediction.shape[:-1]).unsqueeze(-1)
    return log_softmax(prediction).gather(-1, target).squeeze(-1)


@dataclass(frozen=True)
class BrierScore(ExampleMetric):
    """Squared error of the probabilities: (p - y)^2 of the positive class, or the sum of that over C classes.

    So it lies in [0, 1] for a binary task and in [0, 2] for a multiclass one, as in scikit-learn.
    Reference: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950,
    https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = False

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R, N]`."""
        prediction, target = _wide(prediction), target.unsqueeze(-1)
        if prediction.shape[-1] == 1:
            probability, hot = prediction.sigmoid(), target
        else:
            probability, hot = (
                softmax(prediction),
                target == torch.arange(prediction.shape[-1], device=target.device),
            )
        return (probability - hot.to(probability.dtype)).square().sum(-1).where(_finite(prediction), torch.nan)
