"""Losses of the order of a list, or of a pair: items of a query, ranked by score, against their grades of relevance."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, check_same_shape, is_set
from lossbench.losses.primitives import masked_logsumexp
from lossbench.types import PADDING, Encoding, Space
from lossbench.validation import check_nonnegative, check_positive


def _check_lists(prediction: Tensor, target: Tensor) -> Tensor:
    """Check shapes and grades, and return a mask of the items that a list has, `[..., N]`."""
    check_same_shape(prediction, target)
    present = target != PADDING
    if is_set(present & ~(target >= 0)):
        raise InvalidValue(
            f"Relevance must be 0 or more, and {PADDING} where a list has no item. Got {target[present].min():g}."
        )
    return present


def _find_ordered_pairs(target: Tensor, present: Tensor) -> Tensor:
    """Return a mask of the pairs of which the first is the more relevant, `[..., N, N]`."""
    return (target.unsqueeze(-1) > target.unsqueeze(-2)) & present.unsqueeze(-1) & present.unsqueeze(-2)


def _pairwise_differences(prediction: Tensor) -> Tensor:
    """Return each item's value minus each other's, `[..., N, N]`."""
    return prediction.unsqueeze(-1) - prediction.unsqueeze(-2)


def _masked_mean(values: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, values, 0).sum((-2, -1)) / kept.sum((-2, -1)).clamp_min(1)


@dataclass(frozen=True)
class MarginRanking(Loss):
    r"""The amount by which the item that is to come first fails to lead the other by a margin.

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
    aliases = ("torch.nn.MarginRankingLoss, margin 0 by default",)
    use_when = "what is known is which of two comes first, as from people's choices"
    pitfall = "with a margin of 0, torch's default, equal scores for everything cost nothing"
    convex = True
    bounded = False
    robust = True
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per pair."""
        if prediction.shape != (*target.shape, 2):
            raise InvalidValue(
                f"prediction must hold two scores per target, shape {[*target.shape, 2]} for targets "
                f"{list(target.shape)}. Got {list(prediction.shape)}."
            )
        if is_set(target.abs() != 1):
            raise InvalidValue(
                "target must be 1 where the first of two items is to come first, and -1 where the second is. "
                f"Got {target[target.abs() != 1][0].item():g}."
            )
        lead = prediction[..., :1] - prediction[..., 1:]  # s_1 - s_2, [..., 1]
        return (self.margin - target.unsqueeze(-1) * lead).relu().squeeze(-1)


@dataclass(frozen=True)
class PairwiseHinge(Loss):
    r"""The amount by which more relevant items fail to lead less relevant ones by a margin, over all pairs of a list.

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
    aliases = ("rax.pairwise_hinge_loss", "ranking support vector machine loss", "RankSVM")
    use_when = "pairs that are in order already should be left alone"
    pitfall = "a pair at the bottom of the list counts as much as one at the top"
    convex = True
    bounded = False
    robust = True
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per list."""
        present = _check_lists(prediction, target)
        margin = (torch.zeros_like(prediction[..., :1]) + self.margin).unsqueeze(-1)  # [..., 1, 1]
        return _masked_mean((margin - _pairwise_differences(prediction)).relu(), _find_ordered_pairs(target, present))


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
    aliases = ("rax.pairwise_logistic_loss", "pairwise logistic loss", "Bradley-Terry loss", "reward model loss")
    use_when = "the default: every pair in order, however far down the list"
    pitfall = "it counts pairs, most of which are far down: the top of the list is better served by lambdarank"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per list."""
        present = _check_lists(prediction, target)
        # log(1 + e^-x) = -log sigmoid(x)
        losses = -functional.logsigmoid(_pairwise_differences(prediction))  # [..., N, N]
        return _masked_mean(losses, _find_ordered_pairs(target, present))


def _widen(prediction: Tensor) -> Tensor:
    # half precision has no ranks above 256
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))


