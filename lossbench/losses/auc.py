"""Losses on pairs of a positive and a negative example."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, same_shape
from lossbench.losses.terms import mean
from lossbench.types import Encoding, Space
from lossbench.validation import check_positive


@dataclass(frozen=True)
class AUCMargin(Loss):
    r"""What positives lack of leading negatives by the margin, squared, over all pairs of a batch.

    .. math:: \ell = \frac{1}{n_+ n_-}\sum_{i: y_i = 1}\,\sum_{j: y_j = -1}\max(0, m - s_i + s_j)^2

    A smooth bound on one minus the area under the ROC curve. 0, with no gradient, for a label of which the batch holds
    one class only.

    prediction, target: ``[..., B, L]``, scores and -1 or 1. Returns ``[...]``, one value per batch: the mean over L.
    Raises `InvalidValue` if the shapes differ or margin is not positive.
    Reference: Gao and Zhou, On the Consistency of AUC Pairwise Optimization, 2015, https://arxiv.org/abs/1208.0645
    """

    family = "imbalance"
    tasks = ("binary", "multilabel")
    space = Space.SCORE
    encoding = Encoding.SIGNED
    coupled = True
    known_as = ("pairwise squared hinge", "libauc.losses.PairwiseAUCLoss, by default", "AUC maximisation")
    use_when = "the order of scores counts (auroc), and classes are imbalanced"
    beware = "it sets no threshold: accuracy at 0 means little. libauc's AUCMLoss is a min-max form with other optima"
    convex = True
    bounded = False
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        same_shape(prediction, target)
        scores, positive = prediction.mT, (target > 0).mT  # [..., L, B]
        # infinitely far ahead: what is no pair lacks nothing
        above = torch.where(positive, scores - self.margin, torch.inf)
        below = torch.where(positive, -torch.inf, scores)
        lacking = (below.unsqueeze(-2) - above.unsqueeze(-1)).relu().square()  # [..., L, B, B]
        n_pairs = positive.sum(-1) * (~positive).sum(-1)
        return mean(lacking.sum((-2, -1)) / n_pairs.clamp_min(1))
