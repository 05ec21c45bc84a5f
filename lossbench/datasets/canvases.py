"""Several handwritten digits on one canvas: which of them are there?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.datasets.pools import DIGITS, N_POOLS, NAMES, SIDE, Pools, check_within, examples, pools_of
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_at_least, check_count

CANVAS = 24
"""Height and width of a canvas."""
MOST = 4
"""Digits that surely find room, see `free`."""


def shares(imbalance: float) -> Array:
    """How often each digit is drawn, `[10]`: falling geometrically, the first `imbalance` times as often as the last.

    >>> (shares(100.0)[[0, 9]] / shares(100.0)[9]).round(6).tolist()
    [100.0, 1.0]
    """
    weights = imbalance ** -np.linspace(0, 1, 10)
    return weights / weights.sum()


def free(canvas: Array, image: Array) -> Array:
    """Row and column `[places, 2]` of every place where no pixel that `image` inks is inked on the canvas already.

    There is one for up to four digits: none covers more than one corner of the canvas, and there are four.
    """
    windows = np.lib.stride_tricks.sliding_window_view(canvas > 0, (SIDE, SIDE))  # [17, 17, 8, 8]
    return np.argwhere(~windows[:, :, image > 0].any(-1))


@dataclass(frozen=True)
class DigitCanvases(Dataset):
    r"""Which digits are on a canvas of 24 by 24 pixels, with one to four real handwritten digits at random places.

    inputs `[n, 1, 24, 24]` in [0, 1]; targets `[n, 10]` of 0 and 1, whether 0, ..., 9 is there, once or more often.
    groups `[n]`, 0 to 19: the pool of digit images that a canvas was pasted from. Pools share no image, and the splits
    share no pool.

    Digits keep their size. A digit goes to any place, all as likely, where none of its inked pixels is inked already:
    digits may touch and reach into each other, and none hides a part of another.

    n: canvases, rounded down to a multiple of 20.
    digits: the most on a canvas, up to 4; their number is uniform from 1 to it.
    imbalance: how many times as often a 0 is drawn as a 9, digit d with probability proportional to
        :math:`\mathrm{imbalance}^{-d/9}`. Labels are a little more even, as a second 0 on a canvas adds none.

    The same on every platform on which NumPy's generators are.
    Reference: of the digits, Alpaydin, Kaynak, Cascading Classifiers, 1998,
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
        check_within(self, 1, MOST, digits=self.digits)
        check_at_least(self, 1, imbalance=self.imbalance)
        check_count(self, least=0, random_state=self.random_state)

    def load(self) -> Examples:
        """The same canvases at every call."""
        return examples(self, self.draw, NAMES)

    def draw(self) -> dict[str, Array]:
        """Inputs, targets and groups; and of each digit its image's number in scikit-learn, its row and its column.

        The latter are `pasted`, `[n, digits, 3]`, and -1 behind the last.
        """
        generator = np.random.default_rng(self.random_state)
        pools, groups = Pools.drawn(generator), pools_of(int(self.n))
        inputs = np.zeros((len(groups), 1, CANVAS, CANVAS), np.float32)
        targets = np.zeros((len(groups), 10), np.int64)
        pasted = np.full((len(groups), self.digits, 3), -1)
        for row, pool in enumerate(groups):
            digits = generator.choice(10, generator.integers(1, self.digits + 1), p=shares(self.imbalance))
            targets[row, digits] = 1
            for place, digit in enumerate(digits):
                number = pools.pick(pool, digit, generator)
                pasted[row, place] = number, *_paste(inputs[row, 0], pools.images[number], generator)
        return {"inputs": inputs, "targets": targets, "groups": groups, "pasted": pasted}


def _paste(canvas: Array, image: Array, generator: np.random.Generator) -> Array:
    """Ink `canvas` with an image; where, `[2]`."""
    place: Array = generator.choice(free(canvas, image))
    down, across = place
    canvas[down : down + SIDE, across : across + SIDE] += image
    return place
