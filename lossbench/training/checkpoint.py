"""Checkpoints, and what else happens between two steps: progress, and the question whether to stop."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("lossbench")

LONGEST_PAUSE, SHORTEST_PAUSE = 30.0, 1.0
"""Seconds between checkpoints, at most and at least."""
PAUSE_SHARE = 0.1
"""Share of the command's time so far that a kill may cost, while that is less than `LONGEST_PAUSE`."""
LARGEST_WRITE_SHARE = 0.05
"""Share of the time that writing checkpoints may take."""

Progress = Callable[[int, int, int], None]
"""Called after every step with the replicas of the chunk, its steps done, and its steps in all."""


class UnusableCheckpoint(Exception):
    """Raised for a checkpoint from which training cannot go on."""


class TrainingStopped(Exception):
    """Raised when training was asked to stop; what it has done so far is in its checkpoint."""


@dataclass
class CheckpointCallback:
    """Called between the steps of the fits of one `run_stack`; saves and loads their checkpoints.

    progress: called after every step.
    stop: called after every step; if it returns true, a checkpoint is written and `TrainingStopped` raised.
    folder: for the checkpoints; without one there are none.
    started: when the whole command began to train, `time.time()`.
    """

    progress: Progress = lambda replicas, step, steps: None
    stop: Callable[[], bool] = lambda: False
    folder: Path | None = None
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._last, self._write_seconds = time.time(), 0.0

    def load(self, name: str) -> dict[str, Any] | None:
        """Load the state that was saved under `name`; None if there is none, or none that can be read."""
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

    def on_step_end(
        self, name: str, n_replicas: int, step: int, steps: int, get_state: Callable[[], dict[str, Any]]
    ) -> None:
        """Report progress, and save the state if a checkpoint is due or training is to stop.

        Raises `TrainingStopped`. After the last step nothing is saved: there is nothing left to go on with.
        """
        self.progress(n_replicas, step, steps)
        if step == steps:
            return
        stopping = self.stop()
        if self.folder is not None:
            now = time.time()
            pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, PAUSE_SHARE * (now - self.started)))
            is_due = now - self._last > max(pause, self._write_seconds / LARGEST_WRITE_SHARE)
            if stopping or is_due:
                self._save(self.folder / f"{name}.pt", get_state())
        if stopping:
            raise TrainingStopped

    def _save(self, path: Path, state: dict[str, Any]) -> None:
        started = time.time()
        try:
            write_state(path, state)
        except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError on a full disk
            reason = next(iter(str(error).splitlines()), "")
            log.warning("No checkpoint was written, training goes on without: %s", reason)
        self._last = time.time()
        self._write_seconds = self._last - started


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Save `state` completely or not at all."""
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
