"""Wrong boxes. The results are still boxes: x1 < x2 and y1 < y2."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.interfaces.task import robust_scale
from lossbench.types import Array, Examples
from lossbench.validation import check_between, check_range

_BOXES = ("boxes",)


def _measure_sides(boxes: Array) -> Array:
    """Return the unit of each of the four corner coordinates, width and height twice, `[N, 4]`."""
    return np.tile(boxes[:, 2:] - boxes[:, :2], 2)


@dataclass(frozen=True)
class BoxJitter(Corruption):
    """Each side of a box is moved by up to `share` (uniformly) of the box's width or height, in or out.

    Below a share of 0.5 the sides cannot cross. Raises `InvalidValue` for a share outside of (0, 0.5).
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    use_when: ClassVar[str] = "annotators draw in haste"

    share: float = 0.3

    def __post_init__(self) -> None:
        check_between(self, 0, 0.5, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Move the four sides of every box."""
        boxes = examples.targets
        steps = generator.uniform(-self.share, self.share, boxes.shape)
        return Corrupted(targets=(boxes + steps * _measure_sides(boxes)).astype(boxes.dtype))


@dataclass(frozen=True)
class BoxTruncation(Corruption):
    """A box loses `share` of its width or height at one side, drawn from the four with equal chances.

    Raises `InvalidValue` for a share outside of (0, 1).
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    use_when: ClassVar[str] = "a part of the thing is hidden, or was overlooked"

    share: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Move one side of every box in."""
        boxes = examples.targets
        cut = np.arange(4) == generator.integers(4, size=(len(boxes), 1))  # [N, 4], one True per box
        inwards = np.array([1, 1, -1, -1]) * self.share * _measure_sides(boxes)
        return Corrupted(targets=np.where(cut, boxes + inwards, boxes).astype(boxes.dtype))


@dataclass(frozen=True)
class BoxSwap(Corruption):
    """A box is replaced by that of another image of the split; images that draw an equal box cannot be corrupted."""

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    use_when: ClassVar[str] = "labels were attached to the wrong images"

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Give every image another image's box."""
        boxes = examples.targets
        order = generator.permutation(len(boxes))
        swapped = np.empty_like(boxes)
        swapped[order] = boxes[np.roll(order, -1)]  # one cycle through all images: none keeps its box
        return Corrupted(targets=swapped, eligible=(swapped != boxes).any(1))


@dataclass(frozen=True)
class BoxOutliers(Corruption):
    """Boxes are moved in a random direction by `low` to `high` (uniformly) robust standard deviations of the centres.

    Each axis has its own deviation. Sizes stay, and most boxes leave the image.
    Raises `InvalidValue` unless 0 <= low <= high and high > 0.
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    use_when: ClassVar[str] = "gross errors: wrong units, wrong origin, another thing far away"

    low: float = 10.0
    high: float = 15.0

    def __post_init__(self) -> None:
        check_range(self, self.low, self.high)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Move every box."""
        boxes = examples.targets
        spread = robust_scale((boxes[:, :2] + boxes[:, 2:]) / 2)[1]  # [2], of the centres
        angle = generator.uniform(0, 2 * np.pi, (len(boxes), 1))
        distance = generator.uniform(self.low, self.high, (len(boxes), 1))
        shift = distance * np.concatenate([np.cos(angle), np.sin(angle)], 1) * spread  # [N, 2]
        return Corrupted(targets=(boxes + np.tile(shift, 2)).astype(boxes.dtype))
