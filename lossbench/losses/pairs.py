"""Losses on distances between the embeddings of a batch: those of one class near, those of two classes apart."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, one_axis_less
from lossbench.losses.embedding import cosines
from lossbench.types import Encoding, Head, Space
from lossbench.validation import check_between, check_choice, check_positive


class Mining(StrEnum):
    """Which triplets of a batch count."""

    ALL = "all"  # every anchor with each of its class and each of another
    HARD = "hard"  # every anchor with the farthest of its class and the nearest of another


def checked(prediction: Tensor, target: Tensor) -> Tensor:
    """The embeddings `[..., B, E]`, no narrower than float32, once there is one class index for each."""
    one_axis_less(prediction, target)
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))


def pairs_of(target: Tensor) -> tuple[Tensor, Tensor]:
    """Which ordered pairs of a batch are of one class, and which of two: `[..., B]` to twice `[..., B, B]`."""
    same = target.unsqueeze(-1) == target.unsqueeze(-2)
    itself = torch.eye(target.shape[-1], dtype=torch.bool, device=target.device)
    return same & ~itself, ~same


def mean_of(values: Tensor, kept: Tensor) -> Tensor:
    """The mean over the last two axes of what is kept, and 0 if nothing is; both axes stay, for fields."""
    total = torch.where(kept, values, 0).sum((-2, -1), keepdim=True)
    return total / kept.sum((-2, -1), keepdim=True).clamp_min(1)


def _distances(embedding: Tensor) -> Tensor:
    # without matrix products, which lose all digits of small distances; the gradient at a distance of 0 is 0
    return torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class Contrastive(Loss):
    r"""Squared distance within a class, and what two classes lack of a margin, squared.

    .. math:: \ell = \frac{1}{n}\sum_{i < j}\tfrac12\left(y_{ij}\,d_{ij}^2 + (1 - y_{ij})\max(0, m - d_{ij})^2\right),
        \quad d_{ij} = \|x_i - x_j\|

    over all n pairs of a batch; y is 1 for two of one class (similar) and 0 for two of different classes.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; margin m in units of the embedding.
    Returns ``[...]``, one value per batch, and 0 for a single example. Raises `InvalidValue` if the shapes do not fit
    or margin is not positive.
    Reference: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006,
    https://doi.org/10.1109/CVPR.2006.100
    """

    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = ("pytorch_metric_learning.losses.ContrastiveLoss", "tfa.losses.ContrastiveLoss", "siamese loss")
    use_when = "examples of one class should fall on one point, and distances mean something in themselves"
    beware = "y is 1 for similar pairs here; many take 1 for different ones. It is no binary cross-entropy on distances"
    convex = False
    bounded = False
    robust = False
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        distance = _distances(checked(prediction, target))
        alike, different = pairs_of(target)
        losses = torch.where(alike, distance.square(), (self.margin - distance).relu().square())
        return (mean_of(losses, alike | different) / 2).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class CosineEmbedding(Loss):
    r"""One minus the cosine within a class, and the cosine above a margin between two.

    .. math:: \ell = \frac{1}{n}\sum_{i < j}\begin{cases}1 - \cos(x_i, x_j) & \text{one class}\\
        \max(0, \cos(x_i, x_j) - m) & \text{two classes}\end{cases}

    over all n pairs of a batch.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; margin m, a cosine. Returns ``[...]``,
    one value per batch in [0, 2], and 0 for a single example. Raises `InvalidValue` if the shapes do not fit or margin
    is not in (-1, 1).
    Reference: torch.nn.CosineEmbeddingLoss,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineEmbeddingLoss.html
    """

    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = (
        "torch.nn.CosineEmbeddingLoss, which takes pairs with 1 and -1",
        "optax.losses.cosine_distance, of pairs of one class",
    )
    use_when = "embeddings will be compared by their direction, and one class may fill one direction"
    beware = "torch's takes pairs with 1 and -1, and 0 and 1 without a word; here pairs come from classes"
    convex = False
    bounded = True
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_between(self, -1, 1, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        embedding = checked(prediction, target)
        cosine = cosines(embedding, embedding)
        alike, different = pairs_of(target)
        losses = torch.where(alike, 1 - cosine, (cosine - self.margin).relu())
        return mean_of(losses, alike | different).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class HingeEmbedding(Loss):
    r"""Distance within a class, and what two classes lack of a margin.

    .. math:: \ell = \frac{1}{n}\sum_{i < j}\begin{cases}d_{ij} & \text{one class}\\
        \max(0, m - d_{ij}) & \text{two classes}\end{cases}, \quad d_{ij} = \|x_i - x_j\|

    over all n pairs of a batch: `contrastive` without the squares.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; margin m in units of the embedding.
    Returns ``[...]``, one value per batch, and 0 for a single example. Raises `InvalidValue` if the shapes do not fit
    or margin is not positive.
    Reference: torch.nn.HingeEmbeddingLoss,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.HingeEmbeddingLoss.html
    """

    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = ("torch.nn.HingeEmbeddingLoss, given distances",)
    use_when = "some labels are wrong, so that far pairs of one class should not dominate as in contrastive"
    beware = "torch's takes distances, not embeddings, with 1 and -1; given 0 for different it forgets the margin term"
    convex = False
    bounded = False
    robust = True
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        distance = _distances(checked(prediction, target))
        alike, different = pairs_of(target)
        losses = torch.where(alike, distance, (self.margin - distance).relu())
        return mean_of(losses, alike | different).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class Triplet(Loss):
    r"""What an anchor's distance to another class lacks of exceeding that to its own class by a margin.

    .. math:: \ell = \frac{1}{n}\sum_{(a, p, n)}\max(0,\; d_{ap} - d_{an} + m), \quad d_{ij} = \|x_i - x_j\|

    p is of the anchor's class and n of another. Over all such triplets of a batch (mining=all), or one per anchor, with
    the farthest p and the nearest n (mining=hard).

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; margin m in units of the embedding.
    Returns ``[...]``, one value per batch, and 0 if it holds no triplet. Takes memory for B³ numbers with mining=all.
    Raises `InvalidValue` if the shapes do not fit, margin is not positive or mining is unknown.
    Reference: Schroff, Kalenichenko and Philbin, FaceNet: A Unified Embedding for Face Recognition and Clustering,
    2015, https://arxiv.org/abs/1503.03832 (with squared distances); Hermans, Beyer and Leibe, In Defense of the Triplet
    Loss for Person Re-Identification, 2017, https://arxiv.org/abs/1703.07737 (batch all, batch hard)
    """

    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    coupled = True
    known_as = (
        "torch.nn.TripletMarginLoss, which takes triplets that are made already",
        "optax.losses.triplet_margin_loss",
        "batch-all and batch-hard triplets",
    )
    use_when = "only which of two is nearer counts, and a class may have several looks"
    beware = "with mining=hard wrong labels are the hardest, and all embeddings may fall on one point, where it is m"
    convex = False
    bounded = False
    robust = True
    margin: float = 1.0
    mining: Mining = Mining.ALL

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)
        check_choice(self, list(Mining), mining=self.mining)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        distance = _distances(checked(prediction, target))
        alike, different = pairs_of(target)
        margin = torch.zeros_like(distance[..., :1, :1]) + self.margin
        return (_hardest if self.mining == Mining.HARD else _all)(distance, alike, different, margin)


def _all(distance: Tensor, alike: Tensor, different: Tensor, margin: Tensor) -> Tensor:
    # what is no triplet lacks nothing
    near = torch.where(alike, distance + margin, -torch.inf)
    far = torch.where(different, distance, torch.inf)
    lacking = (near.unsqueeze(-1) - far.unsqueeze(-2)).relu()  # [..., a, p, n]
    n_triplets = (alike.sum(-1) * different.sum(-1)).sum(-1)
    return lacking.sum((-3, -2, -1)) / n_triplets.clamp_min(1)


def _hardest(distance: Tensor, alike: Tensor, different: Tensor, margin: Tensor) -> Tensor:
    farthest = torch.where(alike, distance, 0).amax(-1, keepdim=True)
    nearest = torch.where(different, distance, torch.inf).amin(-1, keepdim=True)
    anchors = alike.any(-1, keepdim=True) & different.any(-1, keepdim=True)
    return mean_of((farthest - nearest + margin).relu(), anchors).squeeze(-1).squeeze(-1)
