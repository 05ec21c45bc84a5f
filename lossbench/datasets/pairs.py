"""Numbers of two digits: a hundred classes, enough to hold whole classes out."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.datasets.pools import DIGITS, SIDE, Pools, examples
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count

N_CLASSES = 100
HALF = 10
"""Height and width of the half of a canvas that holds one digit."""


@dataclass(frozen=True)
class DigitPairs(Dataset):
    """Which number from 00 to 99 is on a canvas of 10 by 20 pixels: two real handwritten digits side by side.

    inputs `[n, 1, 10, 20]` in [0, 1]; targets `[n]`, the number, each equally often; groups are the targets.

    Each half of the canvas has one digit, at a random place. No image of a digit is used in two numbers, nor on both
    sides: of its digit's 174 to 183 images a side of a number has 8 to 10 of its own. So classes that are held out
    hold images that were never seen.

    n: canvases, rounded down to a multiple of 100.

    The same on every platform on which NumPy's generators are.
    Reference: of the digits, Alpaydin, Kaynak, Cascading Classifiers, 1998,
    https://www.kybernetika.cz/content/1998/4/369
    """

    tasks: ClassVar[tuple[str, ...]] = ("embedding",)
    source: ClassVar[str] = f"pasted from: {DIGITS}"

    n: int = 3000
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, least=2 * N_CLASSES, n=self.n)
        check_count(self, least=0, random_state=self.random_state)

    def load(self) -> Examples:
        """The same canvases at every call."""
        return examples(self, self.draw, tuple(f"{number:02}" for number in range(N_CLASSES)))

    def draw(self) -> dict[str, Array]:
        """Inputs, targets and groups; and the numbers, `[n, 2]`, of the two digits' images in scikit-learn."""
        generator = np.random.default_rng(self.random_state)
        pools, targets = Pools.drawn(generator), np.arange(self.n // N_CLASSES * N_CLASSES) % N_CLASSES
        inputs = np.zeros((len(targets), 1, HALF, 2 * HALF), np.float32)
        pasted = np.zeros((len(targets), 2), np.int64)
        for row, number in enumerate(targets):
            tens, units = divmod(int(number), 10)
            # the images that stand left of a given digit, and right of one, are a pool each: 20 in all
            pasted[row] = pools.pick(units, tens, generator), pools.pick(10 + tens, units, generator)
            for side, image in enumerate(pools.images[pasted[row]]):
                down, across = generator.integers(HALF - SIDE + 1, size=2)
                inputs[row, 0, down : down + SIDE, side * HALF + across :][:, :SIDE] = image
        return {"inputs": inputs, "targets": targets, "groups": targets, "pasted": pasted}
