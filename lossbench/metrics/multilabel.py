"""Metrics of label scores: a label is predicted where its score is above 0."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces import Metric
from lossbench.interfaces.metric import ExampleMetric
from lossbench.metrics.rows import finite, or_nan, wide

_MULTILABEL = ("multilabel",)


def _right(prediction: Tensor, target: Tensor) -> Tensor:
    """Which labels are decided rightly, `[R, N, L]`."""
    return (prediction > 0) == (target == 1)


@dataclass(frozen=True)
class MeanAveragePrecision(Metric):
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
        scores = wide(prediction).mT  # [R, L, N]
        precision = _average_precision(scores, target.expand_as(prediction).mT)
        return or_nan(precision.nanmean(-1), finite(prediction).all(-1)).to(scores.dtype)


def _average_precision(scores: Tensor, target: Tensor) -> Tensor:
    """The average precision of each line, `[R, L, N]` to `[R, L]` in float64; NaN without positives."""
    n = scores.shape[-1]
    ordered, order = scores.sort(-1)
    positive = (target == 1).gather(-1, order)
    from_here_up = positive.flip(-1).cumsum(-1).flip(-1)
    place = torch.arange(n, device=scores.device)
    fresh = torch.cat([torch.ones_like(positive[..., :1]), ordered[..., 1:] != ordered[..., :-1]], -1)
    lowest_equal = torch.where(fresh, place, 0).cummax(-1).values  # where the scores that equal this one begin
    precision = from_here_up.gather(-1, lowest_equal).double() / (n - lowest_equal)
    return (precision * positive).sum(-1) / positive.sum(-1)  # 0 / 0 is NaN without positives


@dataclass(frozen=True)
class SubsetAccuracy(ExampleMetric):
    """Share of examples of which every label is decided rightly (exact match)."""

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """0 or 1 per example, `[R, N, L]` to `[R, N]`."""
        return or_nan(_right(prediction, target).all(-1).to(wide(prediction).dtype), finite(prediction))


@dataclass(frozen=True)
class HammingAccuracy(ExampleMetric):
    """Share of labels that are decided rightly: one minus the Hamming loss.

    Where labels are rare it is high for who predicts none.
    """

    tasks: ClassVar[tuple[str, ...]] = _MULTILABEL
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The share of an example's labels, `[R, N, L]` to `[R, N]`."""
        return or_nan(_right(prediction, target).to(wide(prediction).dtype).mean(-1), finite(prediction))
