"""The trials of some experiments that are missing: cut into parts, locked one by one, and saved as they end."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from lossbench import records
from lossbench.config.choices import Experiment
from lossbench.records import UNTRAINED, Record
from lossbench.runner.executors import Part
from lossbench.runner.locks import Lock, Locks
from lossbench.seeds import group_stacks, trial_id
from lossbench.training.build import FEWEST_ROWS, Size, measure_stack, split_evenly
from lossbench.training.objective import sort_replicas
from lossbench.types import Stack, Trial

POLL_SECONDS = 1.0


class TrialQueue:
    """Knows which trials are missing, who trains them, and where their records go. Lock files stay here."""

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        self.homes: dict[str, list[Experiment]] = defaultdict(list)
        self.trials: dict[str, Trial] = {}
        for experiment in dict.fromkeys(experiments):
            records.check_writable(experiment.folder)
            for trial in experiment.list_trials():
                self.trials[trial_id(trial)] = trial
                self.homes[trial_id(trial)].append(experiment)
        self._statuses: dict[Path, tuple[object, dict[str, str]]] = {}
        on_record = self._on_record(self.trials)
        self.missing = {i: t for i, t in self.trials.items() if i not in on_record}
        self._failed_before = {i for i in self.missing if self._has(i, *UNTRAINED)}
        self.locks = Locks(experiments[0].output)
        self._queue: deque[tuple[str, ...]] = deque()
        self._left: set[tuple[str, ...]] = set()
        self._open: dict[Path, tuple[Lock, set[str]]] = {}
        self._elsewhere: set[str] = set()

    def estimate_sizes(self) -> list[tuple[Stack, Size]]:
        """Return the stacks of what is missing, each with its size."""
        return [(stack, measure_stack(stack.trials)) for stack in group_stacks(self.missing.values())]

    def cut(self, sizes: Sequence[tuple[Stack, Size]], n_workers: int) -> int:
        """Cut stacks into parts, what was left unfinished first and as it was; return the number of parts."""
        left = [
            p for p in self.locks.list_unfinished() if self.trials.keys() >= set(p) and self.missing.keys() & set(p)
        ]
        self._left = set(left)
        begun = {trial for part in left for trial in part}
        self._queue = deque(left)
        for stack, own in sizes:
            self._queue += _cut_stack([t for t in stack.trials if trial_id(t) not in begun], own, n_workers)
        return len(self._queue)

    def take(self) -> Part | None:
        """Lock the next part; None when there is no more, or others train the rest."""
        while self._queue:
            ids = self._queue.popleft()
            lock = self.locks.acquire(ids, partial(self._skipped, ids))
            mine = set(lock.trials) if lock else set()
            self._elsewhere |= set(ids) - mine
            if lock:
                self._open[lock.folder] = lock, mine.copy()
                stack = Stack(tuple(self.trials[i] for i in lock.trials))
                return Part(lock.folder.name, stack, lock.folder)
        return None

    def save(self, part: Part, new: Sequence[Record]) -> list[Experiment]:
        """Put a part's records on record, and unlock it when it has all of them; return the experiments they are of."""
        by_home: dict[Experiment, list[Record]] = defaultdict(list)
        for record in new:
            for experiment in self.homes[record.trial]:
                by_home[experiment].append(record)
        for experiment, own in by_home.items():
            records.save(experiment.folder, own, experiment.to_config())
        lock, left = self._open[part.checkpoints]
        left -= {r.trial for r in new}
        if not left:
            del self._open[part.checkpoints]  # first: interrupted in between, its file would be closed twice
            self.locks.complete(lock)
        return list(by_home)

    def count_missing(self, new: Sequence[Record]) -> int:
        """Return how many of the missing trials these records are of."""
        return len(self.missing.keys() & {r.trial for r in new})

    def release(self) -> None:
        """Let all locks go, and put their trials back."""
        for lock, left in self._open.values():
            lock.release()
            self._queue.appendleft(tuple(i for i in lock.trials if i in left))
        self._open.clear()

    def wait_for_others(self, stopping: Callable[[], bool], tell: Callable[[int], None]) -> bool:
        """Wait for the trials that other processes train; true if some of them are now missing again, for us."""
        self._elsewhere -= self._on_record(self._elsewhere)
        if self._elsewhere and not stopping():
            tell(len(self._elsewhere))
        while self._elsewhere and not stopping():
            free = self._elsewhere - self.locks.list_held()
            # looked up after that: who lets trials go has saved them before
            self._elsewhere -= self._on_record(self._elsewhere) | self._failed_since(free)
            if free := free & self._elsewhere:
                self._elsewhere -= free
                self.missing = {i: t for i, t in self.trials.items() if i in free}
                return True
            time.sleep(POLL_SECONDS)
        return False

    def close(self) -> None:
        """Leave unfinished parts, with their checkpoints, to whoever goes on."""
        self.release()
        self.locks.clean(self._on_record(self.trials))

    def _failed_since(self, ids: Iterable[str]) -> set[str]:
        return {i for i in ids if i not in self._failed_before and self._has(i, *UNTRAINED)}

    def _skipped(self, ids: tuple[str, ...]) -> set[str]:
        """What of a part is on record; nothing of one whose checkpoint is for the whole of it, and that is not done."""
        found = self._on_record(ids)
        return found if ids not in self._left or len(found) == len(ids) else set()

    def _on_record(self, ids: Iterable[str]) -> set[str]:
        """Those that all of their experiments have on record, finished or diverged."""
        return {i for i in ids if self._has(i, "finished", "diverged")}

    def _has(self, trial: str, *status: str) -> bool:
        return all(self._status(e.folder).get(trial) in status for e in self.homes[trial])

    def _status(self, folder: Path) -> dict[str, str]:
        """`records.statuses`, read again only when the file has changed."""
        path = folder / records.TRIALS
        seen = path.stat() if path.exists() else None
        version = (seen.st_mtime_ns, seen.st_ino, seen.st_size) if seen else None
        if folder not in self._statuses or self._statuses[folder][0] != version:
            self._statuses[folder] = version, records.read_statuses(folder)
        return self._statuses[folder][1]


def _cut_stack(trials: Sequence[Trial], size: Size, n_workers: int) -> list[tuple[str, ...]]:
    """Trials in an order in which those of one loss are neighbours, cut into parts for all workers."""
    ordered = [trial_id(trials[i]) for i in sort_replicas(trials)]
    if not ordered:
        return []
    shared = -(-len(ordered) // n_workers)
    return [tuple(ordered[part]) for part in split_evenly(len(ordered), min(size.rows, max(shared, FEWEST_ROWS)))]
