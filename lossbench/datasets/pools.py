"""scikit-learn's handwritten digits in pools that share no image, for data sets that paste digits onto canvases.

Each canvas takes its digits from one pool, and its pool is its group: the engine keeps a group in one split, so no
digit of the test split was ever seen in training.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lossbench.datasets.cache import cached, origin
from lossbench.errors import InvalidValue
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples

N_POOLS = 20
SIDE = 8
"""Height and width of a digit's image."""
DIGITS = (
    "Optical Recognition of Handwritten Digits (its test part), https://doi.org/10.24432/C50P49, CC BY 4.0, as shipped "
    "with scikit-learn"
)
"""Where the digits come from."""
NAMES = tuple("0123456789")


@dataclass(frozen=True)
class Pools:
    """The digits, and which of them each pool holds: 8 to 10 images of each of the ten.

    images: `[1797, 8, 8]` in [0, 1], as scikit-learn numbers them.
    members: for each pool and digit the numbers of its images.
    """

    images: Array
    members: tuple[tuple[Array, ...], ...]

    @staticmethod
    def drawn(generator: np.random.Generator) -> "Pools":
        """The images of each digit are shuffled and dealt to the pools."""
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        images = (pixels / 16).astype(np.float32).reshape(-1, SIDE, SIDE)
        dealt = [np.array_split(generator.permutation(np.flatnonzero(digits == d)), N_POOLS) for d in range(10)]
        return Pools(images, tuple(zip(*dealt, strict=True)))

    def pick(self, pool: int, digit: int, generator: np.random.Generator) -> int:
        """The number of an image of `digit`, each of the pool's being as likely."""
        return int(generator.choice(self.members[pool][digit]))


def pools_of(n: int) -> Array:
    """Which pool each canvas is pasted from: all of them in turn, equally often, so `n` is rounded down for that."""
    return np.arange(n // N_POOLS * N_POOLS) % N_POOLS


def examples(
    dataset: Dataset,
    draw: Callable[[], Mapping[str, Array]],
    class_names: tuple[str, ...] = (),
    libraries: tuple[str, ...] = (),
) -> Examples:
    """The inputs, targets and groups that `draw` draws, from the cache if they are there.

    They are drawn anew when a field of `dataset`, the code or a version changes, be it of one of the further
    `libraries`.
    """
    modules = (sys.modules[name] for name in (__name__, type(dataset).__module__))
    code = origin(*modules, libraries=("numpy", "scikit-learn", *libraries))

    def wanted() -> dict[str, Array]:
        drawn = draw()
        return {name: drawn[name] for name in ("inputs", "targets", "groups")}

    return Examples(**cached([type(dataset).__name__, dataset, code], wanted), class_names=class_names)


def check_within(owner: object, least: int, most: int, **values: object) -> None:
    """Each value must be a whole number from `least` to `most`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidValue(
                f"The {name!r} parameter of {type(owner).__name__} must be an int in the range [{least}, {most}]. "
                f"Got {value!r} instead."
            )
