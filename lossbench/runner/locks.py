"""Who trains what: processes that share a study neither train a trial twice nor touch each other's checkpoints.

A lock is a folder that holds the ids of its trials in a file, locked for as long as its process lives, and the
checkpoints of their training. The kernel drops the lock with the process: what a killed one leaves is free at once,
and whoever trains those trials next goes on from its checkpoints.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lossbench.records import explain_errors
from lossbench.seeds import hash_values

FOLDER = ".training"
TRIALS, STUDY_LOCK = "trials.json", "lock"
KEPT_SECONDS = 7 * 24 * 3600.0
"""How long the checkpoints of a stopped command wait for its return."""


@dataclass(frozen=True)
class Lock:
    """Trials that this process trains, and the folder for their checkpoints; released, it leaves them to others."""

    trials: tuple[str, ...]
    folder: Path
    handle: int

    def release(self) -> None:
        """Let the trials go unfinished; what is in the folder stays for whoever goes on."""
        os.close(self.handle)


class Locks:
    """The locks of a study, below its folder `root`. Raises RecordError where that cannot be written."""

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER

    def list_held(self) -> set[str]:
        """Ids of the trials that live processes train, this one included."""
        return {trial for folder in self._folders() if _alive(folder) for trial in _read(folder)}

    def list_unfinished(self) -> list[tuple[str, ...]]:
        """Ids of the trials of each lock that a process has left with checkpoints."""
        found = [f for f in self._folders() if _has_checkpoints(f) and not _alive(f)]
        return [trials for f in sorted(found) if (trials := _read(f))]

    def acquire(self, trials: Sequence[str], skip: Callable[[], set[str]] = set) -> Lock | None:
        """Lock those trials that no live process trains, and that are not in `skip()`; None if none is left.

        `skip` is asked after that, so that what another process has just put on record is not trained again.
        """
        with self._exclusively():
            busy = self.list_held()
            known = skip()
            free = [t for t in trials if t not in busy and t not in known]
            return self._create(tuple(free)) if free else None

    def complete(self, lock: Lock) -> None:
        """The trials are on record: the checkpoints are no longer needed."""
        with self._exclusively():
            shutil.rmtree(lock.folder, ignore_errors=True)
            os.close(lock.handle)

    def clean(self, done: set[str]) -> None:
        """Remove what is left of locks whose trials are all in `done`: their process was killed after saving them."""
        with self._exclusively():
            for folder in self._folders():
                if not _alive(folder) and done.issuperset(_read(folder)):
                    shutil.rmtree(folder, ignore_errors=True)

    def _create(self, trials: tuple[str, ...]) -> Lock:
        folder = self.folder / hash_values("claim", sorted(trials))[:16]  # once its word; checkpoints lie under it
        self._clear(set(trials), folder)
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / TRIALS, os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(trials).encode(), 0)
        return Lock(trials, folder, handle)

    def _clear(self, trials: set[str], own: Path) -> None:
        """Remove what nobody can go on with: stale locks, and those that overlap with `own`."""
        for folder in self._folders():
            stale = _age(folder) > KEPT_SECONDS or not _has_checkpoints(folder)
            if folder != own and not _alive(folder) and (stale or trials & set(_read(folder))):
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return [p for p in self.folder.glob("*") if p.is_dir()]

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        with explain_errors("write", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / STUDY_LOCK).open("ab") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _has_checkpoints(folder: Path) -> bool:
    try:
        return any(name.endswith(".pt") for name in os.listdir(folder))
    except FileNotFoundError:  # removed in this moment
        return False


def _alive(folder: Path) -> bool:
    """Whether the process that holds the lock lives."""
    try:
        handle = os.open(folder / TRIALS, os.O_RDONLY)
    except FileNotFoundError:  # removed in this moment
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _read(folder: Path) -> tuple[str, ...]:
    """The lock's trials; none where a process was killed while writing them."""
    try:
        return tuple(json.loads((folder / TRIALS).read_text()))
    except (OSError, ValueError):
        return ()
