"""The last layer, by the kind that a loss asks for."""

import math

import torch
from torch import Tensor, nn

from lossbench.types import Head

EPSILON = 1e-4
"""Added to lengths (in quadrature), so that the gradient of a direction is at most 1 / EPSILON at a zero vector."""


def build(head: Head, width: int, outputs: int) -> nn.Module:
    """A head from features `[B, width]` to `[B, outputs]`; the task says how many outputs (`Task.head_width`)."""
    return Cosine(width, outputs) if head is Head.COSINE else nn.Linear(width, outputs)


class Cosine(nn.Module):
    r"""Scores by direction alone: `scale` times the cosine between features and class vectors.

    .. math:: z_c = s \, \frac{x \cdot w_c}{\|x\| \, \|w_c\|}, \quad \|v\| = \sqrt{v \cdot v + \epsilon^2}

    `[B, width]` to `[B, outputs]`, within ±scale. Class vectors start as `nn.Linear`'s weights do.
    Reference: Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, 2017,
    https://arxiv.org/abs/1704.06369
    """

    def __init__(self, width: int, outputs: int, scale: float = 16.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(outputs, width))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        """Class scores of features."""
        return self.scores(features, self.weight)

    def scores(self, features: Tensor, weight: Tensor) -> Tensor:
        """The same with given class vectors; in a stack `[R, B, width]` and `[R, outputs, width]`."""
        return self.scale * _direction(features) @ _direction(weight).mT


def _direction(vectors: Tensor) -> Tensor:
    # not F.normalize: it divides by max(length, eps), whose gradient at a zero vector is 1 / eps = 1e12
    return vectors * (vectors.square().sum(-1, keepdim=True) + EPSILON**2).rsqrt()
