"""Canvases with several handwritten digits: a multilabel data set."""

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
from lossbench.types import Array, Examples
from lossbench.validation import check_at_least, check_count

CANVAS = 24
"""Height and width of a canvas."""
MOST_DIGITS = 4
"""So many digits always find room: see `find_free_places`."""


def digit_probabilities(imbalance: float) -> Array:
    """Return probabilities `[10]` that fall geometrically: 0 is `imbalance` times as likely as 9.

    >>> (digit_probabilities(100.0)[[0, 9]] / digit_probabilities(100.0)[9]).round(6).tolist()
    [100.0, 1.0]
    """
    weights = imbalance ** -np.linspace(0, 1, 10)
    return weights / weights.sum()


def find_free_places(canvas: Array, image: Array) -> Array:
    """Return row and column `[places, 2]` of every place where the ink of `image` meets no ink on the canvas.

    There always is one for up to four digits: a digit covers at most one of the canvas's four corners.
    """
    windows = np.lib.stride_tricks.sliding_window_view(canvas > 0, (SIDE, SIDE))  # [17, 17, 8, 8]
    return np.argwhere(~windows[:, :, image > 0].any(-1))


@dataclass(frozen=True)
class DigitCanvases(Dataset):
    r"""Canvases of 24 by 24 pixels with one to four real handwritten digits at random places: which ones are there?

    inputs `[n, 1, 24, 24]` in [0, 1]; targets `[n, 10]`: 1 for each of the digits 0, ..., 9 that is there,
    once or more often, else 0.
    groups `[n]`, 0 to 19: the pool of digit images that a canvas was pasted from. Pools share no image, and the splits
    share no pool.

    Digits keep their size. The place of a digit is drawn evenly from those where its ink meets no other ink: digits may
    touch and interlock, but none hides a part of another.

    n: number of canvases, rounded down to a multiple of 20.
    digits: the largest number of digits on a canvas, up to 4; the number is uniform from 1 to this.
    imbalance: a 0 is drawn so many times as often as a 9; the probability of digit d is proportional to
        :math:`\mathrm{imbalance}^{-d/9}`. Labels are a little more even, as a second 0 on a canvas adds no label.

    The examples are the same on every platform on which NumPy's generators are.
    Reference for the digits: Alpaydin, Kaynak, Cascading Classifiers, 1998,
    https://www.kybernetika.cz/content/1998/4/369
    """

    tasks: ClassVar[tuple[str, ...]] = ("multilabel",)
    source: ClassVar[str] = f"pasted from: {DIGITS}"

    n: int = 4000
    digits: int = 4
    imbalance: float = 1.0
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, least=N_POOLS, n=self.n)
        check_within(self, 1, MOST_DIGITS, digits=self.digits)
        check_at_least(self, 1, imbalance=self.imbalance)
        check_count(self, least=0, random_state=self.random_state)

    def load(self) -> Examples:
        """Return the canvases; every call returns the same."""
        return load_examples(self, self.draw, NAMES)

    def draw(self) -> dict[str, Array]:
        """Draw inputs, targets and groups, and record in `pasted` where each digit comes from.

        pasted: `[n, digits, 3]`, the index of the digit's image in scikit-learn, its row and its column on the canvas;
            -1 after the last digit.
        """
        generator = np.random.default_rng(self.random_state)
        pools, groups = Pools.draw(generator), assign_pools(int(self.n))
        inputs = np.zeros((len(groups), 1, CANVAS, CANVAS), np.float32)
        targets = np.zeros((len(groups), 10), np.int64)
        pasted = np.full((len(groups), self.digits, 3), -1)
        for i, pool in enumerate(groups):
            digits = generator.choice(10, generator.integers(1, self.digits + 1), p=digit_probabilities(self.imbalance))
            targets[i, digits] = 1
            canvas = inputs[i, 0]  # a view
            for j, digit in enumerate(digits):
                index = pools.pick(pool, digit, generator)
                image = pools.images[index]
                row, column = generator.choice(find_free_places(canvas, image))
                canvas[row : row + SIDE, column : column + SIDE] += image
                pasted[i, j] = index, row, column
        return {"inputs": inputs, "targets": targets, "groups": groups, "pasted": pasted}
