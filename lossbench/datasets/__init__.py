"""Data sets. Only those marked as public may need a network; the others come with packages or are computed."""

from typing import Any

from lossbench import registry
from lossbench.datasets.digit_boxes import DigitBoxes
from lossbench.datasets.digit_canvases import DigitCanvases
from lossbench.datasets.digit_lines import DigitLines
from lossbench.datasets.digit_pairs import DigitPairs
from lossbench.datasets.images import CIFAR10, CIFAR100, MNIST, FashionMNIST
from lossbench.datasets.multi_output import FriedmanOutputs, Linnerud
from lossbench.datasets.openml import OpenML
from lossbench.datasets.tables import BreastCancer, Diabetes, Digits, Friedman1
from lossbench.datasets.voc import VOC
from lossbench.interfaces import Dataset as _Dataset

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "VOC",
    "BreastCancer",
    "Diabetes",
    "DigitBoxes",
    "DigitCanvases",
    "DigitLines",
    "DigitPairs",
    "Digits",
    "FashionMNIST",
    "Friedman1",
    "FriedmanOutputs",
    "Linnerud",
    "OpenML",
    "get",
    "list_names",
]


def get(name: str, **fields: Any) -> _Dataset:
    """Return the data set called `name` with its fields set; raises `UnknownName`, which suggests the nearest name."""
    return registry.datasets.get(name, **fields)


def list_names(task: str | None = None) -> list[str]:
    """List the names of all data sets, or of those that fit `task`."""
    return registry.datasets.names(task)
