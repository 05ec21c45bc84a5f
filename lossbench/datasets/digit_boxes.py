"""Handwritten digits on photographs: a data set for boxes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.datasets.digit_pools import DIGITS, N_POOLS, Pools, assign_pools, check_within, load_examples
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count

CROP = 32
"""Height and width of a picture."""
SHRINK = 4
"""The photographs are 427 by 640 pixels: at full size a crop would be a patch of sky or leaf."""
INKED = 0.3
"""A pixel belongs to the digit if ink covers at least this share of it; fainter pixels cannot be seen."""
STRENGTH = 1.5
"""Coverage is grey level times this, at most 1: the thin strokes of the scanned digits are grey."""
BRIGHTNESS = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue (ITU-R BT.601)."""
INKS = ((0.7, 1.0), (0.0, 0.3))
"""The colour channels of a pale and of a dark ink."""
CONTRAST, VISIBLE_SHARE = 0.35, 0.9
"""A digit is visible if ink and background differ in brightness by this much, in this share of its pixels."""
ATTEMPTS = 100


def shrink(photograph: Array) -> Array:
    """Average squares of 4 by 4 pixels: `[H, W, 3]` from 0 to 255 becomes `[H // 4, W // 4, 3]` from 0 to 1."""
    height, width = (size // SHRINK for size in photograph.shape[:2])
    squares = photograph[: height * SHRINK, : width * SHRINK].reshape(height, SHRINK, width, SHRINK, 3)
    return np.asarray(squares.mean((1, 3)) / 255)


def interpolation_weights(n: int, size: int) -> Array:
    """Return weights `[size, n]` that stretch `n` pixels in a row to `size >= n` by linear interpolation.

    >>> interpolation_weights(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    # where the centre of each new pixel lies, in units of old pixels
    centres = ((np.arange(size) + 0.5) * n / size - 0.5).clip(0, n - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(n)))


def find_extent(ink: Array, least: float) -> tuple[slice, slice]:
    """Return the rows and columns that hold all pixels with an ink of at least `least`."""
    rows, columns = (np.flatnonzero((ink >= least).any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def visible_share(background: Array, covered: Array, ink: Array) -> float:
    """Return the share of a digit's pixels in which its ink stands out from the background."""
    differences = np.abs((background[covered >= INKED] - ink) @ BRIGHTNESS)
    return float((differences >= CONTRAST).mean())


@dataclass(frozen=True)
class DigitBoxes(Dataset):
    """The place of a real handwritten digit, of random size, aspect and ink, on a crop of a photograph.

    inputs `[n, 3, 32, 32]` in [0, 1], red, green, blue; targets `[n, 4]`, corners x1, y1, x2, y2 of the digit in
    pixels from the left and top *edge* of the picture: x2 - x1 is its width, and a digit that fills the picture has
    (0, 0, 32, 32). The box is tight around the pixels that ink covers by 0.3 or more.
    groups `[n]`, 0 to 19: the pool of digit images that a digit comes from. Pools share no image, and the splits
    share no pool. They do share the two photographs, which say nothing about the place.

    A digit is cut out and scaled bilinearly: its height is uniform, and its aspect is changed by a factor from 0.7 to
    1.4. Its place is uniform among those where it lies inside the picture. Crop and ink (pale or dark) are drawn until
    their brightness differs by 0.35 in nine of ten of the digit's pixels. After a hundred draws the best one is used.

    n: number of pictures, rounded down to a multiple of 20.
    smallest, largest: height and width in pixels, from 4 to 32; a box may be a few pixels smaller where a digit has a
        faint edge.

    The examples are the same wherever NumPy's generators and the decoding of JPEG files are.
    Reference for the digits: Alpaydin, Kaynak, Cascading Classifiers, 1998,
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
        """Return the pictures; every call returns the same."""
        return load_examples(self, self.draw, libraries=("pillow",))

    def draw(self) -> dict[str, Array]:
        """Draw inputs, targets and groups, and the parts that the pictures are made of.

        pasted: `[n]`, the index of the digit's image in scikit-learn. covered: `[n, 32, 32]`, the share of each pixel
        that ink covers. backgrounds: `[n, 32, 32, 3]`, crops of photographs. inks: `[n, 3]`, colours.
        """
        from sklearn.datasets import load_sample_images

        generator = np.random.default_rng(self.random_state)
        pools, groups = Pools.draw(generator), assign_pools(int(self.n))
        photographs = [shrink(image) for image in load_sample_images().images]
        pasted = np.array([pools.pick(pool, int(generator.integers(10)), generator) for pool in groups])
        covered = np.stack([self._draw_coverage(pools.images[number], generator) for number in pasted])
        scenes = [_draw_scene(photographs, cover, generator) for cover in covered]
        backgrounds, inks = (np.stack(part) for part in zip(*scenes, strict=True))
        extents = [find_extent(cover, INKED) for cover in covered]
        # alpha blending: (1 - covered) background + covered ink
        inputs = backgrounds + covered[..., None] * (inks[:, None, None] - backgrounds)
        return {
            "inputs": inputs.transpose(0, 3, 1, 2).astype(np.float32),
            "targets": np.array([[x.start, y.start, x.stop, y.stop] for y, x in extents], np.float64),
            "groups": groups,
            "pasted": pasted,
            "covered": covered,
            "backgrounds": backgrounds,
            "inks": inks,
        }

    def _draw_coverage(self, image: Array, generator: np.random.Generator) -> Array:
        """Scale a digit, place it, and return the share of each pixel that it covers, `[32, 32]`."""
        # the ink without its margin; the scans have grey levels of 16ths
        digit = np.minimum(1, STRENGTH * image[find_extent(image, 1 / 16)].astype(np.float64))
        height = int(generator.integers(self.smallest, self.largest + 1))
        aspect = digit.shape[1] / digit.shape[0] * np.exp(generator.uniform(np.log(0.7), np.log(1.4)))
        width = int(np.clip(round(height * aspect), self.smallest, self.largest))
        # bilinear: one matrix for the rows, one for the columns
        ink = interpolation_weights(digit.shape[0], height) @ digit @ interpolation_weights(digit.shape[1], width).T
        row, column = generator.integers(CROP - height + 1), generator.integers(CROP - width + 1)
        covered = np.zeros((CROP, CROP))
        # rounded to whole 255ths: the last digit of a matrix product differs between processors
        covered[row : row + height, column : column + width] = np.round(ink * 255) / 255
        return covered


def _draw_scene(photographs: list[Array], covered: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Draw a background `[32, 32, 3]` and an ink `[3]` that stands out from it where the digit is."""
    best_share, best = -1.0, None
    attempts = ATTEMPTS
    while best is None or (best_share < VISIBLE_SHARE and attempts):
        attempts -= 1
        photograph = photographs[generator.integers(len(photographs))]
        row, column = (generator.integers(size - CROP + 1) for size in photograph.shape[:2])
        crop = photograph[row : row + CROP, column : column + CROP]
        ink = generator.uniform(*INKS[generator.integers(len(INKS))], 3)
        if (share := visible_share(crop, covered, ink)) > best_share:
            best_share, best = share, (crop, ink)
    return best
