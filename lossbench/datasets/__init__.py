"""Data sets. Those that come inside packages or are made need no network."""

from typing import Any

from lossbench import registry
from lossbench.datasets.tables import BreastCancer, Diabetes, Digits, Friedman1
from lossbench.interfaces import Dataset as _Dataset

__all__ = ["BreastCancer", "Diabetes", "Digits", "Friedman1", "get", "names"]


def get(name: str, **fields: Any) -> _Dataset:
    """The data set called `name` with its fields set; raises `UnknownName` with the nearest name and all of them."""
    return registry.datasets.get(name, **fields)


def names(task: str | None = None) -> list[str]:
    """The names of all data sets, or of those that fit `task`."""
    return registry.datasets.names(task)
