"""Metrics of class scores."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossbench.interfaces import Metric
from lossbench.interfaces.metric import ExampleMetric
from lossbench.metrics.rows import finite, or_nan, wide
from lossbench.softmax import argmax, log_softmax, softmax

_CLASSES = ("binary", "multiclass")


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
        correct = (_chosen(prediction) == target).to(wide(prediction).dtype)
        return or_nan(correct, finite(prediction))


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
        correct = (_chosen(prediction) == target).to(wide(prediction).dtype)
        n_classes, target = _n_classes(prediction), target.expand_as(correct)
        present = _tally(target, torch.ones_like(correct), n_classes)
        recall = _tally(target, correct, n_classes) / present  # 0 / 0 is NaN where a class is absent
        return or_nan(recall.nanmean(-1), finite(prediction).all(-1))


def _f1(prediction: Tensor, target: Tensor) -> Tensor:
    """F1 = 2 TP / (2 TP + FP + FN) of each class, `[R, C]`; NaN for a class neither present nor predicted."""
    chosen, n_classes = _chosen(prediction), _n_classes(prediction)
    correct = (chosen == target).to(wide(prediction).dtype)
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
        return or_nan(_f1(prediction, target)[..., 1].nan_to_num(0.0), finite(prediction).all(-1))


@dataclass(frozen=True)
class MacroF1(Metric):
    """Mean over classes (labels) of F1; one that is neither present nor predicted is left out.

    A label is predicted where its score is above 0.
    """

    tasks: ClassVar[tuple[str, ...]] = (*_CLASSES, "multilabel")
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R]`, for class indices `[R, N]` or labels `[R, N, C]` of 0 and 1."""
        f1 = _label_f1(prediction, target) if target.ndim == prediction.ndim else _f1(prediction, target)
        return or_nan(f1.nanmean(-1), finite(prediction).all(-1))


def _label_f1(prediction: Tensor, target: Tensor) -> Tensor:
    """F1 of each label, `[R, L]`; NaN for a label neither present nor predicted."""
    chosen, present = prediction > 0, target == 1
    both = chosen.sum(-2) + present.sum(-2)
    return (2 * (chosen & present).sum(-2)).to(wide(prediction).dtype) / both


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
        scores = wide(prediction)[..., 0].contiguous()
        positive = (target == 1).expand_as(scores).double()  # sums of ranks are too long for float32
        n_positive = positive.sum(-1)
        wins = (_ranks(scores) * positive).sum(-1) - n_positive * (n_positive + 1) / 2
        area = wins / (n_positive * (scores.shape[-1] - n_positive))
        return or_nan(area, finite(prediction).all(-1)).to(scores.dtype)


def _ranks(scores: Tensor) -> Tensor:
    """Ranks from 1, equal scores sharing their mean rank; `[R, N]` in float64."""
    ordered = scores.sort(-1).values
    below = torch.searchsorted(ordered, scores)
    up_to = torch.searchsorted(ordered, scores, right=True)
    return (below + up_to + 1).double() / 2


@dataclass(frozen=True)
class LogLoss(ExampleMetric):
    """Mean of -log p(target), p being the softmax of the scores, or the sigmoid of a single one.

    Of labels it is the mean over them, with a sigmoid each.
    """

    tasks: ClassVar[tuple[str, ...]] = (*_CLASSES, "multilabel")
    higher_is_better: ClassVar[bool] = False

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R, N]`, for class indices `[R, N]` or labels `[R, N, C]` of 0 and 1."""
        return or_nan(-_log_probability(prediction, target), finite(prediction))


def _log_probability(prediction: Tensor, target: Tensor) -> Tensor:
    prediction = wide(prediction)
    if target.ndim == prediction.ndim:
        return logsigmoid((2 * target - 1) * prediction).mean(-1)  # 1 - sigmoid(z) = sigmoid(-z)
    if prediction.shape[-1] == 1:
        return logsigmoid((2 * target - 1) * prediction[..., 0])
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
        prediction, target = wide(prediction), target.unsqueeze(-1)
        if prediction.shape[-1] == 1:
            probability, hot = prediction.sigmoid(), target
        else:
            probability, hot = (
                softmax(prediction),
                target == torch.arange(prediction.shape[-1], device=target.device),
            )
        return (probability - hot.to(probability.dtype)).square().sum(-1).where(finite(prediction), torch.nan)