def _normalise_gains(target: Tensor, present: Tensor) -> Tensor:
    """Return the gains 2^y - 1 as shares of the list's ideal DCG, `[..., N]`; 0 where nothing is relevant."""
    gain = torch.where(present, target, 0).exp2() - 1
    # the ideal order is by gain; the item at place k, from 0, counts 1 / log2(k + 2)
    place = torch.arange(target.shape[-1], device=target.device, dtype=gain.dtype)
    ideal = (gain.sort(-1, descending=True).values / (place + 2).log2()).sum(-1, keepdim=True)
    return gain / torch.where(ideal > 0, ideal, 1)


@dataclass(frozen=True)
class ListNet(Loss):
    r"""Cross-entropy between the chances that grades and scores give each item of coming first.

    .. math:: \ell = -\sum_i \text{softmax}(y)_i \log\text{softmax}(s)_i

    prediction, target: ``[..., N]``, scores and grades from 0, with -1 where the list has no item. Returns ``[...]``,
    in nats, and 0 for a list without items. Raises `InvalidValue` if the shapes differ or a grade is negative.
    Reference: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007,
    https://doi.org/10.1145/1273496.1273513
    """

    name = "listnet"
    family = "ranking"
    tasks = ("ranking",)
    space = Space.LIST_SCORE
    encoding = Encoding.RELEVANCE
    aliases = ("rax.softmax_loss(labels=softmax(labels))", "top-one ListNet", "listwise softmax cross-entropy")
    use_when = "grades are on a scale that means something, and lists are short"
    pitfall = "scores learn the differences of grades; optax.losses.ranking_softmax_loss takes no softmax of them"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per list."""
        present = _check_lists(prediction, target)
        lowest = torch.finfo(prediction.dtype).min
        # absent items get the lowest number, and so the probability 0
        expected = torch.where(present, target.to(prediction.dtype), lowest).softmax(-1)
        logs = torch.where(present, prediction, lowest).log_softmax(-1)
        return -torch.where(present, expected * logs, 0).sum(-1)


@dataclass(frozen=True)
class ListMLE(Loss):
    r"""The negative log likelihood of the right order, drawn item by item without replacement (Plackett-Luce).

    .. math:: \ell = -\sum_i \log\frac{e^{s_i}}{\sum_{j: y_j \le y_i} e^{s_j}}

    Equal grades have no order: such items stand in each other's sum (Breslow's way with ties), where others draw an
    order by chance.

    prediction, target: ``[..., N]``, scores and grades from 0, with -1 where the list has no item. Returns ``[...]``,
    in nats per list, and 0 for a list without items. Raises `InvalidValue` if the shapes differ or a grade is negative.
    Reference: Xia et al., Listwise Approach to Learning to Rank: Theory and Algorithm, 2008,
    https://doi.org/10.1145/1390156.1390306
    """

    name = "listmle"
    family = "ranking"
    tasks = ("ranking",)
    space = Space.LIST_SCORE
    encoding = Encoding.RELEVANCE
    aliases = ("rax.listmle_loss", "Plackett-Luce likelihood")
    use_when = "the whole order of a list is known, without ties"
    pitfall = "it sums over a list, so long ones count more, and with few grades most of it is about ties at the bottom"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per list."""
        present = _check_lists(prediction, target)
        # [..., i, j]: item j is left when i is drawn
        below = (target.unsqueeze(-1) >= target.unsqueeze(-2)) & present.unsqueeze(-2)
        # -log(e^s_i / sum_left e^s_j) = log sum_left e^s_j - s_i
        left = masked_logsumexp(prediction.unsqueeze(-2).expand(below.shape), below).squeeze(-1)
        return torch.where(present, left - prediction, 0).sum(-1)


