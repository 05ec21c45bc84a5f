"""A handwritten digit on a photograph: where is it?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.datasets.pools import DIGITS, N_POOLS, Pools, check_within, examples, pools_of
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count

CROP = 32
"""Height and width of a picture."""
SHRINK = 4
"""The photographs are 427 by 640: a crop of them as they are would be a patch of sky or leaf."""
INKED = 0.3
"""A pixel belongs to the digit if its ink covers at least this share of it; fainter ones cannot be seen."""
STRENGTH = 1.5
"""Thin strokes of the scanned digits are grey: ink covers so much more than they say, if not all."""
BRIGHTNESS = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue (ITU-R BT.601)."""
INKS = ((0.7, 1.0), (0.0, 0.3))
"""The colour channels of a pale and of a dark ink."""
CONTRAST, CLEAR = 0.35, 0.9
"""A digit can be found if ink and background differ in brightness by this much, in this share of its pixels."""
ATTEMPTS = 100


def shrunk(photograph: Array) -> Array:
    """`[H, W, 3]` of 0 to 255 to `[H // 4, W // 4, 3]` of 0 to 1: the mean of each square."""
    height, width = (size // SHRINK for size in photograph.shape[:2])
    squares = photograph[: height * SHRINK, : width * SHRINK].reshape(height, SHRINK, width, SHRINK, 3)
    return np.asarray(squares.mean((1, 3)) / 255)


def between(n: int, size: int) -> Array:
    """Weights `[size, n]` that turn `n` pixels in a row into `size >= n` by linear interpolation.

    >>> between(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    centres = ((np.arange(size) + 0.5) * n / size - 0.5).clip(0, n - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(n)))


def extent(ink: Array, least: float) -> tuple[slice, slice]:
    """Rows and columns of the pixels with at least so much ink."""
    down, across = (np.flatnonzero((ink >= least).any(axis)) for axis in (1, 0))
    return slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)


def clear(background: Array, covered: Array, ink: Array) -> float:
    """The share of a digit's pixels in which its ink can be told from what is below."""
    differences = np.abs((background[covered >= INKED] - ink) @ BRIGHTNESS)
    return float((differences >= CONTRAST).mean())


@dataclass(frozen=True)
class DigitBoxes(Dataset):
    """Where on a crop of a photograph a real handwritten digit is, of random size, aspect and ink.

    inputs `[n, 3, 32, 32]` in [0, 1], red, green, blue; targets `[n, 4]`, corners x1, y1, x2, y2 of the digit in
    pixels from the left and top *edge* of the picture: x2 - x1 is its width, and a digit that fills the picture has
    (0, 0, 32, 32). The box is tight around the pixels that ink covers by 0.3 or more.
    groups `[n]`, 0 to 19: the pool of digit images that a digit was taken from. Pools share no image, and the splits
    share no pool. They do share the two photographs, which tell nothing about the place.

    A digit is cut out, scaled (bilinearly) to a uniform height and, from 0.7 to 1.4 times, its own aspect, and put to a
    uniform place where it is whole. Crop and ink, pale or dark, are drawn until their brightness differs by 0.35 below
    nine in ten of the digit's pixels (a hundred times at most, and then the best is taken).

    n: pictures, rounded down to a multiple of 20.
    smallest, largest: height and width in pixels, from 4 to 32; a box may be a few less, where a digit's rim is faint.

    The same wherever NumPy's generators and the decoding of JPEG files are.
    Reference: of the digits, Alpaydin, Kaynak, Cascading Classifiers, 1998,
    https://www.kybernetika.cz/content/1998/4/369
    """

    tasks: ClassVar[tuple[str, ...]] = ("boxes",)
    source: ClassVar[str] = (
        f"pasted from: {DIGITS}; and its photographs china.jpg "
        "(https://www.flickr.com/photos/danielbuechele/6061409035, danielbuechele) and flower.jpg "
        "(https://www.flickr.com/photos/vultilion/6056698931, vultilion), both CC BY 2.0"
    )

    n: int = 4000
    smallest: int = 8
    largest: int = 20
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, least=N_POOLS, n=self.n)
        check_within(self, 4, CROP, largest=self.largest)
        check_within(self, 4, self.largest, smallest=self.smallest)
        check_count(self, least=0, random_state=self.random_state)

    def load(self) -> Examples:
        """The same pictures at every call."""
        return examples(self, self.draw, libraries=("pillow",))

    def draw(self) -> dict[str, Array]:
        """Inputs, targets and groups; and of each picture its digit's number in scikit-learn, `pasted` `[n]`.

        Besides `covered` `[n, 32, 32]`, the share of each pixel that ink covers, `backgrounds` `[n, 32, 32, 3]` and
        `inks` `[n, 3]`, their colours.
        """
        from sklearn.datasets import load_sample_images

        generator = np.random.default_rng(self.random_state)
        pools, groups = Pools.drawn(generator), pools_of(int(self.n))
        photographs = [shrunk(image) for image in load_sample_images().images]
        pasted = np.array([pools.pick(pool, int(generator.integers(10)), generator) for pool in groups])
        covered = np.stack([self._covered(pools.images[number], generator) for number in pasted])
        scenes = [_scene(photographs, cover, generator) for cover in covered]
        backgrounds, inks = (np.stack(part) for part in zip(*scenes, strict=True))
        inputs = backgrounds + covered[..., None] * (inks[:, None, None] - backgrounds)
        return {
            "inputs": inputs.transpose(0, 3, 1, 2).astype(np.float32),
            "targets": np.stack([_corners(cover) for cover in covered]),
            "groups": groups,
            "pasted": pasted,
            "covered": covered,
            "backgrounds": backgrounds,
            "inks": inks,
        }

    def _covered(self, image: Array, generator: np.random.Generator) -> Array:
        """The share of each pixel of a picture that the digit covers, `[32, 32]`."""
        digit = np.minimum(1, STRENGTH * image[extent(image, 1 / 16)].astype(np.float64))
        height = int(generator.integers(self.smallest, self.largest + 1))
        aspect = digit.shape[1] / digit.shape[0] * np.exp(generator.uniform(np.log(0.7), np.log(1.4)))
        width = int(np.clip(round(height * aspect), self.smallest, self.largest))
        ink = between(digit.shape[0], height) @ digit @ between(digit.shape[1], width).T
        down, across = generator.integers(CROP - height + 1), generator.integers(CROP - width + 1)
        covered = np.zeros((CROP, CROP))
        # in whole 255ths, as the last digit of a product differs between processors
        covered[down : down + height, across : across + width] = np.round(ink * 255) / 255
        return covered


def _scene(photographs: list[Array], covered: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """A background `[32, 32, 3]` and an ink `[3]` that can be told from it where it covers it."""
    share, best = -1.0, None
    attempts = ATTEMPTS
    while best is None or (share < CLEAR and attempts):
        attempts -= 1
        crop = _crop(photographs[generator.integers(len(photographs))], generator)
        ink = generator.uniform(*INKS[generator.integers(len(INKS))], 3)
        if (found := clear(crop, covered, ink)) > share:
            share, best = found, (crop, ink)
    return best


def _crop(photograph: Array, generator: np.random.Generator) -> Array:
    """A random square, `[32, 32, 3]`."""
    down, across = (generator.integers(size - CROP + 1) for size in photograph.shape[:2])
    return photograph[down : down + CROP, across : across + CROP]


def _corners(covered: Array) -> Array:
    """x1, y1, x2, y2 of the inked pixels' outer edges."""
    down, across = extent(covered, INKED)
    return np.array([across.start, down.start, across.stop, down.stop], np.float64)
