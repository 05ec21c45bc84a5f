"""Trunks that read an image from left to right: one feature vector per column."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from lossbench.interfaces import Model
from lossbench.models.trunks import Features, block, check_image
from lossbench.validation import check_count


class Columns(nn.Module):
    """Feature maps `[B, C, H, W]` to one vector per column, from left to right: `[B, W, C H]`."""

    def forward(self, maps: Tensor) -> Tensor:
        """The columns of maps."""
        return maps.permute(0, 3, 1, 2).flatten(2)


class Recurrent(nn.Module):
    """A bidirectional LSTM without its last state: `[B, T, inputs]` to `[B, T, 2 width]`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, width, batch_first=True, bidirectional=True)

    def forward(self, sequence: Tensor) -> Tensor:
        """What the LSTM puts out at each step."""
        out: Tensor = self.lstm(sequence)[0]
        return out


def _columns(model: "Recogniser | RecogniserLSTM", input_shape: tuple[int, ...]) -> tuple[list[nn.Module], int]:
    """Three blocks of convolution; height is halved three times, width once. Features per column."""
    check_image(model, input_shape, 8)
    channels = [input_shape[0], model.channels, 2 * model.channels, 4 * model.channels]
    layers: list[nn.Module] = []
    pools: tuple[int | tuple[int, int], ...] = (2, (2, 1), (2, 1))
    for (inputs, outputs), pool in zip(pairwise(channels), pools, strict=True):
        layers += [*block(inputs, outputs), nn.MaxPool2d(pool)]
    return [*layers, Columns()], channels[-1] * (input_shape[1] // 8)


@dataclass(frozen=True)
class Recogniser(Model):
    """Convolutions with GroupNorm, then a hidden layer of `width` units on each column of the feature maps.

    Three blocks, of `channels`, twice and four times as many; the image is read in T = W / 2 steps.
    """

    sequence: ClassVar[bool] = True
    use_when: ClassVar[str] = "lines of text as images"

    channels: int = 8
    width: int = 64

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, width=self.width)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, C, H, W]` to `[B, W / 2, width]`; raises `Incompatible` for no images, or less than 8 pixels high."""
        layers, features = _columns(self, input_shape)
        return nn.Sequential(*layers, nn.Linear(features, self.width), nn.ReLU()), self.width


@dataclass(frozen=True)
class RecogniserLSTM(Model):
    """The same convolutions under a bidirectional LSTM of `width` units each way.

    An LSTM cannot be stacked: its trials train one after another, which takes many times as long.
    """

    name: ClassVar[str] = "recogniser_lstm"
    sequence: ClassVar[bool] = True
    use_when: ClassVar[str] = "lines of text in which what is next depends on what was before"

    channels: int = 8
    width: int = 32

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, width=self.width)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """`[B, C, H, W]` to `[B, W / 2, 2 width]`; raises `Incompatible` as `recogniser` does."""
        layers, features = _columns(self, input_shape)
        return nn.Sequential(*layers, Recurrent(features, self.width)), 2 * self.width
