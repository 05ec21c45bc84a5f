"""Small trunks of well-known layers, as their constructors initialise them."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import nn

from lossbench.errors import Incompatible
from lossbench.interfaces import Model
from lossbench.registry import snake_case
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


def _halved(side: int, times: int) -> int:
    for _ in range(times):
        side = math.ceil(side / 2)
    return side


def check_image(model: Model, input_shape: tuple[int, ...], least: int) -> None:
    """Raise `Incompatible` for what is no image `[C, H, W]`, or one with less than `least` pixels a side."""
    name = snake_case(type(model).__name__)
    if len(input_shape) != 3:
        raise Incompatible(
            f"The model {name} takes images of shape [C, H, W]. Got inputs of shape {list(input_shape)}"
            f"{'' if model.sequence else ': model=mlp takes any'}."
        )
    if min(input_shape[1:]) < least:
        raise Incompatible(
            f"The model {name} with these fields takes at least {least} pixels a side. "
            f"Got {list(input_shape)}: a smaller model.depth would do."
        )


@dataclass(frozen=True)
class CNN(Model):
    """`depth` blocks of 3x3 convolution, GroupNorm, ReLU and 2x2 max-pooling, then the mean over positions.

    The first block has `channels` channels, each later one twice as many as the one before. What it sees is forgotten
    but for how much of it there is: `convnet` knows where.
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


@dataclass(frozen=True)
class ConvNet(Model):
    """`depth` blocks of convolution, GroupNorm and ReLU, flattened into a hidden layer of `width` units.

    The first convolution is 5x5 with stride `stride`, the others are 3x3 with stride 2. The first block has `channels`
    channels, each later one twice as many as the one before. The hidden layer sees every position, so it can tell where
    things are. Strides, not pools: torch's max-pooling takes as long on a CPU as all of this.
    """

    name: ClassVar[str] = "convnet"
    use_when: ClassVar[str] = "images in which it matters where things are, or of several things"

    channels: int = 16
    depth: int = 2
    stride: int = 4
    width: int = 64

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, depth=self.depth, stride=self.stride, width=self.width)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, C, H, W]` to `[B, width]`; raises `Incompatible` for no images, or tiny ones."""
        reduction = self.stride * 2 ** (self.depth - 1)
        check_image(self, input_shape, reduction)
        sizes = [self.channels * 2**i for i in range(self.depth)]
        layers = block(input_shape[0], sizes[0], self.stride, kernel=5)
        layers += [layer for inputs, outputs in pairwise(sizes) for layer in block(inputs, outputs, 2)]
        sides = [_halved(math.ceil(side / self.stride), self.depth - 1) for side in input_shape[1:]]
        hidden = nn.Linear(sizes[-1] * math.prod(sides), self.width)
        return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU()), self.width
