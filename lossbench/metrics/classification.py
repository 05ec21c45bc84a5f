"""Metrics of class scores."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, is_finite, mask_invalid, widen
from lossbench.numerics.softmax import argmax, log_softmax, softmax

_CLASSES = ("binary", "multiclass")


def _predict_classes(prediction: Tensor) -> Tensor:
    """Return classes `[R, N]`: the highest score (the first of equal ones), or 1 where a single score is above 0."""
    if prediction.shape[-1] == 1:
        return (prediction[..., 0] > 0).long()
    return argmax(prediction)


def _count_classes(prediction: Tensor) -> int:
    return max(prediction.shape[-1], 2)


def _sum_by_class(classes: Tensor, values: Tensor, n_classes: int) -> Tensor:
    """Sum `values` `[R, N]` by class, `[R, C]`."""
    return values.new_zeros(*values.shape[:-1], n_classes).scatter_add(-1, classes, values)


@dataclass(frozen=True)
class Accuracy(ExampleMetric):
    """Share of examples whose class is predicted: the class of the highest score, or 1 if a single score is above 0."""

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return 0 or 1 per example: `[R, N, C]` to `[R, N]`."""
        correct = (_predict_classes(prediction) == target).to(widen(prediction).dtype)
        return mask_invalid(correct, is_finite(prediction))


@dataclass(frozen=True)
class BalancedAccuracy(LinearisedMetric):
    """Mean of the recalls of the classes; classes without examples are left out.

    Reference: Brodersen et al., The Balanced Accuracy and Its Posterior Distribution, 2010,
    https://doi.org/10.1109/ICPR.2010.764
    """

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: `[R, N, C]` to `[R]`."""
        recall = _compute_recall(prediction, target)[0]
        return mask_invalid(recall.nanmean(-1), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, C]` to `[R, N]`; examples of rare classes weigh more."""
        recall, count, correct = _compute_recall(prediction, target)
        # of the example's own class: recall and number of examples, [R, N]
        class_recall, class_count = (x.gather(-1, target.expand_as(correct)) for x in (recall, count))
        n_present = (count > 0).sum(-1, keepdim=True)
        influence = correct.shape[-1] * (correct - class_recall) / (class_count * n_present)
        return mask_invalid(influence, _is_replica_finite(prediction))


def _is_replica_finite(prediction: Tensor) -> Tensor:
    """Return `[R, 1]`, True if a whole replica is finite: an example's influence depends on all the others."""
    return is_finite(prediction).all(-1, keepdim=True)


