"""Metrics of label scores: a label is predicted where its score is above 0."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, is_finite, mask_invalid, widen

_MULTILABEL = ("multilabel",)


def _right(prediction: Tensor, target: Tensor) -> Tensor:
    """Which labels are decided rightly, `[R, N, L]`."""
    return (prediction > 0) == (target == 1)


@dataclass(frozen=True)
class MeanAveragePrecision(LinearisedMetric):
    r"""Mean over labels of the average precision (mAP): how high a label's positives rank among all examples.

    .. math:: AP = \sum_k (R_k - R_{k-1}) P_k

    with precision P and recall R at every distinct score, as in scikit-learn: equal scores share one threshold. Labels
    without positives are left out; without any positive it is NaN. Neither a threshold nor the scale of scores matters.
    Reference: Manning et al., Introduction to Information Retrieval, 2008, chapter 8,
    https://nlp.stanford.edu/IR-book/
    """

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, L]` to `[R]`."""
        curve = _Curve.of(prediction, target)
        return mask_invalid(curve.average().nanmean(-1), is_finite(prediction).all(-1)).to(widen(prediction).dtype)

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, L]` to `[R, N]`."""
        curve = _Curve.of(prediction, target)
        there = curve.positive.any(-1).sum(-1, keepdim=True)  # labels with positives
        influence = curve.compute_influence().sum(-2) / there
        return mask_invalid(influence, is_finite(prediction).all(-1, keepdim=True)).to(widen(prediction).dtype)


class _Curve(NamedTuple):
    """Precision at the threshold of each example, in the order of rising scores; all `[R, L, N]`.

    chosen: how many examples are at or above the threshold. upper: how many are at or below.
    """

    order: Tensor
    positive: Tensor
    chosen: Tensor
    upper: Tensor
    precision: Tensor

    @staticmethod
    def of(prediction: Tensor, target: Tensor) -> "_Curve":
        scores = widen(prediction).mT.contiguous()
        ordered, order = scores.sort(-1)
        positive = (target.expand_as(prediction).mT == 1).gather(-1, order)
        lowest_equal = torch.searchsorted(ordered, ordered).clamp_max(ordered.shape[-1] - 1)  # NaN is above all
        upper = torch.searchsorted(ordered, ordered, right=True)
        chosen = scores.shape[-1] - lowest_equal
        from_here_up = positive.flip(-1).cumsum(-1).flip(-1)
        return _Curve(order, positive, chosen, upper, from_here_up.gather(-1, lowest_equal).double() / chosen)

    def average(self) -> Tensor:
        """The average precision of each label, `[R, L]`; NaN without positives."""
        return (self.precision * self.positive).sum(-1) / self.positive.sum(-1)

    def compute_influence(self) -> Tensor:
        """Of each example on each label's average precision, in the examples' own order; 0 without positives.

        A positive one has a precision of its own, and each takes part in those of all positives at or below it.
        """
        own = (self.precision - self.average().unsqueeze(-1)) * self.positive
        shares = self.positive.double() / self.chosen
        parts = (values.cumsum(-1).gather(-1, self.upper - 1) for values in (shares, shares * self.precision))
        others = next(parts) * self.positive - next(parts)
        influence = self.order.shape[-1] * (own + others) / self.positive.sum(-1, keepdim=True)
        return torch.empty_like(influence).scatter_(-1, self.order, influence).nan_to_num(0.0)


@dataclass(frozen=True)
class SubsetAccuracy(ExampleMetric):
    """Share of examples of which every label is decided rightly (exact match)."""

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """0 or 1 per example, `[R, N, L]` to `[R, N]`."""
        return mask_invalid(_right(prediction, target).all(-1).to(widen(prediction).dtype), is_finite(prediction))


@dataclass(frozen=True)
class HammingAccuracy(ExampleMetric):
    """Share of labels that are decided rightly: one minus the Hamming loss.

    Where labels are rare it is high for who predicts none.
    """

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The share of an example's labels, `[R, N, L]` to `[R, N]`."""
        return mask_invalid(_right(prediction, target).to(widen(prediction).dtype).mean(-1), is_finite(prediction))
