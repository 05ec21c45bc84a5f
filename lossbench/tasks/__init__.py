"""Tasks: the kind of prediction. A task has the width of its head, conversions, metrics and defaults."""

from typing import Any

from lossbench import registry
from lossbench.interfaces import Task
from lossbench.tasks.boxes import Boxes
from lossbench.tasks.classification import Binary, Multiclass
from lossbench.tasks.ctc import CTC
from lossbench.tasks.embedding import Embedding
from lossbench.tasks.multilabel import Multilabel
from lossbench.tasks.regression import Regression

__all__ = ["CTC", "Binary", "Boxes", "Embedding", "Multiclass", "Multilabel", "Regression", "get", "list_names"]


def get(name: str, **fields: Any) -> Task:
    """Return the task called `name`; raises `UnknownName`, which suggests the nearest name."""
    return registry.tasks.get(name, **fields)


def list_names() -> list[str]:
    """List the names of all tasks, sorted."""
    return registry.tasks.names()
