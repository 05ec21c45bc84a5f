"""Train the missing trials of experiments: in this process, or in worker processes where they pay."""

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
from lossbench.runner.plan_result import PlanResult
from lossbench.runner.queue import TrialQueue
from lossbench.runner.reporter import Progress, Reporter
from lossbench.training.build import count_cores

log = logging.getLogger("lossbench")

LEVELS = {"failed": logging.ERROR, "skipped": logging.WARNING}
WORTH_WORKERS = 30.0
"""Estimated seconds of training in one process from which workers are started: each pays about 4 s of imports."""
REPORT_SECONDS = 0.1
"""The shortest time between two reports of progress."""


def run(plans: Sequence[ExperimentPlan], reporter: Reporter, workers: int | None = None) -> list[PlanResult]:
    """Tune and train the missing trials of all plans together; return the results in the order of the plans.

    workers: the number of processes; None chooses. Raises RecordError where records cannot be written, and
    `Interrupted`, once all is saved, at Ctrl-C or SIGTERM.
    """
    results = [PlanResult(plan.experiments) for plan in plans]
    if any(plan.protocol.tunes for plan in plans):
        from lossbench.runner.tuning import tune

        results = tune(plans, reporter, lambda experiments: train(experiments, reporter, workers))
    # plans may share experiments
    train(list(dict.fromkeys(e for result in results for e in result.experiments)), reporter, workers)
    return results


def train(experiments: Sequence[Experiment], reporter: Reporter, workers: int | None = None) -> None:
    """Train the missing trials; records are saved part by part, also of trials that fail, with the reason.

    Raises as `run` does.
    """
    # 1. find the missing trials
    queue = TrialQueue(experiments)
    n_done = len(queue.trials) - len(queue.missing)
    if n_done:
        count = f"{n_done} trial is" if n_done == 1 else f"{n_done} trials are"
        rest = f"; training the other {len(queue.missing)}." if queue.missing else ": nothing to train. "
        hint = "" if queue.missing else "(Delete the records to train again.)"
        reporter.on_message(f"{count} on record already{rest}{hint}")
    if not queue.missing:
        queue.close()
        return
    with catch_signals() as stop:
        log.info("lossbench %s", shlex.join(sys.argv[1:]))
        # 2. say how losses of other libraries are called: it may have been inferred
        for choice in dict.fromkeys(e.template.loss for e in experiments):
            loss = registry.losses.build(choice)
            if isinstance(loss, External):
                log.info(loss.describe())
                reporter.on_message(loss.describe())
        # 3. train
        session = Session(queue, reporter, stop)
        try:
            session.run(workers)
        finally:
            queue.close()
        # 4. report
        seconds = time.time() - session.started
        where = f" in {_count_processes(session.n_workers)}" if session.n_workers else ""
        memory = describe_peak_memory(session.n_workers > 0)
        text = f"Trained {_count_trials(session.saved)} in {seconds:.1f} s{where}; peak memory {memory}."
        log.info(text)
        if stop():
            raise Interrupted(
                f"stopped with {session.saved:,} of {session.n_trials:,} trials on record; the others' progress is "
                "kept. The same command goes on from there.",
                stop.signal,
            )
        reporter.on_message(text)


