"""Handwritten digits in a line: read them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.datasets.pools import DIGITS, N_POOLS, NAMES, SIDE, Pools, check_within, examples, pools_of
from lossbench.interfaces import Dataset
from lossbench.types import PADDING, Array, Examples
from lossbench.validation import check_count

HEIGHT = 12
NEAREST, WIDEST = -1, 3
"""Pixels between the frames of neighbours."""
ROOM = 2
"""Tokens that a transcript has room for beyond the longest line: a corruption may insert some."""


def width_of(longest: int) -> int:
    """Pixels that the widest line of `longest` digits takes, rounded up to a multiple of 8.

    >>> [width_of(longest) for longest in (1, 6)]
    [8, 64]
    """
    return -(-(longest * SIDE + (longest - 1) * WIDEST) // 8) * 8


@dataclass(frozen=True)
class DigitLines(Dataset):
    """Lines of two to six real handwritten digits, to be read from left to right.

    inputs `[n, 1, 12, 64]` in [0, 1], the width being what the widest line of `longest` digits takes; targets
    `[n, longest + 2]`, tokens: 1 for a 0 to 10 for a 9, then PADDING (-1).
    groups `[n]`, 0 to 19: the pool of digit images that a line was pasted from. Pools share no image, and the splits
    share no pool.

    Digits are drawn evenly and keep their size. Between the 8 by 8 frames of neighbours are -1 to 3 pixels (where two
    share a column, the darker ink shows); each digit sits 0 to 4 pixels from the top, by itself; a line starts
    anywhere from the left edge to where it just fits; all of these are uniform.

    n: lines, rounded down to a multiple of 20.
    shortest, longest: digits in a line; their number is uniform between the two.

    The same on every platform on which NumPy's generators are.
    Reference: of the digits, Alpaydin, Kaynak, Cascading Classifiers, 1998,
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
        """The same lines at every call."""
        return examples(self, self.draw, NAMES)

    def draw(self) -> dict[str, Array]:
        """Inputs, targets and groups; and of each digit its image's number in scikit-learn, its row and its column.

        The latter are `pasted`, `[n, longest, 3]`, and -1 behind the last.
        """
        generator = np.random.default_rng(self.random_state)
        pools, groups = Pools.drawn(generator), pools_of(int(self.n))
        inputs = np.zeros((len(groups), 1, HEIGHT, width_of(self.longest)), np.float32)
        targets = np.full((len(groups), self.longest + ROOM), PADDING)
        pasted = np.full((len(groups), self.longest, 3), -1)
        for row, pool in enumerate(groups):
            digits = generator.integers(10, size=generator.integers(self.shortest, self.longest + 1))
            targets[row, : len(digits)] = digits + 1
            numbers = [pools.pick(pool, digit, generator) for digit in digits]
            places = _places(len(digits), inputs.shape[-1], generator)
            pasted[row, : len(digits)] = np.column_stack([numbers, places])
            for number, (down, across) in zip(numbers, places, strict=True):
                frame = inputs[row, 0, down : down + SIDE, across : across + SIDE]
                np.maximum(frame, pools.images[number], out=frame)
        return {"inputs": inputs, "targets": targets, "groups": groups, "pasted": pasted}


def _places(n: int, width: int, generator: np.random.Generator) -> Array:
    """Row and column of each frame, `[n, 2]`."""
    gaps = generator.integers(NEAREST, WIDEST + 1, n - 1)
    across = np.concatenate([[0], np.cumsum(SIDE + gaps)])
    start = generator.integers(width - SIDE - across[-1] + 1)
    return np.column_stack([generator.integers(HEIGHT - SIDE + 1, size=n), start + across])
