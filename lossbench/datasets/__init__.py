"""Data sets. Those that come inside packages or are made need no network."""

from typing import Any

from lossbench import registry
from lossbench.datasets.canvases import DigitCanvases
from lossbench.datasets.images import CIFAR10, CIFAR100, MNIST, FashionMNIST
from lossbench.datasets.lines import DigitLines
from lossbench.datasets.openml import OpenML
from lossbench.datasets.outputs import FriedmanOutputs, Linnerud
from lossbench.datasets.pairs import DigitPairs
from lossbench.datasets.photographs import DigitBoxes
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
    """The data set called `name` with its fields set; raises `UnknownName` with the nearest name and all of them."""
    return registry.datasets.get(name, **fields)


def list_names(task: str | None = None) -> list[str]:
    """List the names of all data sets, or of those that fit `task`."""
    return registry.datasets.names(task)
