"""What happens between two steps: progress, the question whether to stop, and a checkpoint where one is due."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("lossbench")

LONGEST, SHORTEST = 30.0, 1.0
"""Seconds between checkpoints at most, and at least."""
SHARE = 0.1
"""Of the command's time so far, that a kill may cost while that is little."""
MOST_COST = 0.05
"""Of the time, that writing may take."""

Progress = Callable[[int, int, int], None]
"""Called after every step with the rows of the chunk, its steps done, and its steps in all."""


class Unusable(Exception):
    """A checkpoint that cannot be gone on from."""


class Stopped(Exception):
    """Training was asked to stop, and what it has done so far is in its checkpoint."""


@dataclass
class Watch:
    """Follows the fits of one `run_stack`.

    progress: told about every step.
    stop: asked after every step; if true, a checkpoint is written and `Stopped` raised.
    folder: for the checkpoints; without one there are none.
    started: when the whole command began to train, `time.time()`.
    """

    progress: Progress = lambda rows, step, steps: None
    stop: Callable[[], bool] = lambda: False
    folder: Path | None = None
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._last, self._cost = time.time(), 0.0

    def load(self, name: str) -> dict[str, Any] | None:
        """The state that was saved under `name`; None if there is none, or none that can be read."""
        self._last = time.time()
        if self.folder is None:
            return None
        try:
            state = torch.load(self.folder / f"{name}.pt", map_location="cpu", weights_only=True)
            log.info("%s goes on after step %d", name, state["step"])
        except FileNotFoundError:
            return None
        except Exception as error:  # cut by a power failure, or written by another version: train it again
            log.warning("The checkpoint %s cannot be read (%s): these trials start again.", name, error)
            return None
        return state

    def after_step(self, name: str, rows: int, step: int, steps: int, state: Callable[[], dict[str, Any]]) -> None:
        """To be called between steps; raises `Stopped`. After the last step there is nothing left to go on with."""
        self.progress(rows, step, steps)
        if step == steps:
            return
        stopping = self.stop()
        if stopping or self._due():
            self._save(name, state())
        if stopping:
            raise Stopped

    def _due(self) -> bool:
        now = time.time()
        pause = min(LONGEST, max(SHORTEST, SHARE * (now - self.started)))
        return self.folder is not None and now - self._last > max(pause, self._cost / MOST_COST)

    def _save(self, name: str, state: dict[str, Any]) -> None:
        if self.folder is None:
            return
        started = time.time()
        try:
            write(self.folder / f"{name}.pt", state)
        except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError on a full disk
            log.warning(
                "No checkpoint was written, training goes on without: %s", next(iter(str(error).splitlines()), "")
            )
        self._last = time.time()
        self._cost = self._last - started


def write(path: Path, state: dict[str, Any]) -> None:
    """Save `state` whole or not at all."""
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
