"""Lines of handwritten digits: a data set for CTC."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.datasets.digit_pools import (
    DIGITS,
    N_POOLS,
    NAMES,
    SIDE,
    Pools,
    assign_pools,
    check_within,
    load_examples,
)
from lossbench.interfaces import Dataset
from lossbench.types import PADDING, Array, Examples
from lossbench.validation import check_count

HEIGHT = 12
LEAST_GAP, LARGEST_GAP = -1, 3
"""Pixels between the frames of neighbours."""
SPARE_TOKENS = 2
"""A transcript has room for so many tokens beyond the longest line: a corruption may insert some."""


def compute_width(longest: int) -> int:
    """Return the width of the widest line of `longest` digits in pixels, rounded up to a multiple of 8.

    >>> [compute_width(longest) for longest in (1, 6)]
    [8, 64]
    """
    return -(-(longest * SIDE + (longest - 1) * LARGEST_GAP) // 8) * 8


@dataclass(frozen=True)
class DigitLines(Dataset):
    """Lines of two to six real handwritten digits, to be read from left to right.

    inputs `[n, 1, 12, 64]` in [0, 1], as wide as the widest line of `longest` digits; targets
    `[n, longest + 2]`, tokens: 1 for a 0 to 10 for a 9, then PADDING (-1).
    groups `[n]`, 0 to 19: the pool of digit images that a line was pasted from. Pools share no image, and the splits
    share no pool.

    All draws are uniform. Digits keep their size. There are -1 to 3 pixels between the 8 by 8 frames of neighbours
    (where two share a column, the darker ink shows). Each digit sits 0 to 4 pixels from the top, independently of the
    others. A line starts anywhere from the left edge to the last column at which it fits.

    n: number of lines, rounded down to a multiple of 20.
    shortest, longest: number of digits in a line, uniform between the two.

    The examples are the same on every platform on which NumPy's generators are.
    Reference for the digits: Alpaydin, Kaynak, Cascading Classifiers, 1998,
    https://www.kybernetika.cz/content/1998/4/369
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    source: ClassVar[str] = f"pasted from: {DIGITS}"

    n: int = 4000
    shortest: int = 2
    longest: int = 6
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, least=N_POOLS, n=self.n)
        check_within(self, 1, 100, longest=self.longest)
        check_within(self, 1, self.longest, shortest=self.shortest)
        check_count(self, least=0, random_state=self.random_state)

    def load(self) -> Examples:
        """Return the lines; every call returns the same."""
        return load_examples(self, self.draw, NAMES)

    def draw(self) -> dict[str, Array]:
        """Draw inputs, targets and groups, and record in `pasted` where each digit comes from.

        pasted: `[n, longest, 3]`, the index of the digit's image in scikit-learn, its row and its column in the line;
            -1 after the last digit.
        """
        generator = np.random.default_rng(self.random_state)
        pools, groups = Pools.draw(generator), assign_pools(int(self.n))
        inputs = np.zeros((len(groups), 1, HEIGHT, compute_width(self.longest)), np.float32)
        targets = np.full((len(groups), self.longest + SPARE_TOKENS), PADDING)
        pasted = np.full((len(groups), self.longest, 3), -1)
        for i, pool in enumerate(groups):
            # 1. which digits, and an image of each
            digits = generator.integers(10, size=generator.integers(self.shortest, self.longest + 1))
            targets[i, : len(digits)] = digits + 1  # token 0 is the blank
            indices = [pools.pick(pool, digit, generator) for digit in digits]
            # 2. the left and upper edge of each frame
            gaps = generator.integers(LEAST_GAP, LARGEST_GAP + 1, len(digits) - 1)
            columns = np.concatenate([[0], np.cumsum(SIDE + gaps)])
            columns = generator.integers(inputs.shape[-1] - SIDE - columns[-1] + 1) + columns
            rows = generator.integers(HEIGHT - SIDE + 1, size=len(digits))
            pasted[i, : len(digits)] = np.column_stack([indices, rows, columns])
            # 3. the ink; the darker one shows where two frames overlap
            for index, row, column in zip(indices, rows, columns, strict=True):
                frame = inputs[i, 0, row : row + SIDE, column : column + SIDE]
                np.maximum(frame, pools.images[index], out=frame)
        return {"inputs": inputs, "targets": targets, "groups": groups, "pasted": pasted}
