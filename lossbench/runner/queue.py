"""The queue of the missing trials of some experiments: cut into parts, locked one by one, and saved as they end."""

import logging
import math
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
from lossbench.training.build import FEWEST_REPLICAS, StackSize, estimate_stack_size, split_evenly
from lossbench.training.objective import sort_replicas
from lossbench.types import Stack, Trial

POLL_SECONDS = 1.0


class TrialQueue:
    """Finds the missing trials, hands them out in parts, and saves their records. Lock files stay in here."""

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        # 1. the trials, and the experiments (several may share one) that need their records
        self.homes: dict[str, list[Experiment]] = defaultdict(list)
        self.trials: dict[str, Trial] = {}
        for experiment in dict.fromkeys(experiments):
            records.check_writable(experiment.folder)
            for line in records.set_aside_damage(experiment.folder, experiment.to_config()):
                logging.getLogger("lossbench").warning(line)
            for trial in experiment.list_trials():
                self.trials[trial_id(trial)] = trial
                self.homes[trial_id(trial)].append(experiment)
        # 2. those that are missing
        self._statuses: dict[Path, tuple[object, dict[str, str]]] = {}  # by folder: version of the file, its contents
        on_record = self._select_finished(self.trials)
        self.missing = {i: t for i, t in self.trials.items() if i not in on_record}
        self._failed_before = {i for i in self.missing if self._has_status(i, UNTRAINED)}
        # 3. parts that wait, parts that train, and trials that other processes train
        self.locks = Locks(experiments[0].output)
        self._waiting: deque[tuple[str, ...]] = deque()
        self._unfinished: set[tuple[str, ...]] = set()  # parts with checkpoints of an earlier command
        self._open: dict[Path, tuple[Lock, set[str]]] = {}  # by folder of a lock: the ids without a record
        self._elsewhere: set[str] = set()

    def estimate_sizes(self) -> list[tuple[Stack, StackSize]]:
        """Return the stacks of the missing trials, each with its size."""
        return [(stack, estimate_stack_size(stack.trials)) for stack in group_stacks(self.missing.values())]

    def cut_parts(self, sizes: Sequence[tuple[Stack, StackSize]], n_workers: int) -> int:
        """Cut stacks into parts and return their number; unfinished parts come first, and stay as they were."""
        unfinished = [
            ids
            for ids in self.locks.list_unfinished()
            if self.trials.keys() >= set(ids) and self.missing.keys() & set(ids)
        ]
        self._unfinished = set(unfinished)
        begun = {trial for ids in unfinished for trial in ids}
        self._waiting = deque(unfinished)
        for stack, size in sizes:
            trials = [t for t in stack.trials if trial_id(t) not in begun]
            if not trials:
                continue
            # trials of one loss are neighbours; every worker gets a share, unless that would be tiny
            ids = [trial_id(trials[i]) for i in sort_replicas(trials)]
            share = math.ceil(len(ids) / n_workers)
            most = min(size.n_replicas, max(share, FEWEST_REPLICAS))
            self._waiting += [tuple(ids[part]) for part in split_evenly(len(ids), most)]
        return len(self._waiting)

    def take(self) -> Part | None:
        """Lock the next part; None when there is no more, or others train the rest."""
        while self._waiting:
            ids = self._waiting.popleft()
            lock = self.locks.acquire(ids, partial(self._list_skipped, ids))
            locked = set(lock.trials) if lock else set()
            self._elsewhere |= set(ids) - locked
            if lock:
                self._open[lock.folder] = lock, locked
                stack = Stack(tuple(self.trials[i] for i in lock.trials))
                return Part(lock.folder.name, stack, lock.folder)
        return None

    def save(self, part: Part, new: Sequence[Record]) -> list[Experiment]:
        """Put records of a part on record; unlock it when it has all of them. Return the experiments of the records."""
        by_experiment: dict[Experiment, list[Record]] = defaultdict(list)
        for record in new:
            for experiment in self.homes[record.trial]:
                by_experiment[experiment].append(record)
        for experiment, group in by_experiment.items():
            records.save(experiment.folder, group, experiment.to_config())
        lock, without_record = self._open[part.checkpoints]
        without_record -= {r.trial for r in new}
        if not without_record:
            del self._open[part.checkpoints]  # first: interrupted in between, its file would be closed twice
            self.locks.complete(lock)
        return list(by_experiment)

    def count_missing(self, new: Sequence[Record]) -> int:
        """Return how many of the missing trials have a record among these."""
        return len(self.missing.keys() & {r.trial for r in new})

    def release(self) -> None:
        """Release all locks, and put their trials back."""
        for lock, without_record in self._open.values():
            lock.release()
            self._waiting.appendleft(tuple(i for i in lock.trials if i in without_record))
        self._open.clear()

    def wait_for_others(self, stopping: Callable[[], bool], announce: Callable[[int], None]) -> bool:
        """Wait for the trials that other processes train; True if some of them are now missing again, for this one."""
        self._elsewhere -= self._select_finished(self._elsewhere)
        if self._elsewhere and not stopping():
            announce(len(self._elsewhere))
        while self._elsewhere and not stopping():
            free = self._elsewhere - self.locks.list_held()
            # after that, as a process saves its records before it unlocks their trials
            failed = {i for i in free if i not in self._failed_before and self._has_status(i, UNTRAINED)}
            self._elsewhere -= self._select_finished(self._elsewhere) | failed
            # free without a record: their process was stopped or killed
            if free := free & self._elsewhere:
                self._elsewhere -= free
                self.missing = {i: t for i, t in self.trials.items() if i in free}
                return True
            time.sleep(POLL_SECONDS)
        return False

    def close(self) -> None:
        """Leave unfinished parts, with their checkpoints, to the next process that trains them."""
        self.release()
        self.locks.clean(self._select_finished(self.trials))

    def _list_skipped(self, ids: tuple[str, ...]) -> set[str]:
        """Return the trials of a part that are on record already.

        An unfinished part is trained as a whole, as its checkpoint is of all its trials; or not at all.
        """
        finished = self._select_finished(ids)
        return finished if ids not in self._unfinished or len(finished) == len(ids) else set()

    def _select_finished(self, ids: Iterable[str]) -> set[str]:
        """Return the trials that all of their experiments have on record, finished or diverged."""
        return {i for i in ids if self._has_status(i, ("finished", "diverged"))}

    def _has_status(self, trial: str, statuses: Sequence[str]) -> bool:
        return all(self._read_statuses(e.folder).get(trial) in statuses for e in self.homes[trial])

    def _read_statuses(self, folder: Path) -> dict[str, str]:
        """Return `records.read_statuses`, which is read again only when the file has changed."""
        path = folder / records.TRIALS
        stat = path.stat() if path.exists() else None
        version = (stat.st_mtime_ns, stat.st_ino, stat.st_size) if stat else None
        if folder not in self._statuses or self._statuses[folder][0] != version:
            self._statuses[folder] = version, records.read_statuses(folder)
        return self._statuses[folder][1]
