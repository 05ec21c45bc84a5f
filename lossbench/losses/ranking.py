"""Losses on the order of a whole list: items of a query, ranked by score, against their grades of relevance."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import Loss
from lossbench.losses.ranking_pairs import checked, leads, ordered
from lossbench.losses.terms import log_sum
from lossbench.types import Encoding, Space
from lossbench.validation import check_positive


def _wide(prediction: Tensor) -> Tensor:
    # half precision has no ranks above 256
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))


def _gains(target: Tensor, present: Tensor) -> Tensor:
    """What an item of each grade is worth, 2^y - 1, as a share of the list's ideal DCG; 0 where nothing is relevant."""
    gain = torch.where(present, target, 0).exp2() - 1
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
    known_as = ("rax.softmax_loss(labels=softmax(labels))", "top-one ListNet", "listwise softmax cross-entropy")
    use_when = "grades are on a scale that means something, and lists are short"
    beware = "scores learn the differences of grades; optax.losses.ranking_softmax_loss takes no softmax of them"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per list."""
        present = checked(prediction, target)
        lowest = torch.finfo(prediction.dtype).min
        wanted = torch.where(present, target.to(prediction.dtype), lowest).softmax(-1)
        logs = torch.where(present, prediction, lowest).log_softmax(-1)
        return -torch.where(present, wanted * logs, 0).sum(-1)


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
    known_as = ("rax.listmle_loss", "Plackett-Luce likelihood")
    use_when = "the whole order of a list is known, without ties"
    beware = "it sums over a list, so long ones count more, and with few grades most of it is about ties at the bottom"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per list."""
        present = checked(prediction, target)
        below = (target.unsqueeze(-1) >= target.unsqueeze(-2)) & present.unsqueeze(-2)  # [..., i, j]
        left = log_sum(prediction.unsqueeze(-2).expand(below.shape), below).squeeze(-1)
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
    known_as = (
        "lightgbm objective=lambdarank",
        "rax.pairwise_logistic_loss(lambdaweight_fn=...)",
        "xgboost rank:ndcg",
    )
    use_when = "the top of the list counts (NDCG)"
    beware = "its value jumps whenever two items change places, so it is no measure of progress"
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per list."""
        present = checked(prediction, target)
        prediction = _wide(prediction)
        gain = _gains(target.to(prediction.dtype), present)
        worth = 1 / (_ranks(prediction.detach(), present) + 1).log2()
        change = (leads(gain) * leads(worth)).abs()
        losses = -functional.logsigmoid(leads(prediction)) * change
        return torch.where(ordered(target, present), losses, 0).sum((-2, -1))


def _ranks(scores: Tensor, present: Tensor) -> Tensor:
    """Each item's place from 1, equal scores in the order given, what is not there last."""
    order = torch.argsort(torch.where(present, scores, -torch.inf), dim=-1, descending=True, stable=True)
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
    known_as = ("rax.approx_t12n(rax.ndcg_metric)", "ApproxNDCGLoss of TensorFlow Ranking")
    use_when = "NDCG is the metric, and a value that can be read is wanted"
    beware = "no gradient where scores are far apart against the temperature, so large first weights leave it stuck"
    convex = False
    bounded = True
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per list."""
        present = checked(prediction, target)
        prediction = _wide(prediction)
        gain = _gains(target.to(prediction.dtype), present)
        temperature = (torch.zeros_like(prediction[..., :1]) + self.temperature).unsqueeze(-1)
        above = (-leads(prediction) / temperature).sigmoid()  # of i: how far j is above it
        rank = torch.where(present.unsqueeze(-2), above, 0).sum(-1) + 0.5  # i is half above itself
        # a list that holds nothing relevant has no gain, and then costs nothing
        return gain.sign().amax(-1) - (gain / (1 + rank).log2()).sum(-1)
