"""Train what experiments miss: in this process, or in workers where they pay."""

import logging
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console

from lossbench import registry
from lossbench.cli import console
from lossbench.cli.journal import journal, peak_memory
from lossbench.cli.progress import Bar
from lossbench.cli.signals import Interrupted, Stopping, stopping
from lossbench.cli.work import Work
from lossbench.config.choices import EXTERNAL
from lossbench.config.experiment import Experiment
from lossbench.plugins import loaded
from lossbench.records import UNTRAINED, Record
from lossbench.training.size import cores
from lossbench.training.workers import CannotStart, Crew, Events, Part, Setup, registered_here

log = logging.getLogger("lossbench")

LEVELS = {"failed": logging.ERROR, "skipped": logging.WARNING}
WORTH_WORKERS = 30.0
"""Estimated seconds of training in one process from which workers are started: each pays about 4 s of imports."""


def train(experiments: Sequence[Experiment], workers: int | None = None, quiet: bool = False) -> None:
    """Train the missing trials; records are saved part by part, also of trials that fail, with the reason.

    `workers`: how many processes; None chooses. Raises RecordError where records cannot be written, and
    `Interrupted`, once all is saved, at Ctrl-C or SIGTERM.
    """
    work = Work(experiments)
    if not quiet and len(work.missing) < len(work.wanted):
        console.messages().print(_already(len(work.wanted) - len(work.missing), len(work.missing)), soft_wrap=True)
    if not work.missing:
        work.close()
        return
    screen = None if quiet else console.messages()
    with journal(experiments[0].output, screen), stopping() as stop:
        log.info("lossbench %s", shlex.join(sys.argv[1:]))
        _tell_adapters(experiments, screen)
        with Bar(len(work.missing), console.messages(), not quiet) as bar:
            session = Session(work, bar, stop, time.time())
            try:
                session.run(workers)
            finally:
                work.close()
        _tell_end(session, None if stop() else screen)
        if stop():
            raise Interrupted(_stopped(session), stop.signal)


def _tell_adapters(experiments: Sequence[Experiment], screen: Console | None) -> None:
    """What the losses of other libraries are taken for: it may have been guessed."""
    for choice in dict.fromkeys(e.template.loss for e in experiments if e.template.loss.name == EXTERNAL):
        text = registry.losses.build(choice).told()  # type: ignore[attr-defined]
        log.info(text)
        if screen:
            screen.print(text, soft_wrap=True, markup=False)


def _already(done: int, missing: int) -> str:
    count = f"{done} trial is" if done == 1 else f"{done} trials are"
    if missing:
        return f"{count} on record already; training the other {missing}."
    return f"{count} on record already: nothing to train. (Delete the records to train again.)"


@dataclass
class Session:
    """The training of one command."""

    work: Work
    bar: Bar
    stop: Stopping
    started: float
    n_workers: int = 0  # processes beside this one, which then trains nothing itself
    saved: int = 0

    def run(self, asked: int | None) -> None:
        """Train all, and what other processes have left behind."""
        events = Events(self.bar.update, self._ended, self.stop)
        left = True
        while left:
            sizes = self.work.sizes()
            seconds = sum(s.seconds * len(stack.trials) for stack, s in sizes)
            wanted = asked or n_workers(seconds)
            parts = self.work.plan(sizes, wanted)
            self.n_workers = min(wanted, parts) if wanted > 1 else 0
            where = _processes(self.n_workers) if self.n_workers else "this process"
            log.info("%d trials in %d parts, in %s", len(self.work.missing), parts, where)
            self._train(events)
            left = self.work.wait_for_others(self.stop, self._tell_waiting)

    def _train(self, events: Events) -> None:
        if self.n_workers:
            try:
                with Crew(self._setups()) as crew:
                    crew.run(self.work.next, events)
            except CannotStart as error:
                log.warning("No worker processes, training goes on in this one: %s.", error)
                self.work.drop()
                self.n_workers = 0
            else:
                return
        self._train_here(events)

    def _train_here(self, events: Events) -> None:
        from lossbench.training.checkpoint import Stopped, Watch
        from lossbench.training.run import attempt  # Lightning loads only in a process that trains

        while not self.stop() and (part := self.work.next()):
            watch = Watch(partial(events.progress, part), self.stop, part.claim.folder, self.started)
            try:
                found = attempt(part.stack, watch)
            except Stopped:
                return
            events.ended(part, found)

    def _setups(self) -> list[Setup]:
        kinds = registered_here(list(self.work.missing.values()))
        names = gpu_names()
        devices = [names[i % len(names)] if names else "" for i in range(self.n_workers)]
        return [Setup(self.started, device, kinds, loaded()) for device in devices]

    def _ended(self, part: Part, found: Sequence[Record] | None) -> None:
        new = self.work.ended(part, found)
        self.bar.ended(part, new)
        self.saved += new
        for (status, reason), count in _untrained(found or ()).items():
            log.log(LEVELS[status], "%s %s: %s", _trials(count), status, reason)
        if new:
            log.info("%d of %d trials on record", self.saved, self.bar.total)

    def _tell_waiting(self, n: int) -> None:
        log.warning("Another process trains %d of these trials: waiting for its records.", n)


def _processes(n: int) -> str:
    return "1 worker process" if n == 1 else f"{n} worker processes"


def _trials(n: int) -> str:
    return "1 trial" if n == 1 else f"{n:,} trials"


def _untrained(found: Sequence[Record]) -> Counter[tuple[str, str]]:
    """How many trials have no numbers, by status and reason."""
    return Counter((r.row["status"], r.row["reason"]) for r in found if r.row["status"] in UNTRAINED)


def n_workers(seconds: float) -> int:
    """One process per GPU; on CPUs one per core where the work, so many seconds in one process, is worth it."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return cores() if seconds > WORTH_WORKERS else 1


def gpu_names() -> list[str]:
    """What CUDA_VISIBLE_DEVICES is to be for each GPU; none on a machine without."""
    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


def _tell_end(session: Session, screen: Console | None) -> None:
    seconds = time.time() - session.started
    where = f" in {_processes(session.n_workers)}" if session.n_workers else ""
    memory = peak_memory(session.n_workers > 0)
    text = f"Trained {_trials(session.saved)} in {seconds:.1f} s{where}; peak memory {memory}."
    log.info(text)
    if screen:
        screen.print(text, soft_wrap=True)


def _stopped(session: Session) -> str:
    return (
        f"stopped with {session.saved:,} of {session.bar.total:,} trials on record; the others' progress is kept. "
        "The same command goes on from there."
    )
