"""Train what experiments miss: in this process, or in workers where they pay."""

import logging
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lossbench import registry
from lossbench.config.choices import Experiment
from lossbench.config.resolve import ExperimentPlan
from lossbench.losses.composition.external import External
from lossbench.plugins import list_loaded
from lossbench.records import UNTRAINED, Record
from lossbench.runner.executors import CannotStart, Events, Executor, Part
from lossbench.runner.executors.local import LocalExecutor
from lossbench.runner.interrupts import Interrupted, StopRequest, catch_signals
from lossbench.runner.log import describe_peak_memory
from lossbench.runner.queue import TrialQueue
from lossbench.runner.reporter import Progress, Reporter
from lossbench.runner.trained import Trained
from lossbench.training.build import count_cores

log = logging.getLogger("lossbench")

LEVELS = {"failed": logging.ERROR, "skipped": logging.WARNING}
WORTH_WORKERS = 30.0
"""Estimated seconds of training in one process from which workers are started: each pays about 4 s of imports."""
PAUSE = 0.1
"""Seconds between two reports of progress, at least."""


def run(asked: Sequence[ExperimentPlan], reporter: Reporter, workers: int | None = None) -> list[Trained]:
    """Tune and train what some configurations miss, all together; what each of them reports, in their order.

    workers: how many processes; None chooses. Raises RecordError where records cannot be written, and `Interrupted`,
    once all is saved, at Ctrl-C or SIGTERM.
    """
    done = [Trained(one.experiments) for one in asked]
    if any(one.protocol.tunes for one in asked):
        from lossbench.runner.tuning import tune

        done = tune(asked, reporter, lambda experiments: train(experiments, reporter, workers))
    train(list(dict.fromkeys(e for one in done for e in one.experiments)), reporter, workers)
    return done


def train(experiments: Sequence[Experiment], reporter: Reporter, workers: int | None = None) -> None:
    """Train the missing trials; records are saved part by part, also of trials that fail, with the reason.

    Raises as `run` does.
    """
    queue = TrialQueue(experiments)
    if len(queue.missing) < len(queue.trials):
        reporter.on_message(_already(len(queue.trials) - len(queue.missing), len(queue.missing)))
    if not queue.missing:
        queue.close()
        return
    with catch_signals() as stop:
        log.info("lossbench %s", shlex.join(sys.argv[1:]))
        for text in _adapted(experiments):
            log.info(text)
            reporter.on_message(text)
        session = Session(queue, reporter, stop)
        try:
            session.run(workers)
        finally:
            queue.close()
        seconds = time.time() - session.started
        where = f" in {_processes(session.n_workers)}" if session.n_workers else ""
        memory = describe_peak_memory(session.n_workers > 0)
        text = f"Trained {_trials(session.saved)} in {seconds:.1f} s{where}; peak memory {memory}."
        log.info(text)
        if stop():
            raise Interrupted(
                f"stopped with {session.saved:,} of {session.n_trials:,} trials on record; the others' progress is "
                "kept. The same command goes on from there.",
                stop.signal,
            )
        reporter.on_message(text)


def _adapted(experiments: Sequence[Experiment]) -> list[str]:
    """What the losses of other libraries are taken for: it may have been guessed."""
    losses = [registry.losses.build(choice) for choice in dict.fromkeys(e.template.loss for e in experiments)]
    return [loss.describe() for loss in losses if isinstance(loss, External)]


def _already(done: int, missing: int) -> str:
    count = f"{done} trial is" if done == 1 else f"{done} trials are"
    if missing:
        return f"{count} on record already; training the other {missing}."
    return f"{count} on record already: nothing to train. (Delete the records to train again.)"


