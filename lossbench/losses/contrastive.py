"""Losses on similarities between the embeddings of a batch, in which all other examples compete at once."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss
from lossbench.losses.embedding import cosines
from lossbench.losses.pairs import checked, mean_of, pairs_of
from lossbench.losses.terms import log_sum, softplus
from lossbench.types import Encoding, Head, Space
from lossbench.validation import check_between, check_nonnegative, check_positive


def _outvoted(similarity: Tensor, target: Tensor) -> Tensor:
    """-log of each positive pair's share against the anchor's negatives: the mean over those pairs, `[..., 1, 1]`."""
    alike, different = pairs_of(target)
    return mean_of(softplus(log_sum(similarity, different) - similarity), alike)


@dataclass(frozen=True)
class NTXent(Loss):
    r"""Each pair of one class must be found among the anchor's pairs with other classes (InfoNCE).

    .. math:: \ell = \frac{1}{n}\sum_{(i, p)} -\log\frac{e^{s_{ip}}}{e^{s_{ip}} + \sum_{k: y_k \ne y_i} e^{s_{ik}}},
        \quad s_{ij} = \cos(x_i, x_j) / \tau

    over all n ordered pairs of one class in a batch. With two views of each example (an index per example as target)
    it is SimCLR's loss; other positives of an anchor are left out of the sum, which is where `supcon` differs.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; temperature :math:`\tau`. Returns
    ``[...]``, one value per batch in nats, and 0 if it holds no pair of one class. Raises `InvalidValue` if the shapes
    do not fit or temperature is not positive.
    Reference: van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive Coding, 2018,
    https://arxiv.org/abs/1807.03748; Chen et al., A Simple Framework for Contrastive Learning of Visual
    Representations, 2020, https://arxiv.org/abs/2002.05709
    """

    name = "nt_xent"
    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = (
        "info_nce",
        "InfoNCE",
        "optax.losses.ntxent",
        "pytorch_metric_learning.losses.NTXentLoss",
        "SimCLR loss",
    )
    use_when = "pairs are known rather than classes: two views of an example, a question and its answer"
    beware = "its value grows with the logarithm of the batch size; low temperatures look at the hardest negatives only"
    convex = False
    bounded = True
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        embedding = checked(prediction, target)
        return _outvoted(cosines(embedding, embedding) / self.temperature, target).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class SupCon(Loss):
    r"""Supervised contrastive: all of an anchor's class must be found among all other examples of the batch.

    .. math:: \ell = \frac{1}{n}\sum_i \frac{1}{|P_i|}\sum_{p \in P_i}
        -\log\frac{e^{s_{ip}}}{\sum_{k \ne i} e^{s_{ik}}}, \quad s_{ij} = \cos(x_i, x_j) / \tau

    :math:`P_i` are the others of the anchor's class, and the mean is over the n anchors that have any. With one
    positive per anchor it is `nt_xent`. This is the authors' :math:`L_{out}`, without their factor of the temperature
    over 0.07.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; temperature :math:`\tau`. Returns
    ``[...]``, one value per batch in nats, and 0 if it holds no pair of one class. Raises `InvalidValue` if the shapes
    do not fit or temperature is not positive.
    Reference: Khosla et al., Supervised Contrastive Learning, 2020, https://arxiv.org/abs/2004.11362
    """

    name = "supcon"
    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = ("pytorch_metric_learning.losses.SupConLoss", "SupConLoss of github.com/HobbitLong/SupContrast")
    use_when = "classes are known, and batches hold several examples of each"
    beware = "its least value is not 0 but the logarithm of the number of positives, so batches are hard to compare"
    convex = False
    bounded = True
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        embedding = checked(prediction, target)
        similarity = cosines(embedding, embedding) / self.temperature
        alike, different = pairs_of(target)
        losses = log_sum(similarity, alike | different) - similarity
        n_positives = alike.sum(-1, keepdim=True)
        per_anchor = torch.where(alike, losses, 0).sum(-1, keepdim=True) / n_positives.clamp_min(1)
        return mean_of(per_anchor, n_positives > 0).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class MultiSimilarity(Loss):
    r"""The least similar of one class and the most similar of others, each gathered softly, for every anchor.

    .. math:: \ell = \frac{1}{B}\sum_i \frac{1}{\alpha}\log\Big(1 + \sum_{p} e^{-\alpha(s_{ip} - \lambda)}\Big) +
        \frac{1}{\beta}\log\Big(1 + \sum_{n} e^{\beta(s_{in} - \lambda)}\Big), \quad s_{ij} = \cos(x_i, x_j)

    over the others p of the anchor's class and all n of other classes. The authors first drop easy pairs (mining),
    which is left out here: their exponents do much the same.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; base :math:`\lambda`, a cosine. Returns
    ``[...]``, one value per batch, and 0 for a single example. Raises `InvalidValue` if the shapes do not fit, alpha or
    beta is not positive, or base is not in (-1, 1).
    Reference: Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, 2019,
    https://arxiv.org/abs/1904.06627
    """

    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = ("pytorch_metric_learning.losses.MultiSimilarityLoss",)
    use_when = "search by similarity: hard negatives should count most, without a rule that picks them"
    beware = "base is the cosine at which a pair is neither near nor far: classes cannot get closer than it allows"
    convex = False
    bounded = True
    alpha: float = 2.0
    beta: float = 50.0
    base: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self, alpha=self.alpha, beta=self.beta)
        check_between(self, -1, 1, base=self.base)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        embedding = checked(prediction, target)
        excess = cosines(embedding, embedding) - self.base
        alike, different = pairs_of(target)
        near = softplus(log_sum(-self.alpha * excess, alike)) / self.alpha
        far = softplus(log_sum(self.beta * excess, different)) / self.beta
        return (near + far).mean(-2).squeeze(-1)


@dataclass(frozen=True)
class Circle(Loss):
    r"""Pairs pulled by how far they are from their optimum, those of one class and of two against each other.

    .. math:: \ell = \frac{1}{n}\sum_i \log\Big(1 + \sum_{k} e^{\gamma a_{ik}(s_{ik} - m)}
        \sum_{p} e^{-\gamma a_{ip}(s_{ip} - 1 + m)}\Big), \quad s_{ij} = \cos(x_i, x_j)

    with the weights :math:`a_{ip} = \max(0, 1 + m - s_{ip})` for the others p of the anchor's class and
    :math:`a_{ik} = \max(0, s_{ik} + m)` for all k of other classes, which are held still in the gradient (Keras gives
    them one). The mean is over the n anchors that have both.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; margin m, a cosine. Returns ``[...]``,
    one value per batch, and 0 if no anchor has both. Raises `InvalidValue` if the shapes do not fit, gamma is not
    positive or margin is not in (-1, 1).
    Reference: Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, 2020,
    https://arxiv.org/abs/2002.10857
    """

    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = ("keras.losses.Circle", "pytorch_metric_learning.losses.CircleLoss")
    use_when = "pairs of one class and of two are learnt at different speed, as with few examples per class"
    beware = "a wide margin asks for little: the target of cosines of one class is 1 - m, and m between classes"
    convex = False
    bounded = True
    held_still: ClassVar = {}  # the weights
    gamma: float = 80.0
    margin: float = 0.4

    def __post_init__(self) -> None:
        check_positive(self, gamma=self.gamma)
        check_between(self, -1, 1, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        embedding = checked(prediction, target)
        cosine = cosines(embedding, embedding)
        fixed = cosine.detach()
        alike, different = pairs_of(target)
        near = -self.gamma * (1 + self.margin - fixed).relu() * (cosine - 1 + self.margin)
        far = self.gamma * (fixed + self.margin).relu() * (cosine - self.margin)
        both = alike.any(-1, keepdim=True) & different.any(-1, keepdim=True)
        losses = softplus(torch.where(both, log_sum(near, alike) + log_sum(far, different), 0))
        return mean_of(losses, both).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class NPair(Loss):
    r"""Each pair of one class must be found among the anchor's pairs with other classes, by inner products.

    .. math:: \ell = \frac{1}{n}\sum_{(i, p)}\log\Big(1 + \sum_{k: y_k \ne y_i} e^{x_i \cdot x_k - x_i \cdot x_p}\Big)
        + \frac{\lambda}{2B}\sum_i \|x_i\|^2

    over all n ordered pairs of one class in a batch (the author draws one pair of each class): `nt_xent` without
    normalisation or temperature, which a small cost of length stands in for.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; l2 :math:`\lambda`. Returns ``[...]``,
    one value per batch, and 0 if it holds no pair of one class. Raises `InvalidValue` if the shapes do not fit or l2
    is negative.
    Reference: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, 2016,
    https://papers.nips.cc/paper/2016/hash/6b180037abbebea991d8b1232f8a8ca9-Abstract.html
    """

    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = ("pytorch_metric_learning.losses.NPairsLoss", "tfa.losses.NpairsLoss", "multi-class N-pair loss")
    use_when = "the length of an embedding should mean something, as how sure it is"
    beware = "without l2 lengths grow without end: long embeddings make every right order surer"
    convex = False
    bounded = False
    robust = False
    l2: float = 0.002

    def __post_init__(self) -> None:
        check_nonnegative(self, l2=self.l2)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        embedding = checked(prediction, target)
        losses = _outvoted(embedding @ embedding.mT, target)
        length = embedding.square().sum(-1, keepdim=True).mean(-2, keepdim=True)
        paired = pairs_of(target)[0].any(-1, keepdim=True).any(-2, keepdim=True)
        return (losses + torch.where(paired, self.l2 / 2 * length, 0)).squeeze(-1).squeeze(-1)
