"""Photographs and the box of the largest object in each: Pascal VOC, read and downloaded by torchvision."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossbench.datasets.cache import cached, origin
from lossbench.datasets.downloads import Download, File, data_folder
from lossbench.datasets.subsets import subset
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_choice, check_count

YEARS = (2007, 2009, 2010, 2011, 2012)
"""Not 2008: torchvision gives its archive the name of 2012's, and would download one over the other."""
PARTS = ("train", "val")


@dataclass(frozen=True)
class VOC(Dataset):
    """Photographs of everyday scenes, and the box of the largest object: 11,540 of them in 2012.

    inputs `[N, 3, size, size]` in [0, 1], stretched to a square by bilinear interpolation with antialiasing (the
    photographs are about 500 by 375). targets `[N, 4]`: corners x1, y1, x2, y2 in pixels of the stretched image, from 0
    at its left and upper edges to `size`, of the object with the largest box among those that are not marked as
    difficult; a photograph that has none is left out. Rows of the year's "train" set come first; its "val" set is the
    test split, as the targets of its own test set are not published for most years. In 2012 that is 5,717 and 5,823
    photographs, a download of 2.0 GB.

    root: the folder that holds `VOCdevkit`, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether what is missing there may be downloaded.
    year: 2007, 2009, 2010, 2011 or 2012.
    n, n_test: this many training and test rows, drawn by `random_state`; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer rows.
    Reference: Everingham, Van Gool, Williams, Winn, Zisserman, The Pascal Visual Object Classes (VOC) Challenge, 2010,
    https://doi.org/10.1007/s11263-009-0275-4
    """

    tasks: ClassVar[tuple[str, ...]] = ("boxes",)
    public: ClassVar[bool] = True
    source: ClassVar[str] = (
        "http://host.robots.ox.ac.uk/pascal/VOC/, by torchvision; no licence is stated, and the photographs, from "
        "flickr, are subject to its terms of use"
    )

    root: str = field(default="", compare=False)
    download: bool = field(default=True, compare=False)
    year: int = 2012
    size: int = 64
    n: int = 0
    n_test: int = 0
    random_state: int = 0

    def __post_init__(self) -> None:
        check_choice(self, map(str, YEARS), year=str(self.year))
        check_count(self, least=8, size=self.size)
        check_count(self, least=0, n=self.n, n_test=self.n_test, random_state=self.random_state)

    def load(self) -> Examples:
        """The rows of "train", then those of "val"; raises `Unavailable` where files are missing or damaged."""
        folder = data_folder(self.root)
        files = self._files(folder)
        files.ensure(self.download)
        with files.read():
            train, test = (self._part(folder, part) for part in PARTS)
        train, test = self._some(train, "n"), self._some(test, "n_test")
        pixels, boxes = (np.concatenate([train[key], test[key]]) for key in ("pixels", "boxes"))
        inputs = np.divide(pixels, 255, dtype=np.float32)
        return Examples(inputs, boxes, test=np.arange(len(train["boxes"]), len(boxes)))

    def _some(self, part: Mapping[str, Array], which: str) -> dict[str, Array]:
        alike = np.zeros(len(part["boxes"]))
        rows = subset(alike, getattr(self, which), self.random_state, which)
        return {key: array[rows] for key, array in part.items()}

    def _files(self, folder: Path) -> Download:
        from torchvision.datasets import VOCDetection
        from torchvision.datasets.voc import DATASET_YEAR_DICT

        found = DATASET_YEAR_DICT[str(self.year)]
        archive = File(folder / found["filename"], found["md5"], found["url"])
        files = tuple(map(File, _wanted(folder / found["base_dir"])))
        unpack = partial(VOCDetection, str(folder), str(self.year), download=True)
        return Download(f"VOC {self.year}", (archive,), files, unpack)

    def _part(self, folder: Path, part: str) -> dict[str, Array]:
        """Bytes `[N, 3, size, size]` and corners `[N, 4]`, read once for these files and kept."""
        from torchvision.datasets import VOCDetection

        photographs = VOCDetection(str(folder), str(self.year), part)
        files = [Path(name) for name in (*photographs.images, *photographs.annotations)]
        versions = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        code = origin(sys.modules[__name__], libraries=("numpy", "pillow", "torchvision"))
        return cached(["voc", self.size, versions, code], lambda: _read(photographs, self.size))


def _wanted(base: Path) -> Iterator[Path]:
    """The lists of names; once those are there, also the photographs and annotations that they name."""
    for part in PARTS:
        names = base / "ImageSets" / "Main" / f"{part}.txt"
        yield names
        for name in names.read_text().split() if names.is_file() else ():
            yield base / "JPEGImages" / f"{name}.jpg"
            yield base / "Annotations" / f"{name}.xml"


def _read(photographs: Any, size: int) -> dict[str, Array]:
    from PIL.Image import Resampling

    pixels, boxes = [], []
    for image, description in _each(photographs):
        box = largest(description["annotation"])
        if box is not None:
            stretched = image.resize((size, size), Resampling.BILINEAR)
            pixels.append(np.asarray(stretched).transpose(2, 0, 1))
            boxes.append(box * size / np.tile(image.size, 2))
    return {
        "pixels": np.array(pixels, np.uint8).reshape(-1, 3, size, size),
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
    }


def _each(photographs: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    for i, path in enumerate(photographs.images):
        try:
            yield photographs[i]
        except (OSError, SyntaxError) as error:  # what Pillow and the XML parser raise
            raise ValueError(f"{Path(path).name} or its annotation: {error}") from error


def largest(annotation: Mapping[str, Any]) -> Array | None:
    """Corners `[4]` of the object with the largest box that is not difficult, in pixels from 0; None without one.

    annotation: as torchvision parses it. VOC counts pixels from 1 and has a box end with its last one.
    """
    easy = [one["bndbox"] for one in annotation["object"] if one.get("difficult", "0") != "1"]
    boxes = [np.array([float(b["xmin"]) - 1, float(b["ymin"]) - 1, float(b["xmax"]), float(b["ymax"])]) for b in easy]
    return max(boxes, key=lambda b: float(np.prod(b[2:] - b[:2])), default=None)
