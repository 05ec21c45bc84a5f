"""Trunks that read an image from left to right: one feature vector per column."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lossbench.errors import InvalidValue
from lossbench.interfaces import Model
from lossbench.models.networks import Features, build_block, check_image
from lossbench.validation import check_count


class Columns(nn.Module):
    """Turn feature maps `[B, C, H, W]` into a vector per column, from left to right: `[B, W, C H]`."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the columns."""
        return maps.permute(0, 3, 1, 2).flatten(2)


class Recurrent(nn.Module):
    """A bidirectional LSTM without its last state: `[B, T, inputs]` to `[B, T, 2 width]`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, width, batch_first=True, bidirectional=True)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the output of each step."""
        outputs: Tensor = self.lstm(sequence)[0]
        return outputs


def _build_columns(model: "Recogniser | RecogniserLSTM", input_shape: tuple[int, ...]) -> list[nn.Module]:
    """Build two blocks that each halve the height (the first also the width) and a third over the remaining height.

    They use strides, as torch's max-pooling on a CPU takes as long as all three blocks together.
    """
    check_image(model, input_shape, 4)
    height = math.ceil(input_shape[1] / 4)
    full_height = nn.Conv2d(2 * model.channels, model.width, (height, 3), padding=(0, 1))
    return [
        *build_block(input_shape[0], model.channels, stride=2),  # [H / 2, W / 2]
        *build_block(model.channels, 2 * model.channels, stride=(2, 1)),  # [H / 4, W / 2]
        *(full_height, nn.GroupNorm(math.gcd(8, model.width), model.width), nn.ReLU()),  # [1, W / 2]
        Columns(),  # [B, W / 2, width]
    ]


@dataclass(frozen=True)
class Recogniser(Model):
    """Three convolutions with GroupNorm that turn a line into columns: T = W / 2 vectors of `width` features.

    Two are 3x3 with `channels` and twice as many channels; the third covers the full height and three columns.
    """

    sequence: ClassVar[bool] = True
    use_when: ClassVar[str] = "lines of text as images"

    channels: int = 8
    width: int = 64

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels, width=self.width)

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """Build `[B, C, H, W]` to `[B, W / 2, width]`; images have at least 4 pixels a side."""
        return nn.Sequential(*_build_columns(self, input_shape)), self.width


@dataclass(frozen=True)
class RecogniserLSTM(Model):
    """The convolutions of `recogniser`, then a bidirectional LSTM of `width` / 2 units each way.

    An LSTM cannot be stacked: its trials are trained one after another, which takes many times as long.
    """

    name: ClassVar[str] = "recogniser_lstm"
    sequence: ClassVar[bool] = True
    use_when: ClassVar[str] = "lines of text in which what is next depends on what was before"

    channels: int = 8
    width: int = 64

    def __post_init__(self) -> None:
        check_count(self, channels=self.channels)
        check_count(self, least=2, width=self.width)
        if self.width % 2:
            raise InvalidValue(f"The 'width' parameter of RecogniserLSTM must be even. Got {self.width!r} instead.")

    def trunk(self, input_shape: tuple[int, ...]) -> Features:
        """Build `[B, C, H, W]` to `[B, W / 2, width]`; raises `Incompatible` as `recogniser` does."""
        return nn.Sequential(*_build_columns(self, input_shape), Recurrent(self.width, self.width // 2)), self.width
