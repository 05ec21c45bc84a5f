"""Losses of embeddings: against trainable class vectors, on pairs and triplets of a batch, and on all of it at once."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, check_index_shape
from lossbench.losses.primitives import log_likelihood, masked_logsumexp, pick_target, softplus
from lossbench.types import EMBEDDING_WIDTH, Encoding, Head, Problem, Requirement, Space
from lossbench.validation import (
    check_below_one,
    check_between,
    check_choice,
    check_nonnegative,
    check_positive,
    check_switch,
)

SHORTEST = 1e-4
"""A shorter vector is divided by this: the gradient of a direction is 1 / length, torch's default 1e12 at zero."""
NORM_MOMENTUM = 0.01
"""Weight of the newest batch in adaface's running mean and deviation of norms, as in the authors' code."""
NORM_EPS = 1e-3
"""Added to the deviation of lengths, as by AdaFace's authors."""
NORMS = (1e-3, 100.0)
"""Limits to which adaface clips the norms of embeddings."""


def _cosines(embedding: Tensor, weight: Tensor) -> Tensor:
    """Cosines between embeddings `[..., B, E]` and class vectors `[..., C, E]`: `[..., B, C]`."""
    return functional.normalize(embedding, dim=-1, eps=SHORTEST) @ functional.normalize(weight, dim=-1, eps=SHORTEST).mT


def _draw_class_vectors(problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw class vectors of random directions and a length of about one: `[C, E]`, called weight."""
    drawn = torch.randn(problem.n_outputs, EMBEDDING_WIDTH, generator=generator)
    return {"weight": drawn / math.sqrt(EMBEDDING_WIDTH)}


def _angle(cosine: Tensor) -> Tensor:
    """Return the angle in float32 or wider, whose gradient is finite everywhere."""
    # the gradient of acos is infinite at 1 and -1: no nearer than 8 roundings, which is 0.1 degrees in float32
    wide = cosine.to(torch.promote_types(cosine.dtype, torch.float32))
    edge = 1 - 8 * torch.finfo(wide.dtype).eps
    return wide.clamp(-edge, edge).acos()


def _add_angular_margin(cosine: Tensor, margin: Tensor) -> Tensor:
    """Return the cosine of an angle enlarged by a margin in radians; past pi it goes on falling as a straight line."""
    angle = _angle(cosine)
    return torch.where(angle + margin <= math.pi, (angle + margin).cos(), cosine - margin * margin.sin())


def _replace_target(cosine: Tensor, lowered: Tensor, target: Tensor) -> Tensor:
    """Return the cosines, `[..., B, C]`, with `lowered` in the target's place."""
    is_target = torch.arange(cosine.shape[-1], device=target.device) == target.unsqueeze(-1)
    return torch.where(is_target, lowered, cosine)


@dataclass(frozen=True)
class ArcFace(Loss):
    r"""Cross-entropy on scaled cosines, the angle to the target class being enlarged by a margin.

    .. math:: \ell = -\log\text{softmax}(s\,\cos(\theta_c + m [c = y]))_y, \quad
        \cos\theta_c = \frac{x \cdot w_c}{\|x\| \|w_c\|}

    Where :math:`\theta_y + m` would pass :math:`\pi` it is :math:`\cos\theta_y - m \sin m`, as in the authors' code, so
    that it goes on falling.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; parameters: ``weight`` ``[..., C, E]``;
    margin in radians. Returns ``[..., B]``, in nats. Raises `InvalidValue` if the shapes do not fit, scale is not
    positive or margin is not in [0, pi/2).

    The scale bounds how sure a model can be: the probability p of one of C classes needs
    :math:`s \ge \frac{C-1}{C}\log\frac{(C-1)p}{1-p}` (Wang et al. 2018). 16 gives 0.999 for up to 8,900
    classes; the papers' 64 is for millions of faces, and in small problems saturates at once.
    Reference: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019,
    https://arxiv.org/abs/1801.07698
    """

    name = "arcface"
    family = "embedding"
    tasks = ("multiclass", "embedding")
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    requires = (Requirement.PARAMETERS,)
    aliases = ("pytorch_metric_learning.losses.ArcFaceLoss, whose margin is in degrees", "additive angular margin")
    use_when = "the embedding will be used to compare examples, or classes are many"
    pitfall = "its scores lie within the scale, so probabilities are not calibrated; it overfits wrong labels"
    scale: float = 16.0
    margin: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)
        if self.margin != 0:
            check_between(self, 0, math.pi / 2, margin=self.margin)

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw class vectors of random directions and a length of about one: `[C, E]`."""
        return _draw_class_vectors(problem, generator)

    def score_classes(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Return scaled cosines without the margin, `[..., B, C]`."""
        return self.scale * _cosines(prediction, parameters["weight"])

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor]) -> Tensor:
        """Return one value per example."""
        cosine = _cosines(prediction, parameters["weight"])
        target_cosine = pick_target(cosine, target)  # [..., B, 1]
        lowered = _add_angular_margin(target_cosine, torch.zeros_like(target_cosine) + self.margin)
        return -log_likelihood(self.scale * _replace_target(cosine, lowered, target), target).squeeze(-1)


