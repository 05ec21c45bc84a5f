"""Losses on pairs of a ranking: which of two items is to come first, given as such or by a list's grades."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, any_of, same_shape
from lossbench.types import PADDING, Encoding, Space
from lossbench.validation import check_nonnegative, check_positive


def checked(prediction: Tensor, target: Tensor) -> Tensor:
    """Which items a list really has, after a look at shapes and grades."""
    same_shape(prediction, target)
    present = target != PADDING
    if any_of(present & ~(target >= 0)):
        raise InvalidValue(
            f"Relevance must be 0 or more, and {PADDING} where a list has no item. Got {target[present].min():g}."
        )
    return present


def ordered(target: Tensor, present: Tensor) -> Tensor:
    """Pairs of which the first is the more relevant: `[..., N, N]`."""
    return (target.unsqueeze(-1) > target.unsqueeze(-2)) & present.unsqueeze(-1) & present.unsqueeze(-2)


def leads(prediction: Tensor) -> Tensor:
    """How far each item's score is above each other's: `[..., N, N]`."""
    return prediction.unsqueeze(-1) - prediction.unsqueeze(-2)


def _mean_of(values: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, values, 0).sum((-2, -1)) / kept.sum((-2, -1)).clamp_min(1)


@dataclass(frozen=True)
class MarginRanking(Loss):
    r"""What the score of the item that is to come first lacks of leading the other's by a margin.

    .. math:: \ell = \max(0, -y\,(s_1 - s_2) + m)

    prediction s: ``[..., 2]``, the scores of two items; target y: ``[...]``, 1 if the first is to come first and -1 if
    the second. Returns ``[...]``. Raises `InvalidValue` if the shapes do not fit, a target is neither 1 nor -1 (0
    gives the constant m elsewhere, without a gradient or a word), or margin is negative.
    Reference: torch.nn.MarginRankingLoss, https://docs.pytorch.org/docs/stable/generated/torch.nn.MarginRankingLoss.html
    """

    family = "ranking"
    tasks = ("ranking",)
    space = Space.PAIR_SCORE
    encoding = Encoding.ORDER
    known_as = ("torch.nn.MarginRankingLoss, margin 0 by default",)
    use_when = "what is known is which of two comes first, as from people's choices"
    beware = "with a margin of 0, torch's default, equal scores for everything cost nothing"
    convex = True
    bounded = False
    robust = True
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per pair."""
        if prediction.shape != (*target.shape, 2):
            raise InvalidValue(
                f"prediction must hold two scores per target, shape {[*target.shape, 2]} for targets "
                f"{list(target.shape)}. Got {list(prediction.shape)}."
            )
        if any_of(target.abs() != 1):
            raise InvalidValue(
                "target must be 1 where the first of two items is to come first, and -1 where the second is. "
                f"Got {target[target.abs() != 1][0].item():g}."
            )
        lead = prediction[..., :1] - prediction[..., 1:]
        return (self.margin - target.unsqueeze(-1) * lead).relu().squeeze(-1)


@dataclass(frozen=True)
class PairwiseHinge(Loss):
    r"""What more relevant items lack of leading less relevant ones by a margin, over all pairs of a list.

    .. math:: \ell = \frac{1}{n}\sum_{i, j: y_i > y_j}\max(0, m - s_i + s_j)

    `margin_ranking` of the n pairs that a list's grades order.

    prediction, target: ``[..., N]``, scores and grades from 0, with -1 where the list has no item. Returns ``[...]``,
    and 0 where no two grades differ. Raises `InvalidValue` if the shapes differ, a grade is negative or margin is not
    positive.
    Reference: Joachims, Optimizing Search Engines Using Clickthrough Data, 2002,
    https://doi.org/10.1145/775047.775067
    """

    family = "ranking"
    tasks = ("ranking",)
    space = Space.LIST_SCORE
    encoding = Encoding.RELEVANCE
    known_as = ("rax.pairwise_hinge_loss", "ranking support vector machine loss", "RankSVM")
    use_when = "pairs that are in order already should be left alone"
    beware = "a pair at the bottom of the list counts as much as one at the top"
    convex = True
    bounded = False
    robust = True
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per list."""
        present = checked(prediction, target)
        margin = (torch.zeros_like(prediction[..., :1]) + self.margin).unsqueeze(-1)
        return _mean_of((margin - leads(prediction)).relu(), ordered(target, present))


@dataclass(frozen=True)
class RankNet(Loss):
    r"""The log loss of each pair's order, its log-odds being the difference of scores.

    .. math:: \ell = \frac{1}{n}\sum_{i, j: y_i > y_j}\log\left(1 + e^{-(s_i - s_j)}\right)

    The mean over the n pairs of a list that its grades order, so that long lists count no more than short ones.

    prediction, target: ``[..., N]``, scores and grades from 0, with -1 where the list has no item. Returns ``[...]``,
    in nats, and 0 where no two grades differ. Raises `InvalidValue` if the shapes differ or a grade is negative.
    Reference: Burges et al., Learning to Rank using Gradient Descent, 2005, https://doi.org/10.1145/1102351.1102363
    """

    name = "ranknet"
    family = "ranking"
    tasks = ("ranking",)
    space = Space.LIST_SCORE
    encoding = Encoding.RELEVANCE
    known_as = ("rax.pairwise_logistic_loss", "pairwise logistic loss", "Bradley-Terry loss", "reward model loss")
    use_when = "the default: every pair in order, however far down the list"
    beware = "it counts pairs, most of which are far down: the top of the list is better served by lambdarank"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per list."""
        present = checked(prediction, target)
        return _mean_of(-functional.logsigmoid(leads(prediction)), ordered(target, present))
