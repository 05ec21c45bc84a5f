"""Tasks: what is predicted. Each owns its head's size, its conversions, its metrics and its defaults."""

from typing import Any

from lossbench import registry
from lossbench.interfaces import Task
from lossbench.tasks.boxes import Boxes
from lossbench.tasks.classification import Binary, Multiclass
from lossbench.tasks.ctc import CTC
from lossbench.tasks.embedding import Embedding
from lossbench.tasks.multilabel import Multilabel
from lossbench.tasks.regression import Regression

__all__ = ["CTC", "Binary", "Boxes", "Embedding", "Multiclass", "Multilabel", "Regression", "get", "names"]


def get(name: str, **fields: Any) -> Task:
    """The task called `name`; raises `UnknownName` with the nearest name and all of them."""
    return registry.tasks.get(name, **fields)


def list_names() -> list[str]:
    """List the names of all tasks, sorted."""
    return registry.tasks.names()