def _lengths(embedding: Tensor) -> Tensor:
    """Return the lengths `[..., B, 1]` in float32 or wider; the gradient at a length of 0 is 0."""
    wide = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
    return torch.linalg.vector_norm(wide, dim=-1, keepdim=True)


@dataclass(frozen=True)
class CosFace(Loss):
    r"""Cross-entropy on scaled cosines, the target's being lowered by a margin.

    .. math:: \ell = -\log\text{softmax}(s\,(\cos\theta_c - m\,[c = y]))_y, \quad
        \cos\theta_c = \frac{x \cdot w_c}{\|x\| \|w_c\|}

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; parameters: ``weight`` ``[..., C, E]``;
    margin m, a cosine. Returns ``[..., B]``, in nats. Raises `InvalidValue` if the shapes do not fit, scale is not
    positive or margin is not in [0, 1). `arcface` says how large the scale must be.
    Reference: Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018,
    https://arxiv.org/abs/1801.09414
    """

    name = "cosface"
    family = "embedding"
    tasks = ("multiclass", "embedding")
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    requires = (Requirement.PARAMETERS,)
    aliases = ("pytorch_metric_learning.losses.CosFaceLoss", "large margin cosine loss", "AM-Softmax")
    use_when = "as arcface, with a margin that is easier to learn at the start"
    pitfall = "its scores lie within the scale, so probabilities are not calibrated; it overfits wrong labels"
    convex = False
    bounded = True
    scale: float = 16.0
    margin: float = 0.35

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)
        check_below_one(self, margin=self.margin)

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw class vectors of random directions and a length of about one: `[C, E]`."""
        return _draw_class_vectors(problem, generator)

    def score_classes(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Return scaled cosines without the margin, `[..., B, C]`."""
        return self.scale * _cosines(prediction, parameters["weight"])

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor]) -> Tensor:
        """Return one value per example."""
        cosine = _cosines(prediction, parameters["weight"])
        lowered = pick_target(cosine, target) - self.margin
        return -log_likelihood(self.scale * _replace_target(cosine, lowered, target), target).squeeze(-1)


