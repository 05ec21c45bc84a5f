"""Small trunks of well-known layers, as their constructors initialise them.

The last layer, by the kind that a loss asks for.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from lossbench.errors import Incompatible
from lossbench.interfaces import Model
from lossbench.registry import to_snake_case
from lossbench.types import Head
from lossbench.validation import check_count

Features = tuple[nn.Module, int]


@dataclass(frozen=True)
class Linear(Model):
    """No trunk at all: the head sees the flattened inputs, which makes a linear model."""

    use_when: ClassVar[str] = "a convex baseline, or very few examples"

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, *input_shape]` to `[B, number of inputs]`."""
        return nn.Sequential(nn.Flatten()), math.prod(input_shape)


@dataclass(frozen=True)
class MLP(Model):
    """`depth` hidden layers of `width` units with ReLU, on flattened inputs."""

    use_when: ClassVar[str] = "tables, and images that are small enough to flatten"

    width: int = 64
    depth: int = 2

    def __post_init__(self) -> None:
        check_count(self, width=self.width, depth=self.depth)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, *input_shape]` to `[B, width]`."""
        sizes = [math.prod(input_shape)] + [self.width] * self.depth
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers), self.width


def block(inputs: int, outputs: int, stride: int | tuple[int, int] = 1, kernel: int = 3) -> list[nn.Module]:
    """A convolution, GroupNorm (no running statistics; it treats every example alone) and ReLU."""
    norm = nn.GroupNorm(math.gcd(8, outputs), outputs)
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, stride=stride), norm, nn.ReLU()]


def check_image(model: Model, input_shape: tuple[int, ...], least: int) -> None:
    """Raise `Incompatible` for what is no image `[C, H, W]`, or one with less than `least` pixels a side."""
    name = to_snake_case(type(model).__name__)
    if len(input_shape) != 3:
        raise Incompatible(
            f"The model {name} takes images of shape [C, H, W]. Got inputs of shape {list(input_shape)}"
            f"{'' if model.sequence else ': model=mlp takes any'}."
        )
    if min(input_shape[1:]) < least:
        raise Incompatible(
            f"The model {name} takes at least {least} pixels a side. Got {list(input_shape)}"
            f"{': a smaller model.depth would do' if hasattr(model, 'depth') else ''}."
        )


@dataclass(frozen=True)
class CNN(Model):
    """`depth` blocks of 3x3 convolution, GroupNorm, ReLU and 2x2 max-pooling, then the mean over positions.

    The first block has `channels` channels, each later one twice as many as the one before. What it sees is forgotten
    but for how much of it there is: `cnn_flat` knows where.
    """

    use_when: ClassVar[str] = "images of one thing each"

    channels: int = 16
    depth: int = 2

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, depth=self.depth)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, C, H, W]` to `[B, channels * 2^(depth - 1)]`; raises `Incompatible` for no images, or tiny ones."""
        check_image(self, input_shape, 2**self.depth)
        sizes = [input_shape[0]] + [self.channels * 2**i for i in range(self.depth)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [*block(inputs, outputs), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), sizes[-1]


def _strided(inputs: int, channels: int) -> list[nn.Module]:
    """Two blocks that halve the image twice: 5x5 with `channels` channels, 3x3 with twice as many.

    Strides, not pools: torch's max-pooling takes as long on a CPU as all of this.
    """
    return [*block(inputs, channels, stride=2, kernel=5), *block(channels, 2 * channels, stride=2)]


@dataclass(frozen=True)
class CNNFlat(Model):
    """Three blocks of convolution, GroupNorm and ReLU, flattened into a hidden layer of `width` units.

    5x5 with `channels` channels, 3x3 with twice and with half as many; the first two have stride 2. The hidden layer
    sees every position, so it can tell where things are.
    """

    use_when: ClassVar[str] = "images in which it matters where things are"

    channels: int = 16
    width: int = 64

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, width=self.width)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, C, H, W]` to `[B, width]`; raises `Incompatible` for no images, or less than 4 pixels a side."""
        check_image(self, input_shape, 4)
        narrow = max(1, self.channels // 2)
        layers = [*_strided(input_shape[0], self.channels), *block(2 * self.channels, narrow)]
        positions = math.prod(math.ceil(side / 4) for side in input_shape[1:])
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(narrow * positions, self.width), nn.ReLU()), self.width


class Highest(nn.Module):
    """The maximum of each feature map, `[..., C, H, W]` to `[..., C]`, in a third of the time of AdaptiveMaxPool2d."""

    def forward(self, maps: Tensor) -> Tensor:
        """The maxima of maps."""
        return maps.amax((-2, -1))


@dataclass(frozen=True)
class CNNMax(Model):
    """Three blocks of convolution, GroupNorm and ReLU, then each channel's maximum over all positions.

    5x5 with `channels` channels, 3x3 with twice and four times as many; the first two have stride 2. It can tell what
    there is, however small, and not where.
    """

    use_when: ClassVar[str] = "images of several things"

    channels: int = 16

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, C, H, W]` to `[B, 4 channels]`; raises `Incompatible` for no images, or less than 4 pixels a side."""
        check_image(self, input_shape, 4)
        layers = [*_strided(input_shape[0], self.channels), *block(2 * self.channels, 4 * self.channels)]
        return nn.Sequential(*layers, Highest()), 4 * self.channels


EPSILON = 1e-4
"""Added to lengths (in quadrature), so that the gradient of a direction is at most 1 / EPSILON at a zero vector."""


def build_head(head: Head, width: int, outputs: int) -> nn.Module:
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
