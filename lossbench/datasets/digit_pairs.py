"""Numbers of two handwritten digits: a hundred classes, enough to hold whole classes out."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.datasets.digit_pools import DIGITS, SIDE, Pools, load_examples
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count

N_CLASSES = 100
HALF = 10
"""Height and width of the half of a canvas that holds one digit."""


@dataclass(frozen=True)
class DigitPairs(Dataset):
    """The numbers from 00 to 99 on canvases of 10 by 20 pixels: two real handwritten digits side by side.

    inputs `[n, 1, 10, 20]` in [0, 1]; targets `[n]`, the numbers, each equally often; groups are the targets.

    Each half of the canvas has one digit at a random place. No image is used in two numbers, nor on both sides: each
    side of a number has 8 to 10 of its digit's 174 to 183 images to itself. So the images of held-out classes were
    never seen in training.

    n: number of canvases, rounded down to a multiple of 100.

    The examples are the same on every platform on which NumPy's generators are.
    Reference for the digits: Alpaydin, Kaynak, Cascading Classifiers, 1998,
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
        """Return the canvases; every call returns the same."""
        return load_examples(self, self.draw, tuple(f"{number:02}" for number in range(N_CLASSES)))

    def draw(self) -> dict[str, Array]:
        """Draw inputs, targets and groups, and `pasted` `[n, 2]`, the indices of the two images in scikit-learn."""
        generator = np.random.default_rng(self.random_state)
        pools, targets = Pools.draw(generator), np.arange(self.n // N_CLASSES * N_CLASSES) % N_CLASSES
        inputs = np.zeros((len(targets), 1, HALF, 2 * HALF), np.float32)
        pasted = np.zeros((len(targets), 2), np.int64)  # indices of the images
        for i, number in enumerate(targets):
            tens, units = divmod(int(number), 10)
            # 20 pools: one for the images left of each digit, one for those right of each digit
            pasted[i] = pools.pick(units, tens, generator), pools.pick(10 + tens, units, generator)
            for side, image in enumerate(pools.images[pasted[i]]):
                row, column = generator.integers(HALF - SIDE + 1, size=2)
                inputs[i, 0, row : row + SIDE, side * HALF + column :][:, :SIDE] = image
        return {"inputs": inputs, "targets": targets, "groups": targets, "pasted": pasted}
