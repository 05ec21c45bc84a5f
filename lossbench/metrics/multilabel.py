"""Metrics of label scores: a label is predicted where its score is above 0."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, is_finite, mask_invalid, widen

_MULTILABEL = ("multilabel",)


def _is_correct(prediction: Tensor, target: Tensor) -> Tensor:
    """Return True for each label that is predicted correctly, `[R, N, L]`."""
    return (prediction > 0) == (target == 1)


@dataclass(frozen=True)
class MeanAveragePrecision(LinearisedMetric):
    r"""Mean over labels of the average precision (mAP): it is high if a label's positives rank above other examples.

    .. math:: AP = \sum_k (R_k - R_{k-1}) P_k

    with precision P and recall R at every distinct score, as in scikit-learn: equal scores share a threshold. Labels
    without positives are left out; without any positive it is NaN. It depends on the order of the scores alone.
    Reference: Manning et al., Introduction to Information Retrieval, 2008, chapter 8,
    https://nlp.stanford.edu/IR-book/
    """

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: `[R, N, L]` to `[R]`."""
        curve = _PrecisionCurve.compute(prediction, target)
        return mask_invalid(curve.average_precision().nanmean(-1), is_finite(prediction).all(-1)).to(
            widen(prediction).dtype
        )

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, L]` to `[R, N]`."""
        curve = _PrecisionCurve.compute(prediction, target)
        n_counted = curve.positive.any(-1).sum(-1, keepdim=True)  # labels with positives
        influence = curve.compute_influence().sum(-2) / n_counted
        return mask_invalid(influence, is_finite(prediction).all(-1, keepdim=True)).to(widen(prediction).dtype)


class _PrecisionCurve(NamedTuple):
    """Precision with each example's score as the threshold, in the order of rising scores; all `[R, L, N]`.

    order: the indices that sort the examples. n_above: number of examples at or above the threshold, which are
    predicted as positive. n_below: number at or below it.
    """

    order: Tensor
    positive: Tensor
    n_above: Tensor
    n_below: Tensor
    precision: Tensor

    @staticmethod
    def compute(prediction: Tensor, target: Tensor) -> "_PrecisionCurve":
        """Sort the scores `[R, N, L]` of each label and count."""
        scores = widen(prediction).mT.contiguous()
        ordered, order = scores.sort(-1)
        positive = (target.expand_as(prediction).mT == 1).gather(-1, order)
        first_equal = torch.searchsorted(ordered, ordered).clamp_max(ordered.shape[-1] - 1)  # NaN is above all
        n_below = torch.searchsorted(ordered, ordered, right=True)
        n_above = scores.shape[-1] - first_equal
        # true positives at each place, then at the threshold that equal scores share
        true_positives = positive.flip(-1).cumsum(-1).flip(-1).gather(-1, first_equal)
        return _PrecisionCurve(order, positive, n_above, n_below, true_positives.double() / n_above)

    def average_precision(self) -> Tensor:
        """Return the average precision of each label, `[R, L]`; NaN without positives."""
        return (self.precision * self.positive).sum(-1) / self.positive.sum(-1)

    def compute_influence(self) -> Tensor:
        """Return each example's influence on each label's average precision, unsorted; 0 without positives."""
        # 1. directly: a positive example adds the precision at its own threshold to the mean
        direct = (self.precision - self.average_precision().unsqueeze(-1)) * self.positive
        # 2. indirectly: every example changes the precision at the thresholds of all positives at or below it
        weight = self.positive.double() / self.n_above
        gained, lost = (x.cumsum(-1).gather(-1, self.n_below - 1) for x in (weight, weight * self.precision))
        indirect = gained * self.positive - lost
        influence = self.order.shape[-1] * (direct + indirect) / self.positive.sum(-1, keepdim=True)
        # 3. back into the order of the examples
        return torch.empty_like(influence).scatter_(-1, self.order, influence).nan_to_num(0.0)


@dataclass(frozen=True)
class SubsetAccuracy(ExampleMetric):
    """Share of examples with every label predicted correctly (exact match)."""

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return 0 or 1 per example: `[R, N, L]` to `[R, N]`."""
        return mask_invalid(_is_correct(prediction, target).all(-1).to(widen(prediction).dtype), is_finite(prediction))


@dataclass(frozen=True)
class HammingAccuracy(ExampleMetric):
    """Share of labels that are predicted correctly: one minus the Hamming loss.

    Where labels are rare, predicting none of them gives a high value.
    """

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the share of each example's labels: `[R, N, L]` to `[R, N]`."""
        return mask_invalid(_is_correct(prediction, target).to(widen(prediction).dtype).mean(-1), is_finite(prediction))