@dataclass(frozen=True)
class LambdaRank(Loss):
    r"""The log loss of each pair's order, weighed by how much NDCG would change if the two were swapped.

    .. math:: \ell = \sum_{i, j: y_i > y_j}|\Delta_{ij}|\,\log\left(1 + e^{-(s_i - s_j)}\right), \quad
        \Delta_{ij} = \frac{2^{y_i} - 2^{y_j}}{\text{IDCG}}
        \Big(\frac{1}{\log_2(1 + r_i)} - \frac{1}{\log_2(1 + r_j)}\Big)

    r are the ranks by the present scores, from 1, and held still. A bound on what NDCG lacks of 1, up to a factor.

    prediction, target: ``[..., N]``, scores and grades from 0, with -1 where the list has no item. Returns ``[...]``,
    and 0 where no two grades differ. Raises `InvalidValue` if the shapes differ or a grade is negative.
    Reference: Burges, From RankNet to LambdaRank to LambdaMART: An Overview, 2010,
    https://www.microsoft.com/en-us/research/publication/from-ranknet-to-lambdarank-to-lambdamart-an-overview/; Wang et
    al., The LambdaLoss Framework for Ranking Metric Optimization, 2018, https://doi.org/10.1145/3269206.3271784
    """

    name = "lambdarank"
    family = "ranking"
    tasks = ("ranking",)
    space = Space.LIST_SCORE
    encoding = Encoding.RELEVANCE
    aliases = (
        "lightgbm objective=lambdarank",
        "rax.pairwise_logistic_loss(lambdaweight_fn=...)",
        "xgboost rank:ndcg",
    )
    use_when = "the top of the list counts (NDCG)"
    pitfall = "its value jumps whenever two items change places, so it is no measure of progress"
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per list."""
        present = _check_lists(prediction, target)
        prediction = _widen(prediction)
        gain = _normalise_gains(target.to(prediction.dtype), present)
        # the change of NDCG by swapping i and j: the difference of gains times that of discounts
        discount = 1 / (_rank_items(prediction.detach(), present) + 1).log2()
        change = (_pairwise_differences(gain) * _pairwise_differences(discount)).abs()
        losses = -functional.logsigmoid(_pairwise_differences(prediction)) * change
        return torch.where(_find_ordered_pairs(target, present), losses, 0).sum((-2, -1))


def _rank_items(scores: Tensor, present: Tensor) -> Tensor:
    """Return each item's rank from 1, equal scores in the list's order, absent items last."""
    order = torch.argsort(torch.where(present, scores, -torch.inf), dim=-1, descending=True, stable=True)
    # the argsort of an order is the rank
    return order.argsort(-1).to(scores.dtype) + 1


@dataclass(frozen=True)
class ApproxNDCG(Loss):
    r"""One minus NDCG, with ranks that change smoothly.

    .. math:: \ell = 1 - \frac{1}{\text{IDCG}}\sum_i \frac{2^{y_i} - 1}{\log_2(1 + \hat r_i)}, \quad
        \hat r_i = 1 + \sum_{j \ne i}\sigma\big((s_j - s_i) / \tau\big)

    As the temperature :math:`\tau` goes to 0 it becomes one minus NDCG itself.

    prediction, target: ``[..., N]``, scores and grades from 0, with -1 where the list has no item. Returns ``[...]`` in
    [0, 1], and 0 where nothing is relevant. Raises `InvalidValue` if the shapes differ, a grade is negative or
    temperature is not positive.
    Reference: Qin, Liu and Li, A General Approximation Framework for Direct Optimization of Information Retrieval
    Measures, 2010, https://doi.org/10.1007/s10791-009-9124-x
    """

    name = "approx_ndcg"
    family = "ranking"
    tasks = ("ranking",)
    space = Space.LIST_SCORE
    encoding = Encoding.RELEVANCE
    aliases = ("rax.approx_t12n(rax.ndcg_metric)", "ApproxNDCGLoss of TensorFlow Ranking")
    use_when = "NDCG is the metric, and a value that can be read is wanted"
    pitfall = "no gradient where scores are far apart against the temperature, so large first weights leave it stuck"
    convex = False
    bounded = True
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per list."""
        present = _check_lists(prediction, target)
        prediction = _widen(prediction)
        gain = _normalise_gains(target.to(prediction.dtype), present)
        temperature = (torch.zeros_like(prediction[..., :1]) + self.temperature).unsqueeze(-1)
        # [..., i, j]: the share to which j is above i; i is half above itself, so that 0.5 more makes ranks from 1 on
        above = (-_pairwise_differences(prediction) / temperature).sigmoid()
        rank = torch.where(present.unsqueeze(-2), above, 0).sum(-1) + 0.5
        # a list that holds nothing relevant has no gain, and then costs nothing
        return gain.sign().amax(-1) - (gain / (1 + rank).log2()).sum(-1)
