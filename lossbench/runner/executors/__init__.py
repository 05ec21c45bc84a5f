"""Executors train the parts of a run: in this process, or in workers. They get and return serialisable values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lossbench.records import Record
from lossbench.types import Stack


class CannotStart(Exception):
    """An executor has no worker to train with. The message gives the reason."""


@dataclass(frozen=True)
class Part:
    """Trials that train together, and the folder for their checkpoints. Equal by name: trials hash slowly."""

    name: str
    stack: Stack = field(compare=False)
    checkpoints: Path = field(compare=False)


@dataclass(frozen=True)
class Events:
    """The functions that an executor calls while it runs.

    progress(part, n_replicas, step, n_steps).
    ended(part, records): records are None if the part was stopped; its progress is in its checkpoints.
    stopping(): True if training is to stop.
    """

    progress: Callable[[Part, int, int, int], None]
    ended: Callable[[Part, Sequence[Record] | None], None]
    stopping: Callable[[], bool]


class Executor(Protocol):
    """Trains parts."""

    def run(self, next_part: Callable[[], Part | None], events: Events) -> None:
        """Train parts until there are no more, or until `events.stopping()`.

        Raises `CannotStart` before the first part where there is nothing to train with.
        """