@dataclass(frozen=True)
class MagFace(Loss):
    r"""ArcFace with a margin that grows with the embedding's length, and a cost of being short.

    .. math:: \ell = \text{arcface}(m(a)) + \lambda\Big(\frac{a}{u^2} + \frac{1}{a}\Big), \quad
        m(a) = m_l + (m_u - m_l)\frac{a - l}{u - l}

    With easy_margin, the authors' default, an example has no margin while its angle to its class is above 90 degrees.
    a is the length :math:`\|x\|`, kept within l (lower) and u (upper), where its gradient ends. So a long embedding
    says that an example is clear. The authors' bounds (10 to 110, strength 35, scale 64) are for embeddings of 512
    numbers behind batch normalisation. The defaults are for what the small models here put out: lengths of about 1 at
    the start and 10 at the end, and a strength to go with them and the scale.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; parameters: ``weight`` ``[..., C, E]``;
    lower_margin and upper_margin in radians; strength is :math:`\lambda`. Returns ``[..., B]``, in nats. Raises
    `InvalidValue` if the shapes do not fit, scale or lower is not positive, a margin or strength is negative, or an
    upper bound is not above its lower one (margins may be equal).
    Reference: Meng et al., MagFace: A Universal Representation for Face Recognition and Quality Assessment, 2021,
    https://arxiv.org/abs/2103.06627
    """

    name = "magface"
    family = "embedding"
    tasks = ("multiclass", "embedding")
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    requires = (Requirement.PARAMETERS,)
    aliases = ("MagLoss of github.com/IrvingMeng/MagFace",)
    use_when = "the embedding should also say how clear an example is, by its length"
    pitfall = "lengths outside lower and upper have no gradient: look how long embeddings are before you set the two"
    convex = False
    bounded = True
    scale: float = 16.0
    lower: float = 1.0
    upper: float = 11.0
    lower_margin: float = 0.45
    upper_margin: float = 0.8
    strength: float = 1.0
    easy_margin: bool = True

    def __post_init__(self) -> None:
        check_switch(self, easy_margin=self.easy_margin)
        check_positive(self, scale=self.scale, lower=self.lower, upper=self.upper)
        margins = {"lower_margin": self.lower_margin, "upper_margin": self.upper_margin}
        check_nonnegative(self, strength=self.strength, **margins)
        if self.upper <= self.lower:
            raise InvalidValue(f"The 'upper' parameter of MagFace must be above lower={self.lower}. Got {self.upper}.")
        if self.upper_margin < self.lower_margin:
            raise InvalidValue(
                f"The 'upper_margin' parameter of MagFace must be at least lower_margin={self.lower_margin}. "
                f"Got {self.upper_margin}."
            )

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw class vectors of random directions and a length of about one: `[C, E]`."""
        return _draw_class_vectors(problem, generator)

    def score_classes(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Return scaled cosines without the margin, `[..., B, C]`."""
        return self.scale * _cosines(prediction, parameters["weight"])

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor]) -> Tensor:
        """Return one value per example."""
        cosine = _cosines(prediction, parameters["weight"])
        target_cosine = pick_target(cosine, target)  # [..., B, 1]
        low, high = (torch.zeros_like(target_cosine) + bound for bound in (self.lower, self.upper))
        length = _lengths(prediction).clamp(low, high)
        # the margin rises along a straight line from (lower, lower_margin) to (upper, upper_margin)
        slope = (self.upper_margin - self.lower_margin) / (self.upper - self.lower)
        lowered = _add_angular_margin(target_cosine, self.lower_margin + slope * (length - self.lower))
        if self.easy_margin:
            lowered = torch.where(target_cosine > 0, lowered, target_cosine)
        nll = -log_likelihood(self.scale * _replace_target(cosine, lowered, target), target)
        return (nll + self.strength * (length / (high * high) + 1 / length)).squeeze(-1)


