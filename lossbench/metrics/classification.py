"""Metrics of class scores."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, is_finite, mask_invalid, widen
from lossbench.numerics.softmax import argmax, log_softmax, softmax

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

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """0 or 1 per example, `[R, N, C]` to `[R, N]`."""
        correct = (_chosen(prediction) == target).to(widen(prediction).dtype)
        return mask_invalid(correct, is_finite(prediction))


@dataclass(frozen=True)
class BalancedAccuracy(LinearisedMetric):
    """Mean over classes of the share of a class's examples that are predicted; classes without examples are left out.

    Reference: Brodersen et al., The Balanced Accuracy and Its Posterior Distribution, 2010,
    https://doi.org/10.1109/ICPR.2010.764
    """

    tasks: ClassVar[tuple[str, ...]] = _CLASSES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R]`."""
        recall = _recalls(prediction, target)[0]
        return mask_invalid(recall.nanmean(-1), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R, N]`: the rarer a class, the more each of its examples weighs."""
        recall, present, correct = _recalls(prediction, target)
        own, n_own = (x.gather(-1, target.expand_as(correct)) for x in (recall, present))
        n_present = (present > 0).sum(-1, keepdim=True)
        return mask_invalid(correct.shape[-1] * (correct - own) / (n_own * n_present), _whole(prediction))


def _whole(prediction: Tensor) -> Tensor:
    """Whether all of a row is finite, `[R, 1]`: what one example adds hangs on the others."""
    return is_finite(prediction).all(-1, keepdim=True)


def _recalls(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each class's recall, NaN where it is absent, and how many there are of it, `[R, C]`; who is right, `[R, N]`."""
    correct = (_chosen(prediction) == target).to(widen(prediction).dtype)
    n_classes, target = _n_classes(prediction), target.expand_as(correct)
    present = _tally(target, torch.ones_like(correct), n_classes)
    return _tally(target, correct, n_classes) / present, present, correct


def _f1(prediction: Tensor, target: Tensor) -> Tensor:
    """F1 = 2 TP / (2 TP + FP + FN) of each class or label, `[R, C]`; NaN for one neither present nor predicted."""
    if target.ndim == prediction.ndim:
        chosen, present = prediction > 0, target == 1
        both = chosen.sum(-2) + present.sum(-2)
        return (2 * (chosen & present).sum(-2)).to(widen(prediction).dtype) / both
    classes, n_classes = _chosen(prediction), _n_classes(prediction)
    correct = (classes == target).to(widen(prediction).dtype)
    ones = torch.ones_like(correct)
    total = _tally(classes, ones, n_classes) + _tally(target.expand_as(classes), ones, n_classes)
    return 2 * _tally(classes, correct, n_classes) / total


def _f1_influence(prediction: Tensor, target: Tensor) -> Tensor:
    """Of each example on each class's F1, `[R, N, C]`; 0 for a class neither present nor predicted."""
    chosen, present = prediction > 0, target == 1
    if target.ndim < prediction.ndim:
        classes = torch.arange(_n_classes(prediction), device=target.device)
        chosen, present = (x.unsqueeze(-1) == classes for x in (_chosen(prediction), target))
    kind = widen(prediction).dtype
    hits, size = 2 * (chosen & present).to(kind), chosen.to(kind) + present.to(kind)
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
        """`[R, N, 1]` to `[R]`."""
        return mask_invalid(_f1(prediction, target)[..., 1].nan_to_num(0.0), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 1]` to `[R, N]`."""
        return mask_invalid(_f1_influence(prediction, target)[..., 1], _whole(prediction))


@dataclass(frozen=True)
class MacroF1(LinearisedMetric):
    """Mean over classes (labels) of F1; one that is neither present nor predicted is left out.

    A label is predicted where its score is above 0.
    """

    tasks: ClassVar[tuple[str, ...]] = (*_CLASSES, "multilabel")
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R]`, for class indices `[R, N]` or labels `[R, N, C]` of 0 and 1."""
        return mask_invalid(_f1(prediction, target).nanmean(-1), is_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R, N]`."""
        there = _f1(prediction, target).isfinite().sum(-1, keepdim=True)
        return mask_invalid(_f1_influence(prediction, target).sum(-1) / there, _whole(prediction))


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
        """`[R, N, 1]` to `[R]`."""
        wins, positive = _wins(prediction, target)
        area = (wins * positive).sum(-1) / positive.sum(-1)  # 0 / 0 is NaN where a class is absent
        return mask_invalid(area, is_finite(prediction).all(-1)).to(widen(prediction).dtype)

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 1]` to `[R, N]`.

        DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves, 1988,
        https://doi.org/10.2307/2531595
        """
        wins, positive = _wins(prediction, target)
        of_class = torch.where(positive, positive.sum(-1, keepdim=True), (~positive).sum(-1, keepdim=True))
        area = (wins * positive).sum(-1, keepdim=True) / positive.sum(-1, keepdim=True)
        influence = wins.shape[-1] * (wins - area) / of_class
        return mask_invalid(influence, _whole(prediction)).to(widen(prediction).dtype)


def _wins(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """In what share of its pairs with the other class each example is on the right side; and who is positive."""
    scores = widen(prediction)[..., 0].contiguous()
    positive = (target == 1).expand_as(scores)
    below = _share_below(scores, scores.masked_fill(positive, torch.inf), (~positive).sum(-1, keepdim=True))
    above = 1 - _share_below(scores, scores.masked_fill(~positive, torch.inf), positive.sum(-1, keepdim=True))
    return torch.where(positive, below, above), positive


def _share_below(scores: Tensor, others: Tensor, n: Tensor) -> Tensor:
    """The share of the `n` finite others that are below each score, equal ones counting half; `[R, N]` in float64."""
    ordered = others.sort(-1).values
    places = torch.searchsorted(ordered, scores) + torch.searchsorted(ordered, scores, right=True)
    return places.double() / (2 * n)


@dataclass(frozen=True)
class LogLoss(ExampleMetric):
    """Mean of -log p(target), p being the softmax of the scores, or the sigmoid of a single one.

    Of labels it is the mean over them, with a sigmoid each.
    """

    tasks: ClassVar[tuple[str, ...]] = (*_CLASSES, "multilabel")
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R, N]`, for class indices `[R, N]` or labels `[R, N, C]` of 0 and 1."""
        return mask_invalid(-_log_probability(prediction, target), is_finite(prediction))


def _log_probability(prediction: Tensor, target: Tensor) -> Tensor:
    prediction = widen(prediction)
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

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, C]` to `[R, N]`."""
        prediction, target = widen(prediction), target.unsqueeze(-1)
        if prediction.shape[-1] == 1:
            probability, hot = prediction.sigmoid(), target
        else:
            probability, hot = (
                softmax(prediction),
                target == torch.arange(prediction.shape[-1], device=target.device),
            )
        return (probability - hot.to(probability.dtype)).square().sum(-1).where(is_finite(prediction), torch.nan)
