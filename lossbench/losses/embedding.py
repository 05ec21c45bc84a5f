"""Losses on embeddings, with trainable class vectors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import Loss, one_axis_less
from lossbench.losses.classification import log_likelihood
from lossbench.types import EMBEDDING_WIDTH, Encoding, Head, Need, Problem, Space
from lossbench.validation import check_between, check_positive

SHORTEST = 1e-4
"""A shorter vector is divided by this: the gradient of a direction is 1 / length, torch's default 1e12 at zero."""


def cosines(embedding: Tensor, weight: Tensor) -> Tensor:
    """Cosines between embeddings `[..., B, E]` and class vectors `[..., C, E]`: `[..., B, C]`."""
    return functional.normalize(embedding, dim=-1, eps=SHORTEST) @ functional.normalize(weight, dim=-1, eps=SHORTEST).mT


def class_vectors(problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
    """Class vectors of random directions and a length of about one: `[C, E]`, called weight."""
    drawn = torch.randn(problem.n_outputs, EMBEDDING_WIDTH, generator=generator)
    return {"weight": drawn / math.sqrt(EMBEDDING_WIDTH)}


def angle_of(cosine: Tensor) -> Tensor:
    """The angle, no narrower than float32, whose gradient is finite everywhere."""
    # the gradient of acos is infinite at 1 and -1: no nearer than 8 roundings, which is 0.1 degrees in float32
    wide = cosine.to(torch.promote_types(cosine.dtype, torch.float32))
    edge = 1 - 8 * torch.finfo(wide.dtype).eps
    return wide.clamp(-edge, edge).acos()


def enlarged(cosine: Tensor, margin: Tensor) -> Tensor:
    """The cosine of an angle enlarged by a margin in radians; past pi it goes on falling as a straight line."""
    angle = angle_of(cosine)
    return torch.where(angle + margin <= math.pi, (angle + margin).cos(), cosine - margin * margin.sin())


def of_target(cosine: Tensor, target: Tensor) -> Tensor:
    """The cosine to the target's class vector, `[..., B, 1]`, after a look at the shapes."""
    one_axis_less(cosine, target)
    return cosine.gather(-1, target.long().unsqueeze(-1))


def with_target(cosine: Tensor, lowered: Tensor, target: Tensor) -> Tensor:
    """The cosines, `[..., B, C]`, with `lowered` in the target's place."""
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
    needs = (Need.PARAMETERS,)
    known_as = ("pytorch_metric_learning.losses.ArcFaceLoss, whose margin is in degrees", "additive angular margin")
    use_when = "the embedding will be used to compare examples, or classes are many"
    beware = "its scores lie within the scale, so probabilities are not calibrated; it overfits wrong labels"
    scale: float = 16.0
    margin: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)
        if self.margin != 0:
            check_between(self, 0, math.pi / 2, margin=self.margin)

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
        lowered = enlarged(own, torch.zeros_like(own) + self.margin)
        return -log_likelihood(self.scale * with_target(cosine, lowered, target), target).squeeze(-1)