@dataclass(frozen=True)
class AdaFace(Loss):
    r"""Cross-entropy on scaled cosines, with a margin that asks more of clear examples and less of poor ones.

    .. math:: \ell = -\log\text{softmax}(z)_y, \quad z_y = s\,(\cos(\theta_y - m q) - m (1 + q)), \quad
        z_c = s \cos\theta_c, \quad q = \text{clip}\Big(h\,\frac{\|x\| - \mu}{\sigma}, -1, 1\Big)

    The quality q of an example is how long its embedding is against the running mean :math:`\mu` and deviation
    :math:`\sigma` of lengths; it is held still. q = -1 gives ArcFace's margin, 0 CosFace's. Angles stay within 0 and
    pi. A step takes :math:`\mu` and :math:`\sigma` of the steps before it (the first step its own batch's), so that an
    example's loss does not depend on its batch; the authors' code counts the batch in, at a weight of 1 %.

    prediction: ``[..., B, E]`` embeddings; target: ``[..., B]`` class indices; parameters: ``weight`` ``[..., C, E]``;
    state: mean and deviation, ``[..., 1, 2]``; margin m in radians. Returns ``[..., B]``, in nats, and the next state.
    Raises `InvalidValue` if the shapes do not fit, scale or concentration (h) is not positive, or margin is not in
    [0, 1).
    Reference: Kim, Jain and Liu, AdaFace: Quality Adaptive Margin for Face Recognition, 2022,
    https://arxiv.org/abs/2204.00964
    """

    name = "adaface"
    family = "embedding"
    tasks = ("multiclass", "embedding")
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    requires = (Requirement.PARAMETERS, Requirement.STATE)
    aliases = ("AdaFace of github.com/mk-minchul/AdaFace", "quality adaptive margin")
    use_when = "some inputs are too poor to be recognised, and should not be learnt by heart"
    pitfall = "it takes short embeddings for poor inputs, which holds for blurred photographs, not for all data"
    convex = False
    bounded = True
    held_still: ClassVar = {"margin": 0.0}  # lengths
    scale: float = 16.0
    margin: float = 0.4
    concentration: float = 1 / 3

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale, concentration=self.concentration)
        check_below_one(self, margin=self.margin)

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw class vectors of random directions and a length of about one: `[C, E]`."""
        return _draw_class_vectors(problem, generator)

    def init_state(self, problem: Problem) -> Tensor:
        """Return mean and deviation of lengths, `[1, 2]`; a deviation of 0 stands for "none yet"."""
        return torch.zeros(1, 2)

    def score_classes(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Return scaled cosines without the margin, `[..., B, C]`."""
        return self.scale * _cosines(prediction, parameters["weight"])

    def __call__(
        self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor], state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return one value per example, and the next state."""
        cosine = _cosines(prediction, parameters["weight"])
        target_cosine = pick_target(cosine, target)  # [..., B, 1]
        # 1. lengths, and their mean and deviation over this batch: [..., B, 1] and [..., 1, 2]
        length = _lengths(prediction.detach()).clamp(*NORMS)
        mean = length.mean(-2, keepdim=True)
        deviation = length.std(-2, keepdim=True) if length.shape[-2] > 1 else torch.ones_like(mean)  # unbiased
        new = torch.cat([mean, deviation], -1)
        # 2. this step takes the running statistics of the steps before it; the first step has its own only
        running = state.to(length.dtype)
        known = running[..., 1:] > 0
        mean, deviation = torch.where(known, running, new).split(1, -1)
        next_state = torch.where(known, running.lerp(new, NORM_MOMENTUM), new)
        # 3. quality shifts the margin from the angle (q = -1) to the cosine (q = 1); angles stay within 0 and pi
        quality = (self.concentration * (length - mean) / (deviation + NORM_EPS)).clamp(-1, 1)
        angle = (_angle(target_cosine) - self.margin * quality).clamp(0, math.pi)
        lowered = angle.cos() - self.margin * (1 + quality)
        nll = -log_likelihood(self.scale * _replace_target(cosine, lowered, target), target)
        return nll.squeeze(-1), next_state.to(state.dtype)


class Mining(StrEnum):
    """The triplets of a batch that count."""

    ALL = "all"  # every anchor with each of its class and each of another
    HARD = "hard"  # every anchor with the farthest of its class and the nearest of another


def check_embeddings(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the embeddings `[..., B, E]`, no narrower than float32, once there is one class index for each."""
    check_index_shape(prediction, target)
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))


