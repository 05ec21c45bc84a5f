"""Public data sets of small images in classes, read and downloaded by torchvision."""

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossbench.datasets.downloads import Download, File, data_folder
from lossbench.datasets.subsets import subset
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count


@dataclass(frozen=True)
class _Images(Dataset):
    """What these data sets share: their fields, and how they are loaded."""

    tasks: ClassVar[tuple[str, ...]] = ("multiclass",)
    public: ClassVar[bool] = True
    reader: ClassVar[str]
    """Its class in torchvision.datasets."""

    root: str = field(default="", compare=False)
    download: bool = field(default=True, compare=False)
    n: int = 0
    n_test: int = 0
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, least=0, n=self.n, n_test=self.n_test, random_state=self.random_state)

    def load(self) -> Examples:
        """The training rows, then the test rows; raises `Unavailable` where files are missing or damaged."""
        import torchvision

        reader, folder = getattr(torchvision.datasets, self.reader), data_folder(self.root)
        files = self.files(reader, folder)
        files.ensure(self.download)
        with files.read():
            train, test = (reader(str(folder), train=part) for part in (True, False))
            _check_lengths(train, test)
        parts = self._some(train, "n"), self._some(test, "n_test")
        # torchvision calls the digits "0 - zero"
        return _examples(parts, tuple(name.split(" - ")[0] for name in train.classes))

    def _some(self, part: Any, which: str) -> tuple[Array, Array]:
        targets = np.asarray(part.targets, dtype=np.int64)
        rows = subset(targets, getattr(self, which), self.random_state, which)
        return np.asarray(part.data)[rows], targets[rows]

    @abstractmethod
    def files(self, reader: Any, folder: Path) -> Download:
        """The files that torchvision's `reader` wants below `folder`."""


def _check_lengths(*parts: Any) -> None:
    for part in parts:
        if len(part.data) != len(part.targets):
            raise ValueError(f"{len(part.data)} images and {len(part.targets)} labels")


def _examples(parts: tuple[tuple[Array, Array], ...], class_names: tuple[str, ...]) -> Examples:
    """One array from bytes `[n, H, W]` or `[n, H, W, C]` of each part, without a copy of the numbers on the way."""
    (train, _), (test, _) = parts
    shape = train.shape[1:] if train.ndim == 4 else (*train.shape[1:], 1)
    inputs = np.empty((len(train) + len(test), shape[2], *shape[:2]), np.float32)
    for pixels, rows in ((train, inputs[: len(train)]), (test, inputs[len(train) :])):
        np.divide(pixels.reshape(-1, *shape).transpose(0, 3, 1, 2), 255, out=rows, dtype=np.float32)
    targets = np.concatenate([labels for _, labels in parts])
    return Examples(inputs, targets, class_names, test=np.arange(len(train), len(inputs)))


def _idx_files(reader: Any, folder: Path) -> Download:
    """Of MNIST and its like: four archives of one file each."""
    raw = folder / reader.__name__ / "raw"
    archives = tuple(File(raw / name, md5, f"{reader.mirrors[0]}{name}") for name, md5 in reader.resources)
    files = tuple(File(f.path.with_suffix("")) for f in archives)
    return Download(reader.__name__, archives, files, partial(reader, str(folder), download=True))


def _batch_files(reader: Any, folder: Path) -> Download:
    """Of CIFAR: one archive of pickled batches."""
    archive = File(folder / reader.filename, reader.tgz_md5, reader.url)
    named = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    files = tuple(File(folder / reader.base_folder / name, md5) for name, md5 in named)
    return Download(reader.__name__, (archive,), files, partial(reader, str(folder), download=True))


@dataclass(frozen=True)
class MNIST(_Images):
    """Handwritten digits in 70,000 grey images of 28 by 28 pixels.

    inputs `[60000 + 10000, 1, 28, 28]` in [0, 1]; targets `[70000]`, the digit, 5421 to 6742 of each in the training
    rows. The last 10,000 rows are the test split, by other writers. A download of 12 MB, 55 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether what is missing there may be downloaded.
    n, n_test: this many training and test rows, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer rows.
    Reference: LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, 1998,
    https://doi.org/10.1109/5.726791
    """

    source: ClassVar[str] = "http://yann.lecun.com/exdb/mnist/, CC BY-SA 3.0 (as Keras documents it), by torchvision"
    reader: ClassVar[str] = "MNIST"

    def files(self, reader: Any, folder: Path) -> Download:
        """Below `MNIST/raw`."""
        return _idx_files(reader, folder)


@dataclass(frozen=True)
class FashionMNIST(_Images):
    """Articles of clothing of ten kinds in 70,000 grey images of 28 by 28 pixels: a harder MNIST.

    inputs `[60000 + 10000, 1, 28, 28]` in [0, 1]; targets `[70000]`, 6,000 of each class in the training rows. The last
    10,000 rows are the test split. A download of 31 MB, 55 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether what is missing there may be downloaded.
    n, n_test: this many training and test rows, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer rows.
    Reference: Xiao, Rasul, Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
    2017, https://arxiv.org/abs/1708.07747
    """

    source: ClassVar[str] = "https://github.com/zalandoresearch/fashion-mnist, MIT licence, by torchvision"
    reader: ClassVar[str] = "FashionMNIST"

    def files(self, reader: Any, folder: Path) -> Download:
        """Below `FashionMNIST/raw`."""
        return _idx_files(reader, folder)


@dataclass(frozen=True)
class CIFAR10(_Images):
    """Animals and vehicles of ten kinds in 60,000 colour images of 32 by 32 pixels.

    inputs `[50000 + 10000, 3, 32, 32]` in [0, 1], red, green, blue; targets `[60000]`, 5,000 of each class in the
    training rows. The last 10,000 rows are the test split. A download of 170 MB, 186 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether what is missing there may be downloaded.
    n, n_test: this many training and test rows, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer rows.
    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
    """

    source: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html, by torchvision; no licence is stated"
    reader: ClassVar[str] = "CIFAR10"

    def files(self, reader: Any, folder: Path) -> Download:
        """Below `cifar-10-batches-py`."""
        return _batch_files(reader, folder)


@dataclass(frozen=True)
class CIFAR100(_Images):
    """Animals, plants, people and things of a hundred kinds in 60,000 colour images of 32 by 32 pixels.

    inputs `[50000 + 10000, 3, 32, 32]` in [0, 1], red, green, blue; targets `[60000]`, 500 of each class in the
    training rows. The last 10,000 rows are the test split. A download of 169 MB, 186 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether what is missing there may be downloaded.
    n, n_test: this many training and test rows, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer rows.
    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
    """

    tasks: ClassVar[tuple[str, ...]] = ("multiclass", "embedding")
    source: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html, by torchvision; no licence is stated"
    reader: ClassVar[str] = "CIFAR100"

    def files(self, reader: Any, folder: Path) -> Download:
        """Below `cifar-100-python`."""
        return _batch_files(reader, folder)
