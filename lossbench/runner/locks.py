"""Locks: processes that share a study neither train a trial twice nor touch each other's checkpoints.

A lock is a folder that holds the ids of its trials in a file, locked for as long as its process lives, and the
checkpoints of their training. The kernel drops the lock with the process: the trials of a killed process are free at
once, and the next process that trains them goes on from its checkpoints.
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
"""The checkpoints of a stopped command are kept for so long."""


@dataclass(frozen=True)
class Lock:
    """The trials that this process trains, and the folder for their checkpoints; released, it leaves both to others."""

    trials: tuple[str, ...]
    folder: Path
    handle: int  # of the file with the ids, locked while it is open

    def release(self) -> None:
        """Unlock the trials; what is in the folder stays for the next process that trains them."""
        os.close(self.handle)


class Locks:
    """The locks of a study, below its folder `root`. Raises RecordError where that cannot be written."""

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER

    def list_held(self) -> set[str]:
        """Return the ids of the trials that live processes train, this one included."""
        return {trial for folder in self._list_folders() if _is_held(folder) for trial in _read_ids(folder)}

    def list_unfinished(self) -> list[tuple[str, ...]]:
        """Return the ids of the trials of each lock that a process has left with checkpoints."""
        left = [f for f in self._list_folders() if _has_checkpoints(f) and not _is_held(f)]
        return [ids for folder in sorted(left) if (ids := _read_ids(folder))]

    def acquire(self, trials: Sequence[str], skip: Callable[[], set[str]] = set) -> Lock | None:
        """Lock those trials that no live process trains, and that are not in `skip()`; None if none is left."""
        with self._lock_study():
            busy = self.list_held()
            # after that: a process that has just put trials on record has saved them before it unlocks them
            skipped = skip()
            free = tuple(t for t in trials if t not in busy and t not in skipped)
            if not free:
                return None

            # 1. remove locks whose checkpoints cannot be used: stale ones, and those that overlap with the new one
            folder = self.folder / hash_values("claim", sorted(free))[:16]  # "claim" is the first spelling of lock
            for other in self._list_folders():
                is_stale = time.time() - _read_mtime(other) > KEPT_SECONDS or not _has_checkpoints(other)
                overlaps = not set(free).isdisjoint(_read_ids(other))
                if other != folder and not _is_held(other) and (is_stale or overlaps):
                    shutil.rmtree(other, ignore_errors=True)
            # 2. the folder, which may hold checkpoints of the same trials; first the lock, then the ids
            folder.mkdir(exist_ok=True)
            handle = os.open(folder / TRIALS, os.O_RDWR | os.O_CREAT)
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(free).encode(), 0)
            return Lock(free, folder, handle)

    def complete(self, lock: Lock) -> None:
        """Remove a lock whose trials are on record, with its checkpoints."""
        with self._lock_study():
            shutil.rmtree(lock.folder, ignore_errors=True)
            os.close(lock.handle)

    def clean(self, done: set[str]) -> None:
        """Remove abandoned locks whose trials are all in `done`: their process was killed after it had saved them."""
        with self._lock_study():
            for folder in self._list_folders():
                if not _is_held(folder) and done.issuperset(_read_ids(folder)):
                    shutil.rmtree(folder, ignore_errors=True)

    def _list_folders(self) -> list[Path]:
        return [p for p in self.folder.glob("*") if p.is_dir()]

    @contextmanager
    def _lock_study(self) -> Iterator[None]:
        """Let one process at a time change the locks of the study."""
        with explain_errors("write", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / STUDY_LOCK).open("ab") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield


def _read_mtime(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # just removed
        return time.time()


def _has_checkpoints(folder: Path) -> bool:
    try:
        return any(name.endswith(".pt") for name in os.listdir(folder))
    except FileNotFoundError:  # just removed
        return False


def _is_held(folder: Path) -> bool:
    """Return True if the process that holds the lock lives."""
    try:
        handle = os.open(folder / TRIALS, os.O_RDONLY)
    except FileNotFoundError:  # just removed
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _read_ids(folder: Path) -> tuple[str, ...]:
    """Return the ids of the lock's trials; none where a process was killed while it wrote them."""
    try:
        return tuple(json.loads((folder / TRIALS).read_text()))
    except (OSError, ValueError):
        return ()