@dataclass
class Session:
    """The training of one command."""

    queue: TrialQueue
    reporter: Reporter
    stop: StopRequest
    started: float = field(default_factory=time.time)
    n_workers: int = 0  # processes beside this one, which then trains nothing itself
    saved: int = 0

    def __post_init__(self) -> None:
        self.n_trials = len(self.queue.missing)
        self._running: dict[Part, tuple[int, int, int]] = {}
        self._steps = 0
        self._first_step = self._told_at = 0.0

    def run(self, workers: int | None) -> None:
        """Train all, and what other processes have left behind."""
        events = Events(self._progress, self._ended, self.stop)
        left = True
        while left:
            sizes = self.queue.estimate_sizes()
            seconds = sum(s.seconds * len(stack.trials) for stack, s in sizes)
            n = workers or choose_n_workers(seconds)
            parts = self.queue.cut(sizes, n)
            self.n_workers = min(n, parts) if n > 1 else 0
            where = _processes(self.n_workers) if self.n_workers else "this process"
            log.info("%d trials in %d parts, in %s", len(self.queue.missing), parts, where)
            self._train(events)
            left = self.queue.wait_for_others(self.stop, self._tell_waiting)

    def _train(self, events: Events) -> None:
        if self.n_workers:
            try:
                self._processes().run(self.queue.take, events)
            except CannotStart as error:
                log.warning("No worker processes, training goes on in this one: %s.", error)
                self.queue.release()
                self.n_workers = 0
            else:
                return
        LocalExecutor(self.started).run(self.queue.take, events)

    def _processes(self) -> Executor:
        from lossbench.runner.executors.processes import ProcessExecutor, Setup, pickle_registered

        kinds = pickle_registered(list(self.queue.missing.values()))
        names = list_gpus()
        devices = [names[i % len(names)] if names else "" for i in range(self.n_workers)]
        return ProcessExecutor([Setup(self.started, device, kinds, list_loaded()) for device in devices])

    def _progress(self, part: Part, n_replicas: int, step: int, n_steps: int) -> None:
        """Take note that `n_replicas` trials of a part have done `step` of their steps."""
        if not self._first_step:
            self._first_step = time.monotonic()  # starting workers is not training
        if part in self._running:
            before_replicas, before, _ = self._running[part]
            self._steps += max(0, n_replicas * step - before_replicas * before)
        self._running[part] = n_replicas, step, n_steps
        if time.monotonic() - self._told_at >= PAUSE:
            self._tell_progress()

    def _tell_progress(self) -> None:
        self._told_at = time.monotonic()
        done = self.saved + sum(n * step / n_steps for n, step, n_steps in self._running.values())
        seconds = self._told_at - self._first_step if self._first_step else 0.0
        self.reporter.on_progress(Progress(self.n_trials, min(done, self.n_trials), self._steps, seconds))

    def _ended(self, part: Part, new: Sequence[Record] | None) -> None:
        self._running.pop(part, None)
        if new is None:
            return
        saved = self.queue.save(part, new)
        count = self.queue.count_missing(new)
        self.saved += count
        for (status, reason), n in _count_untrained(new).items():
            log.log(LEVELS[status], "%s %s: %s", _trials(n), status, reason)
        if count:
            log.info("%d of %d trials on record", self.saved, self.n_trials)
        self._tell_progress()
        if saved:
            self.reporter.on_saved(saved)

    def _tell_waiting(self, n: int) -> None:
        log.warning("Another process trains %d of these trials: waiting for its records.", n)


def _processes(n: int) -> str:
    return "1 worker process" if n == 1 else f"{n} worker processes"


def _trials(n: int) -> str:
    return "1 trial" if n == 1 else f"{n:,} trials"


def _count_untrained(new: Sequence[Record]) -> Counter[tuple[str, str]]:
    """How many trials have no numbers, by status and reason."""
    return Counter((r.row["status"], r.row["reason"]) for r in new if r.row["status"] in UNTRAINED)


def choose_n_workers(seconds: float) -> int:
    """One process per GPU; on CPUs one per core where the work, so many seconds in one process, is worth it."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return count_cores() if seconds > WORTH_WORKERS else 1


def list_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES is to be for each GPU; nothing on a machine without."""
    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
