"""scikit-learn's handwritten digits in pools that share no image, for data sets that paste digits onto canvases.

Each canvas takes its digits from one pool, and its pool is its group: the engine keeps a group in one split, so no
digit of the test split was ever seen in training.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lossbench.datasets.cache import list_code_versions, load_or_compute
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
"""The source of the digits."""
NAMES = tuple("0123456789")


@dataclass(frozen=True)
class Pools:
    """The images of the digits, dealt to 20 pools: each pool has 8 to 10 images of each digit.

    images: `[1797, 8, 8]` in [0, 1], as scikit-learn numbers them.
    members: for each pool and digit the indices of its images.
    """

    images: Array
    members: tuple[tuple[Array, ...], ...]

    @staticmethod
    def draw(generator: np.random.Generator) -> "Pools":
        """Shuffle the images of each digit and deal them to the pools."""
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        images = (pixels / 16).astype(np.float32).reshape(-1, SIDE, SIDE)
        # [10 digits][20 pools], then transposed
        by_digit = [np.array_split(generator.permutation(np.flatnonzero(digits == d)), N_POOLS) for d in range(10)]
        return Pools(images, tuple(zip(*by_digit, strict=True)))

    def pick(self, pool: int, digit: int, generator: np.random.Generator) -> int:
        """Return the index of an image of `digit`; all images of the pool are equally likely."""
        return int(generator.choice(self.members[pool][digit]))


def assign_pools(n: int) -> Array:
    """Return the pool of each canvas: the pools take turns, and `n` is rounded down to a multiple of their number."""
    return np.arange(n // N_POOLS * N_POOLS) % N_POOLS


def load_examples(
    dataset: Dataset,
    draw: Callable[[], Mapping[str, Array]],
    class_names: tuple[str, ...] = (),
    libraries: tuple[str, ...] = (),
) -> Examples:
    """Return the inputs, targets and groups that `draw` draws, from the cache if they are there.

    They are drawn anew when a field of `dataset`, the code, or the version of a library changes; `libraries` are those
    used besides NumPy and scikit-learn.
    """
    modules = (sys.modules[name] for name in (__name__, type(dataset).__module__))
    code = list_code_versions(*modules, libraries=("numpy", "scikit-learn", *libraries))

    def compute() -> dict[str, Array]:
        arrays = draw()  # tests look at further arrays, which are not cached
        return {name: arrays[name] for name in ("inputs", "targets", "groups")}

    return Examples(**load_or_compute([type(dataset).__name__, dataset, code], compute), class_names=class_names)


def check_within(owner: object, least: int, most: int, **values: object) -> None:
    """Raise `InvalidValue` unless each value is a whole number from `least` to `most`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidValue(
                f"The {name!r} parameter of {type(owner).__name__} must be an int in the range [{least}, {most}]. "
                f"Got {value!r} instead."
            )
