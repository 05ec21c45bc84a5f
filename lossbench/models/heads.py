"""Heads: the last layer of a model, of the kind that a loss takes."""

import math

import torch
from torch import Tensor, nn

from lossbench.types import Head

EPSILON = 1e-4
"""Added to lengths in quadrature, so that the gradient of a direction is at most 1 / EPSILON at a zero vector."""


def build_head(head: Head, width: int, outputs: int) -> nn.Module:
    """Build a head from features `[B, width]` to `[B, outputs]`; see `Task.get_head_width` for the outputs."""
    return CosineHead(width, outputs) if head is Head.COSINE else nn.Linear(width, outputs)


class CosineHead(nn.Module):
    r"""Scores by direction alone: `scale` times the cosine between features and class vectors.

    .. math:: z_c = s \, \frac{x \cdot w_c}{\|x\| \, \|w_c\|}, \quad \|v\| = \sqrt{v \cdot v + \epsilon^2}

    `[B, width]` to `[B, outputs]`, within ±scale. Class vectors are initialised as the weights of `nn.Linear` are.
    Reference: Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, 2017,
    https://arxiv.org/abs/1704.06369
    """

    def __init__(self, width: int, outputs: int, scale: float = 16.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(outputs, width))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        """Return class scores of features."""
        return self.score(features, self.weight)

    def score(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return class scores for the class vectors `weight`; in a stack `[R, B, width]` and `[R, outputs, width]`."""
        return self.scale * _normalize(features) @ _normalize(weight).mT


def _normalize(vectors: Tensor) -> Tensor:
    # F.normalize will not do: it divides by max(length, eps), whose gradient at a zero vector is 1 / eps = 1e12
    return vectors * (vectors.square().sum(-1, keepdim=True) + EPSILON**2).rsqrt()
