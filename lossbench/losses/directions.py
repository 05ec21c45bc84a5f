"""Losses that look at where a vector of targets points, and not at its length."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.errors import Incompatible
from lossbench.interfaces.loss import Loss, same_shape
from lossbench.types import Array, Encoding, Problem, Space

SHORT = 1e-4
"""A prediction this much shorter than the target has no clear direction: the gradient is at most 1 / (SHORT · |y|)."""


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    r"""Minus the cosine of the angle between prediction and target.

    .. math:: \ell = -\frac{\hat y \cdot y}{\|\hat y\| \, \|y\|}, \quad
        \|\hat y\| = \sqrt{\hat y \cdot \hat y + (10^{-4} \|y\|)^2}

    prediction :math:`\hat y`, target y: ``[..., D]`` in the target's original units, since the directions of
    standardised values are others. It makes sense for D of 2 and more: one number has a sign and no direction, so there
    is next to no gradient. Returns ``[...]``: from -1 (the same direction) to 1 (the opposite one), and 0 where either
    vector is 0. Raises `InvalidValue` if the shapes differ.
    Reference: Salton, Wong and Yang, A Vector Space Model for Automatic Indexing, 1975,
    https://doi.org/10.1145/361219.361220
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.ORIGINAL
    encoding = Encoding.ORIGINAL
    known_as = (
        "keras.losses.CosineSimilarity",
        "torch.nn.CosineSimilarity, without the minus",
        "optax.losses.cosine_distance - 1",
        "cosine proximity",
    )
    use_when = "the targets of an example are one vector, of which only the direction counts"
    beware = (
        "learns nothing from a single target, which has no direction; and no lengths, so errors in units stay large"
    )
    convex = False
    bounded = True

    def check(self, targets: Array, problem: Problem) -> None:
        """Raise `Incompatible` for a single target, which has no direction."""
        if problem.n_outputs < 2:
            raise Incompatible(
                "cosine_similarity takes targets of at least two numbers, which have a direction. Got targets of one."
            )

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Minus the cosine over D."""
        same_shape(prediction, target)
        length = target.square().sum(-1, keepdim=True).sqrt()
        # the one of a zero vector, whose cosine is 0, may be any
        length = torch.where(length > 0, length, 1.0)
        squared = prediction.square().sum(-1, keepdim=True) + (SHORT * length).square()
        return -(prediction * squared.rsqrt() * (target / length)).sum(-1)