def _compute_recall(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return recall (NaN for an absent class) and number of examples, `[R, C]`, and which are correct, `[R, N]`."""
    correct = (_predict_classes(prediction) == target).to(widen(prediction).dtype)
    n_classes, target = _count_classes(prediction), target.expand_as(correct)
    count = _sum_by_class(target, torch.ones_like(correct), n_classes)
    return _sum_by_class(target, correct, n_classes) / count, count, correct


def _f1(prediction: Tensor, target: Tensor) -> Tensor:
    """F1 = 2 TP / (2 TP + FP + FN) of each class or label, `[R, C]`; NaN for one neither present nor predicted.

    2 TP + FP + FN is the number of examples where the class is predicted plus the number where it is present.
    """
    if target.ndim == prediction.ndim:  # labels [R, N, L]
        predicted, present = prediction > 0, target == 1
        total = predicted.sum(-2) + present.sum(-2)
        return (2 * (predicted & present).sum(-2)).to(widen(prediction).dtype) / total
    # class indices [R, N]
    classes, n_classes = _predict_classes(prediction), _count_classes(prediction)
    correct = (classes == target).to(widen(prediction).dtype)
    ones = torch.ones_like(correct)
    total = _sum_by_class(classes, ones, n_classes) + _sum_by_class(target.expand_as(classes), ones, n_classes)
    return 2 * _sum_by_class(classes, correct, n_classes) / total


def _f1_influence(prediction: Tensor, target: Tensor) -> Tensor:
    """Return each example's influence on each class's F1, `[R, N, C]`; 0 for one neither present nor predicted.

    F1 = sum(hits) / sum(size) is a ratio of sums: its influence is N (hits - F1 size) / sum(size).
    """
    predicted, present = prediction > 0, target == 1
    if target.ndim < prediction.ndim:  # class indices become one-hot
        classes = torch.arange(_count_classes(prediction), device=target.device)
        predicted, present = (x.unsqueeze(-1) == classes for x in (_predict_classes(prediction), target))
    kind = widen(prediction).dtype
    hits, size = 2 * (predicted & present).to(kind), predicted.to(kind) + present.to(kind)
    total = size.sum(-2, keepdim=True)
    f1 = hits.sum(-2, keepdim=True) / total
    return (size.shape[-2] * (hits - f1 * size) / total).nan_to_num(0.0)


@dataclass(frozen=True)
class F1(LinearisedMetric):
    """Harmonic mean of precision and recall of the positive class; 0 if it is neither present nor predicted."""

    tasks: ClassVar[tuple[str, ...]] = ("binary",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: `[R, N, 1]` to `[R]`."""
        return mask_invalid(_f1(prediction, target)[..., 1].nan_to_num(0.0), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, 1]` to `[R, N]`."""
        return mask_invalid(_f1_influence(prediction, target)[..., 1], _is_replica_finite(prediction))


@dataclass(frozen=True)
class MacroF1(LinearisedMetric):
    """Mean over classes (labels) of F1; one that is neither present nor predicted is left out.

    A label is predicted where its score is above 0.
    """

    tasks: ClassVar[tuple[str, ...]] = (*_CLASSES, "multilabel")
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: `[R, N, C]` to `[R]`, for class indices `[R, N]` or labels `[R, N, C]` of 0 and 1."""
        return mask_invalid(_f1(prediction, target).nanmean(-1), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, C]` to `[R, N]`."""
        n_counted = _f1(prediction, target).isfinite().sum(-1, keepdim=True)  # classes that are not left out
        return mask_invalid(_f1_influence(prediction, target).sum(-1) / n_counted, _is_replica_finite(prediction))


@dataclass(frozen=True)
class AUROC(LinearisedMetric):
    """Share of pairs of a positive and a negative example in which the positive one scores higher; ties count half.

    The area under the receiver operating characteristic, from ranks. NaN where a class is absent: there are no pairs.
    Reference: Hanley, McNeil, The meaning and use of the area under a ROC curve, 1982,
    https://doi.org/10.1148/radiology.143.1.7063747
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: `[R, N, 1]` to `[R]`."""
        wins, positive = _compute_wins(prediction, target)
        area = (wins * positive).sum(-1) / positive.sum(-1)  # 0 / 0 is NaN where a class is absent
        return mask_invalid(area, is_finite(prediction).all(-1)).to(widen(prediction).dtype)

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, 1]` to `[R, N]`.

        Reference: DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
        Curves, 1988, https://doi.org/10.2307/2531595
        """
        wins, positive = _compute_wins(prediction, target)
        n_positive, n_negative = positive.sum(-1, keepdim=True), (~positive).sum(-1, keepdim=True)
        area = (wins * positive).sum(-1, keepdim=True) / n_positive
        # DeLong's structural components, centred, per example of the same class
        influence = wins.shape[-1] * (wins - area) / torch.where(positive, n_positive, n_negative)
        return mask_invalid(influence, _is_replica_finite(prediction)).to(widen(prediction).dtype)


def _compute_wins(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of its pairs with the other class that each example wins, and which are positive, `[R, N]`."""
    scores = widen(prediction)[..., 0].contiguous()
    positive = (target == 1).expand_as(scores)
    # a positive example wins where it is above, a negative one where it is below; inf takes its own class out
    below = _share_below(scores, scores.masked_fill(positive, torch.inf), (~positive).sum(-1, keepdim=True))
    above = 1 - _share_below(scores, scores.masked_fill(~positive, torch.inf), positive.sum(-1, keepdim=True))
    return torch.where(positive, below, above), positive


def _share_below(scores: Tensor, others: Tensor, n: Tensor) -> Tensor:
    """Return the share of the `n` finite others below each score, `[R, N]` in float64; equal ones count half."""
    ordered = others.sort(-1).values
    places = torch.searchsorted(ordered, scores) + torch.searchsorted(ordered, scores, right=True)
    return places.double() / (2 * n)


@dataclass(frozen=True)
class LogLoss(ExampleMetric):
    """Mean of -log p(target), where p is the softmax of the scores, or the sigmoid of a single score.

    For labels it is the mean over examples and labels, with a sigmoid for each label.
    """

    tasks: ClassVar[tuple[str, ...]] = (*_CLASSES, "multilabel")
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a score per example: `[R, N, C]` to `[R, N]`.

        Targets are class indices `[R, N]` or labels `[R, N, C]` of 0 and 1.
        """
        finite, prediction = is_finite(prediction), widen(prediction)
        if target.ndim == prediction.ndim:  # labels
            log_p = logsigmoid((2 * target - 1) * prediction).mean(-1)  # 1 - sigmoid(z) = sigmoid(-z)
        elif prediction.shape[-1] == 1:
            log_p = logsigmoid((2 * target - 1) * prediction[..., 0])
        else:
            index = target.expand(prediction.shape[:-1]).unsqueeze(-1)
            log_p = log_softmax(prediction).gather(-1, index).squeeze(-1)
        return mask_invalid(-log_p, finite)


@dataclass(frozen=True)
class BrierScore(ExampleMetric):
    """Squared error of the probabilities: (p - y)^2 of the positive class, or its sum over C classes.

    It lies in [0, 1] for a binary task and in [0, 2] for a multiclass one, as in scikit-learn.
    Reference: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950,
    https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a score per example: `[R, N, C]` to `[R, N]`."""
        prediction, target = widen(prediction), target.unsqueeze(-1)
        if prediction.shape[-1] == 1:
            probability, hot = prediction.sigmoid(), target
        else:
            probability = softmax(prediction)
            hot = target == torch.arange(prediction.shape[-1], device=target.device)  # one-hot, [R, N, C]
        return (probability - hot.to(probability.dtype)).square().sum(-1).where(is_finite(prediction), torch.nan)
