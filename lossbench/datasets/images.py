"""Public data sets of small images in classes, read and downloaded by torchvision."""

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossbench.datasets.downloads import Download, File, get_data_folder
from lossbench.datasets.subsets import draw_subset
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count


@dataclass(frozen=True)
class _Images(Dataset):
    """Labelled images that torchvision reads: the fields of these data sets, and `load`."""

    tasks: ClassVar[tuple[str, ...]] = ("multiclass",)
    public: ClassVar[bool] = True
    reader: ClassVar[str]
    """The name of the class in torchvision.datasets."""

    root: str = field(default="", compare=False)
    download: bool = field(default=True, compare=False)
    n: int = 0
    n_test: int = 0
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, least=0, n=self.n, n_test=self.n_test, random_state=self.random_state)

    def load(self) -> Examples:
        """Return the training, then the test examples; raises `Unavailable` where files are missing or damaged."""
        import torchvision

        reader, folder = getattr(torchvision.datasets, self.reader), get_data_folder(self.root)
        files = self.list_files(reader, folder)
        files.ensure(self.download)
        # 1. read: bytes [n, H, W] or [n, H, W, C]
        with files.read():
            parts = [reader(str(folder), train=train) for train in (True, False)]
            for part in parts:
                if len(part.data) != len(part.targets):
                    raise ValueError(f"{len(part.data)} images and {len(part.targets)} labels")
        (train, train_targets), (test, test_targets) = self._draw(parts[0], "n"), self._draw(parts[1], "n_test")
        # 2. convert into one array, without a copy of the numbers on the way
        height, width, channels = train.shape[1:] if train.ndim == 4 else (*train.shape[1:], 1)
        inputs = np.empty((len(train) + len(test), channels, height, width), np.float32)
        for pixels, out in ((train, inputs[: len(train)]), (test, inputs[len(train) :])):
            images = pixels.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
            np.divide(images, 255, out=out, dtype=np.float32)
        targets = np.concatenate([train_targets, test_targets])
        class_names = tuple(name.split(" - ")[0] for name in parts[0].classes)  # torchvision says "0 - zero"
        return Examples(inputs, targets, class_names, test=np.arange(len(train), len(inputs)))

    def _draw(self, part: Any, field: str) -> tuple[Array, Array]:
        """Draw as many images and labels of a part as `field` says."""
        targets = np.asarray(part.targets, dtype=np.int64)
        indices = draw_subset(targets, getattr(self, field), self.random_state, field)
        return np.asarray(part.data)[indices], targets[indices]

    @abstractmethod
    def list_files(self, reader: Any, folder: Path) -> Download:
        """Return the files that torchvision's `reader` expects below `folder`."""


def _list_idx_files(reader: Any, folder: Path) -> Download:
    """Return the files of MNIST and FashionMNIST: four archives of one file each."""
    raw = folder / reader.__name__ / "raw"
    archives = tuple(File(raw / name, md5, f"{reader.mirrors[0]}{name}") for name, md5 in reader.resources)
    files = tuple(File(f.path.with_suffix("")) for f in archives)
    return Download(reader.__name__, archives, files, partial(reader, str(folder), download=True))


def _list_batch_files(reader: Any, folder: Path) -> Download:
    """Return the files of CIFAR: one archive of pickled batches."""
    archive = File(folder / reader.filename, reader.tgz_md5, reader.url)
    named = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    files = tuple(File(folder / reader.base_folder / name, md5) for name, md5 in named)
    return Download(reader.__name__, (archive,), files, partial(reader, str(folder), download=True))


@dataclass(frozen=True)
class MNIST(_Images):
    """Handwritten digits in 70,000 grey images of 28 by 28 pixels.

    inputs `[60000 + 10000, 1, 28, 28]` in [0, 1]; targets `[70000]`, the digit, 5421 to 6742 of each in the training
    examples. The last 10,000 are the test split, by other writers. A download of 12 MB, 55 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether missing files may be downloaded.
    n, n_test: number of training and test examples, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer examples.
    Reference: LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, 1998,
    https://doi.org/10.1109/5.726791
    """

    source: ClassVar[str] = "http://yann.lecun.com/exdb/mnist/, CC BY-SA 3.0 (as Keras documents it), by torchvision"
    reader: ClassVar[str] = "MNIST"

    def list_files(self, reader: Any, folder: Path) -> Download:
        """Return the files below `MNIST/raw`."""
        return _list_idx_files(reader, folder)


@dataclass(frozen=True)
class FashionMNIST(_Images):
    """Articles of clothing of ten kinds in 70,000 grey images of 28 by 28 pixels: a harder MNIST.

    inputs `[60000 + 10000, 1, 28, 28]` in [0, 1]; targets `[70000]`, 6,000 of each class in the training part. The last
    10,000 examples are the test split. A download of 31 MB, 55 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether missing files may be downloaded.
    n, n_test: number of training and test examples, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer examples.
    Reference: Xiao, Rasul, Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
    2017, https://arxiv.org/abs/1708.07747
    """

    source: ClassVar[str] = "https://github.com/zalandoresearch/fashion-mnist, MIT licence, by torchvision"
    reader: ClassVar[str] = "FashionMNIST"

    def list_files(self, reader: Any, folder: Path) -> Download:
        """Return the files below `FashionMNIST/raw`."""
        return _list_idx_files(reader, folder)


@dataclass(frozen=True)
class CIFAR10(_Images):
    """Animals and vehicles of ten kinds in 60,000 colour images of 32 by 32 pixels.

    inputs `[50000 + 10000, 3, 32, 32]` in [0, 1], red, green, blue; targets `[60000]`, 5,000 of each class in the
    training part. The last 10,000 examples are the test split. A download of 170 MB, 186 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether missing files may be downloaded.
    n, n_test: number of training and test examples, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer examples.
    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
    """

    source: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html, by torchvision; no licence is stated"
    reader: ClassVar[str] = "CIFAR10"

    def list_files(self, reader: Any, folder: Path) -> Download:
        """Return the files below `cifar-10-batches-py`."""
        return _list_batch_files(reader, folder)


@dataclass(frozen=True)
class CIFAR100(_Images):
    """Animals, plants, people and things of a hundred kinds in 60,000 colour images of 32 by 32 pixels.

    inputs `[50000 + 10000, 3, 32, 32]` in [0, 1], red, green, blue; targets `[60000]`, 500 of each class in the
    training part. The last 10,000 examples are the test split. A download of 169 MB, 186 MB unpacked.

    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`.
    download: whether missing files may be downloaded.
    n, n_test: number of training and test examples, drawn by `random_state` in proportion to the classes; 0 for all.

    Raises `Unavailable` where files are missing or damaged, `InvalidValue` if there are fewer examples.
    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
    """

    tasks: ClassVar[tuple[str, ...]] = ("multiclass", "embedding")
    source: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html, by torchvision; no licence is stated"
    reader: ClassVar[str] = "CIFAR100"

    def list_files(self, reader: Any, folder: Path) -> Download:
        """Return the files below `cifar-100-python`."""
        return _list_batch_files(reader, folder)
