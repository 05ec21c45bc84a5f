"""Losses on embeddings with trainable class vectors whose margin is another than ArcFace's."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.losses.classification import log_likelihood
from lossbench.losses.embedding import SHORTEST, angle_of, class_vectors, cosines, enlarged, of_target, with_target
from lossbench.types import Encoding, Head, Need, Problem, Space
from lossbench.validation import check_below_one, check_nonnegative, check_positive

NORM_MOMENTUM = 0.01
"""Weight of the newest batch in adaface's running mean and deviation of norms, as in the authors' code."""
NORMS = (1e-3, 100.0)
"""Where adaface takes the norms of embeddings to lie."""


def _norms(embedding: Tensor) -> Tensor:
    """Lengths, `[..., B, 1]`, no narrower than float32; the gradient at a length of 0 is 0."""
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
    needs = (Need.PARAMETERS,)
    known_as = ("pytorch_metric_learning.losses.CosFaceLoss", "large margin cosine loss", "AM-Softmax")
    use_when = "as arcface, with a margin that is easier to learn at the start"
    beware = "its scores lie within the scale, so probabilities are not calibrated; it overfits wrong labels"
    convex = False
    bounded = True
    scale: float = 16.0
    margin: float = 0.35

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)
        check_below_one(self, margin=self.margin)

    def parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Class vectors of random directions and a length of about one: `[C, E]`."""
        return class_vectors(problem, generator)

    def scores(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Scaled cosines without the margin, `[..., B, C]`."""
        return self.scale * cosines(prediction, parameters["weight"])

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor]) -> Tensor:
        """One value per example."""
        cosine = cosines(prediction, parameters["weight"])
        lowered = of_target(cosine, target) - self.margin
        return -log_likelihood(self.scale * with_target(cosine, lowered, target), target).squeeze(-1)


@dataclass(frozen=True)
class MagFace(Loss):
    r"""ArcFace with a margin that grows with the embedding's length, and a cost of being short.

    .. math:: \ell = \text{arcface}(m(a)) + \lambda\Big(\frac{a}{u^2} + \frac{1}{a}\Big), \quad
        m(a) = m_l + (m_u - m_l)\frac{a - l}{u - l}

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
    needs = (Need.PARAMETERS,)
    known_as = ("MagFace of github.com/IrvingMeng/MagFace",)
    use_when = "the embedding should also say how clear an example is, by its length"
    beware = "lengths outside lower and upper have no gradient: look how long embeddings are before you set the two"
    convex = False
    bounded = True
    scale: float = 16.0
    lower: float = 1.0
    upper: float = 11.0
    lower_margin: float = 0.45
    upper_margin: float = 0.8
    strength: float = 1.0

    def __post_init__(self) -> None:
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

    def parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Class vectors of random directions and a length of about one: `[C, E]`."""
        return class_vectors(problem, generator)

    def scores(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Scaled cosines without the margin, `[..., B, C]`."""
        return self.scale * cosines(prediction, parameters["weight"])

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor]) -> Tensor:
        """One value per example."""
        cosine = cosines(prediction, parameters["weight"])
        own = of_target(cosine, target)
        low, high = (torch.zeros_like(own) + bound for bound in (self.lower, self.upper))
        length = _norms(prediction).clamp(low, high)
        slope = (self.upper_margin - self.lower_margin) / (self.upper - self.lower)
        lowered = enlarged(own, self.lower_margin + slope * (length - self.lower))
        nll = -log_likelihood(self.scale * with_target(cosine, lowered, target), target)
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
    needs = (Need.PARAMETERS, Need.STATE)
    known_as = ("AdaFace of github.com/mk-minchul/AdaFace", "quality adaptive margin")
    use_when = "some inputs are too poor to be recognised, and should not be learnt by heart"
    beware = "it takes short embeddings for poor inputs, which holds for blurred photographs, not for all data"
    convex = False
    bounded = True
    held_still: ClassVar = {"margin": 0.0}  # lengths
    scale: float = 16.0
    margin: float = 0.4
    concentration: float = 1 / 3

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale, concentration=self.concentration)
        check_below_one(self, margin=self.margin)

    def parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Class vectors of random directions and a length of about one: `[C, E]`."""
        return class_vectors(problem, generator)

    def state(self, problem: Problem) -> Tensor:
        """Mean and deviation of lengths, `[1, 2]`; a deviation of 0 stands for "none yet"."""
        return torch.zeros(1, 2)

    def scores(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Scaled cosines without the margin, `[..., B, C]`."""
        return self.scale * cosines(prediction, parameters["weight"])

    def __call__(
        self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor], state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One value per example, and the next state."""
        cosine = cosines(prediction, parameters["weight"])
        own = of_target(cosine, target)
        length = _norms(prediction.detach()).clamp(*NORMS)
        present, following = _followed(length, state.to(length.dtype))
        mean, deviation = present.split(1, -1)
        quality = (self.concentration * (length - mean) / (deviation + SHORTEST)).clamp(-1, 1)
        lowered = _turned(own, -self.margin * quality) - self.margin * (1 + quality)
        nll = -log_likelihood(self.scale * with_target(cosine, lowered, target), target)
        return nll.squeeze(-1), following.to(state.dtype)


def _followed(length: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation that this step takes, and those that the next one will: `[..., 1, 2]` each."""
    mean = length.mean(-2, keepdim=True)
    new = torch.cat([mean, (length - mean).square().mean(-2, keepdim=True).sqrt()], -1)
    known = state[..., 1:] > 0
    return torch.where(known, state, new), torch.where(known, state.lerp(new, NORM_MOMENTUM), new)


def _turned(cosine: Tensor, by: Tensor) -> Tensor:
    """The cosine of an angle changed by some radians, which stays within 0 and pi."""
    return (angle_of(cosine) + by).clamp(0, math.pi).cos()