def _find_pairs(target: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks of the ordered pairs of one class and of those of two classes, `[..., B, B]` each."""
    same = target.unsqueeze(-1) == target.unsqueeze(-2)
    itself = torch.eye(target.shape[-1], dtype=torch.bool, device=target.device)
    return same & ~itself, ~same


def _masked_mean(values: Tensor, kept: Tensor) -> Tensor:
    """Return the mean of the kept values over the last two axes, and 0 if none is kept; both axes stay, for fields."""
    total = torch.where(kept, values, 0).sum((-2, -1), keepdim=True)
    return total / kept.sum((-2, -1), keepdim=True).clamp_min(1)


def _distances(embedding: Tensor) -> Tensor:
    """Return Euclidean distances, `[..., B, E]` to `[..., B, B]`."""
    # without matrix products, which lose all digits of small distances; the gradient at a distance of 0 is 0
    return torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class Contrastive(Loss):
    r"""Squared distance within a class, and the squared amount by which two classes fall short of a margin.

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
    batch_level = True
    aliases = ("tfa.losses.ContrastiveLoss / 2", "siamese loss")
    use_when = "examples of one class should fall on one point, and distances mean something in themselves"
    pitfall = (
        "y is 1 for similar pairs here; many take 1 for different ones. pytorch-metric-learning's normalises, squares "
        "nothing and leaves out zeros"
    )
    convex = False
    bounded = False
    robust = False
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        distance = _distances(check_embeddings(prediction, target))  # [..., B, B]
        alike, different = _find_pairs(target)
        # every pair comes twice in the square, which the mean does not change
        losses = torch.where(alike, distance.square(), (self.margin - distance).relu().square())
        return (_masked_mean(losses, alike | different) / 2).squeeze(-1).squeeze(-1)


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
    batch_level = True
    aliases = (
        "torch.nn.CosineEmbeddingLoss, which takes pairs with 1 and -1",
        "optax.losses.cosine_distance, of pairs of one class",
    )
    use_when = "embeddings will be compared by their direction, and one class may fill one direction"
    pitfall = "torch's takes pairs with 1 and -1, and 0 and 1 without a word; here pairs come from classes"
    convex = False
    bounded = True
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_between(self, -1, 1, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        embedding = check_embeddings(prediction, target)
        cosine = _cosines(embedding, embedding)
        alike, different = _find_pairs(target)
        losses = torch.where(alike, 1 - cosine, (cosine - self.margin).relu())
        return _masked_mean(losses, alike | different).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class HingeEmbedding(Loss):
    r"""Distance within a class, and the amount by which two classes fall short of a margin.

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
    batch_level = True
    aliases = ("torch.nn.HingeEmbeddingLoss, given distances",)
    use_when = "some labels are wrong, so that far pairs of one class should not dominate as in contrastive"
    pitfall = "torch's takes distances, not embeddings, with 1 and -1; given 0 for different it forgets the margin term"
    convex = False
    bounded = False
    robust = True
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        distance = _distances(check_embeddings(prediction, target))
        alike, different = _find_pairs(target)
        losses = torch.where(alike, distance, (self.margin - distance).relu())
        return _masked_mean(losses, alike | different).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class Triplet(Loss):
    r"""The amount by which the distance to another class fails to exceed that to the own class by a margin.

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
    batch_level = True
    aliases = (
        "torch.nn.TripletMarginLoss, which takes triplets that are made already",
        "optax.losses.triplet_margin_loss",
        "batch-all and batch-hard triplets",
    )
    use_when = "only which of two is nearer counts, and a class may have several looks"
    pitfall = "with mining=hard wrong labels are the hardest, and all embeddings may fall on one point, where it is m"
    convex = False
    bounded = False
    robust = True
    margin: float = 1.0
    mining: Mining = Mining.ALL

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)
        check_choice(self, list(Mining), mining=self.mining)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        distance = _distances(check_embeddings(prediction, target))
        alike, different = _find_pairs(target)
        margin = torch.zeros_like(distance[..., :1, :1]) + self.margin

        if self.mining == Mining.HARD:  # one triplet per anchor: [..., B, 1]
            farthest = torch.where(alike, distance, 0).amax(-1, keepdim=True)
            nearest = torch.where(different, distance, torch.inf).amin(-1, keepdim=True)
            anchors = alike.any(-1, keepdim=True) & different.any(-1, keepdim=True)
            return _masked_mean((farthest - nearest + margin).relu(), anchors).squeeze(-1).squeeze(-1)

        # all triplets; -inf and inf stand for pairs of the wrong kind, so that these cost nothing
        near = torch.where(alike, distance + margin, -torch.inf)  # [..., a, p]
        far = torch.where(different, distance, torch.inf)  # [..., a, n]
        shortfall = (near.unsqueeze(-1) - far.unsqueeze(-2)).relu()  # [..., a, p, n]
        n_triplets = (alike.sum(-1) * different.sum(-1)).sum(-1)
        return shortfall.sum((-3, -2, -1)) / n_triplets.clamp_min(1)


def _info_nce(similarity: Tensor, target: Tensor) -> Tensor:
    """Return the mean over positive pairs of -log of their share against the anchor's negatives, `[..., 1, 1]`."""
    # -log(e^s / (e^s + sum e^n)) = softplus(log sum e^n - s), which cannot overflow
    alike, different = _find_pairs(target)
    return _masked_mean(softplus(masked_logsumexp(similarity, different) - similarity), alike)


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
    batch_level = True
    aliases = (
        "info_nce",
        "InfoNCE",
        "optax.losses.ntxent",
        "pytorch_metric_learning.losses.NTXentLoss",
        "SimCLR loss",
    )
    use_when = "pairs are known rather than classes: two views of an example, a question and its answer"
    pitfall = (
        "its value grows with the logarithm of the batch size; low temperatures look at the hardest negatives only"
    )
    convex = False
    bounded = True
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        embedding = check_embeddings(prediction, target)
        return _info_nce(_cosines(embedding, embedding) / self.temperature, target).squeeze(-1).squeeze(-1)


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
    batch_level = True
    aliases = ("pytorch_metric_learning.losses.SupConLoss", "SupConLoss of github.com/HobbitLong/SupContrast")
    use_when = "classes are known, and batches hold several examples of each"
    pitfall = "its least value is not 0 but the logarithm of the number of positives, so batches are hard to compare"
    convex = False
    bounded = True
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        embedding = check_embeddings(prediction, target)
        similarity = _cosines(embedding, embedding) / self.temperature
        alike, different = _find_pairs(target)
        # -log of each example's share among all others of the batch, [..., B, B]
        losses = masked_logsumexp(similarity, alike | different) - similarity
        n_positives = alike.sum(-1, keepdim=True)
        per_anchor = torch.where(alike, losses, 0).sum(-1, keepdim=True) / n_positives.clamp_min(1)
        return _masked_mean(per_anchor, n_positives > 0).squeeze(-1).squeeze(-1)


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
    batch_level = True
    aliases = ("pytorch_metric_learning.losses.MultiSimilarityLoss",)
    use_when = "search by similarity: hard negatives should count most, without a rule that picks them"
    pitfall = "base is the cosine at which a pair is neither near nor far: classes cannot get closer than it allows"
    convex = False
    bounded = True
    alpha: float = 2.0
    beta: float = 50.0
    base: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self, alpha=self.alpha, beta=self.beta)
        check_between(self, -1, 1, base=self.base)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        embedding = check_embeddings(prediction, target)
        excess = _cosines(embedding, embedding) - self.base
        alike, different = _find_pairs(target)
        # log(1 + sum e^x) = softplus(log sum e^x), [..., B, 1] each
        near = softplus(masked_logsumexp(-self.alpha * excess, alike)) / self.alpha
        far = softplus(masked_logsumexp(self.beta * excess, different)) / self.beta
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
    batch_level = True
    aliases = ("keras.losses.Circle", "pytorch_metric_learning.losses.CircleLoss")
    use_when = "pairs of one class and of two are learnt at different speed, as with few examples per class"
    pitfall = "a wide margin asks for little: the target of cosines of one class is 1 - m, and m between classes"
    convex = False
    bounded = True
    held_still: ClassVar = {}  # the weights
    gamma: float = 80.0
    margin: float = 0.4

    def __post_init__(self) -> None:
        check_positive(self, gamma=self.gamma)
        check_between(self, -1, 1, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        embedding = check_embeddings(prediction, target)
        cosine = _cosines(embedding, embedding)
        fixed = cosine.detach()  # of which the pairs' weights are made
        alike, different = _find_pairs(target)
        near = -self.gamma * (1 + self.margin - fixed).relu() * (cosine - 1 + self.margin)
        far = self.gamma * (fixed + self.margin).relu() * (cosine - self.margin)
        both = alike.any(-1, keepdim=True) & different.any(-1, keepdim=True)
        # the product of the two sums is the sum of their logarithms
        losses = softplus(torch.where(both, masked_logsumexp(near, alike) + masked_logsumexp(far, different), 0))
        return _masked_mean(losses, both).squeeze(-1).squeeze(-1)


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
    batch_level = True
    aliases = (
        "multi-class N-pair loss",
        "pytorch_metric_learning.losses.NPairsLoss, with one pair of each class, whose other halves are no rivals",
    )
    use_when = "the length of an embedding should mean something, as how sure it is"
    pitfall = "without l2 lengths grow without end: long embeddings make every right order surer"
    convex = False
    bounded = False
    robust = False
    l2: float = 0.002

    def __post_init__(self) -> None:
        check_nonnegative(self, l2=self.l2)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        embedding = check_embeddings(prediction, target)
        losses = _info_nce(embedding @ embedding.mT, target)
        length = embedding.square().sum(-1, keepdim=True).mean(-2, keepdim=True)
        # a batch without pairs costs nothing, not even for its lengths
        paired = _find_pairs(target)[0].any(-1, keepdim=True).any(-2, keepdim=True)
        return (losses + torch.where(paired, self.l2 / 2 * length, 0)).squeeze(-1).squeeze(-1)
