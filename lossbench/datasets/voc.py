"""Photographs and the box of the largest object in each: Pascal VOC, read and downloaded by torchvision."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossbench.datasets.cache import list_code_versions, load_or_compute
from lossbench.datasets.downloads import Download, File, get_data_folder
from lossbench.datasets.subsets import draw_subset
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_choice, check_count

YEARS = (2007, 2009, 2010, 2011, 2012)
"""Without 2008: torchvision gives its archive the name of 2012's and would overwrite one with the other."""
PARTS = ("train", "val")


@dataclass(frozen=True)
class VOC(Dataset):
    """Photographs of everyday scenes, and the box of the largest object: 11,540 of them in 2012.

    inputs `[N, 3, size, size]` in [0, 1], stretched to a square by bilinear interpolation with antialiasing (the
    photographs are about 500 by 375). targets `[N, 4]`: corners x1, y1, x2, y2 in pixels of the stretched image, from 0
    at its left and upper edges to `size`, of the object with the largest box among those that are not marked as
    difficult; a photograph that has none is left out. Examples of the year's "train" set come first; its "val" set is
    the test split, as the targets of its own test set are not published for most years. In 2012 that is 5,717 and 5,823
    photographs, a download of 2.0 GB.

    root: the folder that holds `VOCdevkit`, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether missing files may be downloaded.
    year: 2007, 2009, 2010, 2011 or 2012.
    n, n_test: number of training and test examples, drawn by `random_state`; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer examples.
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
        """Return "train", then "val"; raises `Unavailable` where files are missing or damaged."""
        folder = get_data_folder(self.root)
        files = self._list_files(folder)
        files.ensure(self.download)
        with files.read():
            train, test = (self._load_part(folder, part) for part in PARTS)
        train, test = self._draw(train, "n"), self._draw(test, "n_test")
        pixels, boxes = (np.concatenate([train[key], test[key]]) for key in ("pixels", "boxes"))
        inputs = np.divide(pixels, 255, dtype=np.float32)
        return Examples(inputs, boxes, test=np.arange(len(train["boxes"]), len(boxes)))

    def _draw(self, part: Mapping[str, Array], field: str) -> dict[str, Array]:
        """Draw as many examples of a part as `field` says."""
        no_classes = np.zeros(len(part["boxes"]))
        indices = draw_subset(no_classes, getattr(self, field), self.random_state, field)
        return {key: array[indices] for key, array in part.items()}

    def _list_files(self, folder: Path) -> Download:
        from torchvision.datasets import VOCDetection
        from torchvision.datasets.voc import DATASET_YEAR_DICT

        entry = DATASET_YEAR_DICT[str(self.year)]
        archive = File(folder / entry["filename"], entry["md5"], entry["url"])
        files = tuple(map(File, _iterate_paths(folder / entry["base_dir"])))
        unpack = partial(VOCDetection, str(folder), str(self.year), download=True)
        return Download(f"VOC {self.year}", (archive,), files, unpack)

    def _load_part(self, folder: Path, part: str) -> dict[str, Array]:
        """Return bytes `[N, 3, size, size]` and corners `[N, 4]`; they are cached until one of the files changes."""
        from torchvision.datasets import VOCDetection

        photographs = VOCDetection(str(folder), str(self.year), part)
        files = [Path(name) for name in (*photographs.images, *photographs.annotations)]
        # times and sizes instead of checksums: there are thousands of files
        versions = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        code = list_code_versions(sys.modules[__name__], libraries=("numpy", "pillow", "torchvision"))
        return load_or_compute(["voc", self.size, versions, code], lambda: _read(photographs, self.size))


def _iterate_paths(base: Path) -> Iterator[Path]:
    """Yield the lists of names and, if those are there, the photographs and annotations that they name."""
    for part in PARTS:
        names = base / "ImageSets" / "Main" / f"{part}.txt"
        yield names
        for name in names.read_text().split() if names.is_file() else ():
            yield base / "JPEGImages" / f"{name}.jpg"
            yield base / "Annotations" / f"{name}.xml"


def _read(photographs: Any, size: int) -> dict[str, Array]:
    from PIL.Image import Resampling

    pixels, boxes = [], []
    for i, path in enumerate(photographs.images):
        try:
            image, description = photographs[i]
        except (OSError, SyntaxError) as error:  # from Pillow and from the XML parser
            raise ValueError(f"{Path(path).name} or its annotation: {error}") from error
        box = find_largest_box(description["annotation"])
        if box is not None:
            stretched = image.resize((size, size), Resampling.BILINEAR)
            pixels.append(np.asarray(stretched).transpose(2, 0, 1))  # [3, size, size]
            boxes.append(box * size / np.tile(image.size, 2))  # image.size is (width, height)
    return {
        "pixels": np.array(pixels, np.uint8).reshape(-1, 3, size, size),
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
    }


def find_largest_box(annotation: Mapping[str, Any]) -> Array | None:
    """Return the corners `[4]` of the largest box that is not difficult, in pixels from 0; None if there is none.

    annotation: as torchvision parses it.
    """
    easy = [item["bndbox"] for item in annotation["object"] if item.get("difficult", "0") != "1"]
    # VOC counts pixels from 1 and includes the last one: edges are min - 1 and max
    boxes = [np.array([float(b["xmin"]) - 1, float(b["ymin"]) - 1, float(b["xmax"]), float(b["ymax"])]) for b in easy]
    return max(boxes, key=lambda b: float(np.prod(b[2:] - b[:2])), default=None)
