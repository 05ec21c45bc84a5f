"""Small trunks of well-known layers, as their constructors initialise them."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import nn

from lossbench.errors import Incompatible
from lossbench.interfaces import Model
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


@dataclass(frozen=True)
class CNN(Model):
    """`depth` blocks of 3x3 convolution, GroupNorm, ReLU and 2x2 max-pooling, then the mean over positions.

    The first block has `channels` channels, each later one twice as many as the one before. GroupNorm, not BatchNorm:
    it has no running statistics and treats every example alone.
    """

    use_when: ClassVar[str] = "images"

    channels: int = 16
    depth: int = 2

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, depth=self.depth)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, C, H, W]` to `[B, channels * 2^(depth - 1)]`; raises `Incompatible` for no images, or tiny ones."""
        self._check(input_shape)
        sizes = [input_shape[0]] + [self.channels * 2**block for block in range(self.depth)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(math.gcd(8, outputs), outputs)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), sizes[-1]

    def _check(self, input_shape: tuple[int, ...]) -> None:
        if len(input_shape) != 3:
            raise Incompatible(
                f"The model cnn takes images of shape [C, H, W]. Got inputs of shape {list(input_shape)}: "
                f"model=mlp takes any."
            )
        if min(input_shape[1:]) < 2**self.depth:
            raise Incompatible(
                f"The model cnn halves images {self.depth} times, which takes {2**self.depth} pixels a side. "
                f"Got {list(input_shape)}: a smaller model.depth would do."
            )
