"""What a command has to train: its missing trials as parts, claimed one by one, and their records."""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from lossbench import records
from lossbench.claims import Claim, Claims
from lossbench.config.experiment import Experiment
from lossbench.errors import LossbenchError
from lossbench.plan import stacks, trial_id
from lossbench.records import UNTRAINED, Record
from lossbench.report.tensorboard import writer as tensorboard
from lossbench.training.objective import row_order
from lossbench.training.size import FEWEST_ROWS, Size, chunks, size
from lossbench.training.workers import Part
from lossbench.types import Stack, Trial

log = logging.getLogger("lossbench")

POLL_SECONDS = 1.0
DRAW_SECONDS = 10.0
"""Between two times of writing curves, at least."""
PICTURES_AFTER = 20.0
"""Seconds that a command has to take for pictures of its losses, which take some."""


class Work:
    """The trials of some experiments: which are missing, who trains them, and where their records go."""

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        self.homes: dict[str, list[Experiment]] = defaultdict(list)
        self.wanted: dict[str, Trial] = {}
        for experiment in dict.fromkeys(experiments):
            records.check_writable(experiment.folder)
            for trial in experiment.trials():
                self.wanted[trial_id(trial)] = trial
                self.homes[trial_id(trial)].append(experiment)
        self._statuses: dict[Path, tuple[object, dict[str, str]]] = {}
        on_record = self._on_record(self.wanted)
        self.missing = {i: t for i, t in self.wanted.items() if i not in on_record}
        self._failed_before = {i for i in self.missing if self._has(i, *UNTRAINED)}
        self.claims = Claims(experiments[0].output)
        self._queue: deque[tuple[str, ...]] = deque()
        self._left: set[tuple[str, ...]] = set()
        self._open: dict[Path, tuple[Claim, set[str]]] = {}
        self._elsewhere: set[str] = set()
        self._draw_after = time.monotonic() + DRAW_SECONDS
        self._begun = time.monotonic()
        self._experiments = list(dict.fromkeys(experiments))
        self._undrawn: dict[Experiment, None] = {}

    def sizes(self) -> list[tuple[Stack, Size]]:
        """The stacks of what is missing, each with its size."""
        return [(stack, size(stack.trials)) for stack in stacks(self.missing.values())]

    def plan(self, sizes: Sequence[tuple[Stack, Size]], n_workers: int) -> int:
        """Cut stacks into parts, what was left unfinished first and as it was; the number of parts."""
        left = [p for p in self.claims.left() if self.wanted.keys() >= set(p) and self.missing.keys() & set(p)]
        self._left = set(left)
        begun = {trial for part in left for trial in part}
        self._queue = deque(left)
        for stack, found in sizes:
            self._queue += _parts([t for t in stack.trials if trial_id(t) not in begun], found, n_workers)
        return len(self._queue)

    def next(self) -> Part | None:
        """Claim the next part; None when there is no more, or others train the rest."""
        while self._queue:
            ids = self._queue.popleft()
            claim = self.claims.take(ids, partial(self._skipped, ids))
            mine = set(claim.trials) if claim else set()
            self._elsewhere |= set(ids) - mine
            if claim:
                self._open[claim.folder] = claim, mine.copy()
                return Part(Stack(tuple(self.wanted[i] for i in claim.trials)), claim)
        return None

    def ended(self, part: Part, found: Sequence[Record] | None) -> int:
        """Save a part's records, or leave its claim with its checkpoints if it was stopped (None).

        How many of the missing trials that were.
        """
        if found is None:
            return 0
        self._save(found)
        claim, left = self._open[part.claim.folder]
        left -= {r.trial for r in found}
        if not left:
            self.claims.done(claim)
            del self._open[part.claim.folder]
        if time.monotonic() > self._draw_after:
            self._draw()
        return len(self.missing.keys() & {r.trial for r in found})

    def drop(self) -> None:
        """Let all claims go, and put their trials back."""
        for claim, left in self._open.values():
            claim.drop()
            self._queue.appendleft(tuple(i for i in claim.trials if i in left))
        self._open.clear()

    def wait_for_others(self, stopping: Callable[[], bool], tell: Callable[[int], None]) -> bool:
        """Wait for the trials that other processes train; true if some of them are now missing again, for us."""
        self._elsewhere -= self._on_record(self._elsewhere)
        if self._elsewhere and not stopping():
            tell(len(self._elsewhere))
        while self._elsewhere and not stopping():
            free = self._elsewhere - self.claims.taken()
            # looked up after that: who lets trials go has saved them before
            self._elsewhere -= self._on_record(self._elsewhere) | self._failed_since(free)
            if free := free & self._elsewhere:
                self._elsewhere -= free
                self.missing = {i: t for i, t in self.wanted.items() if i in free}
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _failed_since(self, ids: Iterable[str]) -> set[str]:
        return {i for i in ids if i not in self._failed_before and self._has(i, *UNTRAINED)}

    def close(self) -> None:
        """Leave unfinished parts to whoever goes on, and write the curves of what is new, and what is said of them.

        That is also what a killed process has put on record and could not draw any more. Predictions are drawn only
        if nothing is left to train, and pictures of losses only where their seconds do not count.
        """
        stopped = bool(self._queue or self._open)
        self.drop()
        self.claims.forget(self._on_record(self.wanted))
        pictures = time.monotonic() - self._begun > PICTURES_AFTER
        self._refresh(self._experiments, ended=True, predictions=not stopped, pictures=pictures and not stopped)

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
            self._statuses[folder] = version, records.statuses(folder)
        return self._statuses[folder][1]

    def _save(self, found: Sequence[Record]) -> None:
        by_home: dict[Experiment, list[Record]] = defaultdict(list)
        for record in found:
            for experiment in self.homes[record.trial]:
                by_home[experiment].append(record)
        for experiment, own in by_home.items():
            records.save(experiment.folder, own, experiment.config())
            self._undrawn[experiment] = None

    def _draw(self) -> None:
        """Write the curves of what is new: several experiments at once, which is cheaper, and a tenth of the time."""
        started = time.monotonic()
        self._refresh(self._undrawn)
        self._undrawn.clear()
        ended = time.monotonic()
        self._draw_after = ended + max(DRAW_SECONDS, 10 * (ended - started))

    def _refresh(self, experiments: Iterable[Experiment], **what: bool) -> None:
        for _, group in groupby(sorted(experiments, key=_output), _output):
            own = list(group)
            try:
                left = tensorboard.refresh(own[0].output, [e.folder for e in own], **what).n_undrawn
            except LossbenchError as error:  # the records are what counts; the next command draws again
                log.warning("TensorBoard's files are not written: %s", error)
            else:
                if left:
                    log.info("Predictions are not drawn for %d combinations of loss and rate: there are many.", left)


def _output(experiment: Experiment) -> str:
    return str(experiment.output)


def _parts(trials: Sequence[Trial], size: Size, n_workers: int) -> list[tuple[str, ...]]:
    """Trials in an order in which those of one loss are neighbours, cut into parts for all workers."""
    ordered = [trial_id(trials[i]) for i in row_order(trials)]
    if not ordered:
        return []
    shared = -(-len(ordered) // n_workers)
    return [tuple(ordered[part]) for part in chunks(len(ordered), min(size.rows, max(shared, FEWEST_ROWS)))]
