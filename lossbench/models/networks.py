"""Small trunks of well-known layers, as their constructors initialise them."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from lossbench.errors import Incompatible
from lossbench.interfaces import Model
from lossbench.registry import to_snake_case
from lossbench.validation import check_count

Features = tuple[nn.Module, int]


@dataclass(frozen=True)
class Linear(Model):
    """No trunk: the head sees the flattened inputs, so the model is linear."""

    use_when: ClassVar[str] = "a convex baseline, or very few examples"

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """Build `[B, *input_shape]` to `[B, number of inputs]`."""
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
        """Build `[B, *input_shape]` to `[B, width]`."""
        sizes = [math.prod(input_shape)] + [self.width] * self.depth
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers), self.width


def build_block(inputs: int, outputs: int, stride: int | tuple[int, int] = 1, kernel: int = 3) -> list[nn.Module]:
    """Build a convolution, GroupNorm (no running statistics, each example by itself) and ReLU."""
    norm = nn.GroupNorm(math.gcd(8, outputs), outputs)
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, stride=stride), norm, nn.ReLU()]


def check_image(model: Model, input_shape: tuple[int, ...], least: int) -> None:
    """Raise `Incompatible` unless inputs are images `[C, H, W]` of at least `least` pixels a side."""
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

    The first block has `channels` channels, each later one twice as many as the one before. The mean tells how much of
    a feature there is, but not where: use `cnn_flat` for that.
    """

    use_when: ClassVar[str] = "images of one thing each"

    channels: int = 16
    depth: int = 2

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, depth=self.depth)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """Build `[B, C, H, W]` to `[B, channels 2^(depth - 1)]`; images have at least 2^depth pixels a side."""
        check_image(self, input_shape, 2**self.depth)
        sizes = [input_shape[0]] + [self.channels * 2**i for i in range(self.depth)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [*build_block(inputs, outputs), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), sizes[-1]


def _build_strided_blocks(inputs: int, channels: int) -> list[nn.Module]:
    """Build two blocks that each halve the image: 5x5 with `channels` channels, then 3x3 with twice as many.

    They use strides, as torch's max-pooling on a CPU takes as long as both blocks together.
    """
    return [*build_block(inputs, channels, stride=2, kernel=5), *build_block(channels, 2 * channels, stride=2)]


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
        """Build `[B, C, H, W]` to `[B, width]`; images have at least 4 pixels a side."""
        check_image(self, input_shape, 4)
        # fewer channels before flattening, as the hidden layer has weights per channel and position
        narrow = max(1, self.channels // 2)
        layers = [*_build_strided_blocks(input_shape[0], self.channels), *build_block(2 * self.channels, narrow)]
        positions = math.prod(math.ceil(side / 4) for side in input_shape[1:])
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(narrow * positions, self.width), nn.ReLU()), self.width


class GlobalMaxPool(nn.Module):
    """The maximum of each feature map, `[..., C, H, W]` to `[..., C]`, in a third of the time of AdaptiveMaxPool2d."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maxima."""
        return maps.amax((-2, -1))


@dataclass(frozen=True)
class CNNMax(Model):
    """Three blocks of convolution, GroupNorm and ReLU, then each channel's maximum over all positions.

    5x5 with `channels` channels, 3x3 with twice and four times as many; the first two have stride 2. It can tell what
    there is, however small, but not where.
    """

    use_when: ClassVar[str] = "images of several things"

    channels: int = 16

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """Build `[B, C, H, W]` to `[B, 4 channels]`; images have at least 4 pixels a side."""
        check_image(self, input_shape, 4)
        layers = [
            *_build_strided_blocks(input_shape[0], self.channels),
            *build_block(2 * self.channels, 4 * self.channels),
        ]
        return nn.Sequential(*layers, GlobalMaxPool()), 4 * self.channels