@dataclass
class Session:
    """The training of one command: its executors, and the progress of its parts."""

    queue: TrialQueue
    reporter: Reporter
    stop: StopRequest
    started: float = field(default_factory=time.time)
    n_workers: int = 0  # processes beside this one, which then trains nothing itself
    saved: int = 0

    def __post_init__(self) -> None:
        self.n_trials = len(self.queue.missing)
        self._running: dict[Part, tuple[int, int, int]] = {}  # replicas, steps done, all steps
        self._steps = 0  # of all trials together
        self._first_step = self._reported_at = 0.0

    def run(self, workers: int | None) -> None:
        """Train all missing trials, and those that other processes leave behind."""
        events = Events(self._update_progress, self._save_part, self.stop)
        is_missing = True
        while is_missing:
            # 1. cut the missing trials into parts
            sizes = self.queue.estimate_sizes()
            seconds = sum(size.seconds * len(stack.trials) for stack, size in sizes)
            n_workers = workers or choose_n_workers(seconds)
            n_parts = self.queue.cut_parts(sizes, n_workers)
            self.n_workers = min(n_workers, n_parts) if n_workers > 1 else 0
            where = _count_processes(self.n_workers) if self.n_workers else "this process"
            log.info("%d trials in %d parts, in %s", len(self.queue.missing), n_parts, where)
            # 2. train them in workers, or in this process if workers cannot start
            if self.n_workers:
                try:
                    self._make_process_executor().run(self.queue.take, events)
                except CannotStart as error:
                    log.warning("No worker processes, training goes on in this one: %s.", error)
                    self.queue.release()
                    self.n_workers = 0
            if not self.n_workers:
                LocalExecutor(self.started).run(self.queue.take, events)
            # 3. wait for the trials of other processes, which may be stopped or killed
            is_missing = self.queue.wait_for_others(
                self.stop,
                lambda n: log.warning("Another process trains %d of these trials: waiting for its records.", n),
            )

    def _make_process_executor(self) -> Executor:
        # cloudpickle and multiprocessing load only where workers are used
        from lossbench.runner.executors.processes import ProcessExecutor, Setup, pickle_registered

        kinds = pickle_registered(list(self.queue.missing.values()))
        gpus = list_gpus()
        devices = [gpus[i % len(gpus)] if gpus else "" for i in range(self.n_workers)]
        return ProcessExecutor([Setup(self.started, device, kinds, list_loaded()) for device in devices])

    def _update_progress(self, part: Part, n_replicas: int, step: int, n_steps: int) -> None:
        """Count `step` of `n_steps` steps of a part, which trains `n_replicas` trials."""
        if not self._first_step:
            self._first_step = time.monotonic()  # starting workers is not training
        if part in self._running:  # steps before its first report may be those of an earlier command
            n_before, step_before, _ = self._running[part]
            self._steps += max(0, n_replicas * step - n_before * step_before)
        self._running[part] = n_replicas, step, n_steps
        if time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self._report_progress()

    def _report_progress(self) -> None:
        self._reported_at = time.monotonic()
        done = self.saved + sum(n * step / n_steps for n, step, n_steps in self._running.values())
        seconds = self._reported_at - self._first_step if self._first_step else 0.0
        self.reporter.on_progress(Progress(self.n_trials, min(done, self.n_trials), self._steps, seconds))

    def _save_part(self, part: Part, new: Sequence[Record] | None) -> None:
        """Save the records of a part that has ended; None if it was stopped."""
        self._running.pop(part, None)
        if new is None:
            return
        experiments = self.queue.save(part, new)
        n_new = self.queue.count_missing(new)
        self.saved += n_new
        untrained = Counter((r.row["status"], r.row["reason"]) for r in new if r.row["status"] in UNTRAINED)
        for (status, reason), n in untrained.items():
            log.log(LEVELS[status], "%s %s: %s", _count_trials(n), status, reason)
        if n_new:
            log.info("%d of %d trials on record", self.saved, self.n_trials)
        self._report_progress()
        if experiments:
            self.reporter.on_saved(experiments)


def _count_processes(n: int) -> str:
    return "1 worker process" if n == 1 else f"{n} worker processes"


def _count_trials(n: int) -> str:
    return "1 trial" if n == 1 else f"{n:,} trials"


def choose_n_workers(seconds: float) -> int:
    """Return the number of processes: one per GPU; on CPUs one per core if the training takes long enough.

    seconds: the estimated time of the training in one process.
    """
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return count_cores() if seconds > WORTH_WORKERS else 1


def list_gpus() -> list[str]:
    """Return the value of CUDA_VISIBLE_DEVICES for each GPU; nothing on a machine without."""
    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
