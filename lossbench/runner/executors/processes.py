"""A pool of worker processes on this machine. Each trains one part at a time and reports through a pipe.

They come from a fork server that has imported everything once, and end with the process that they work for.
"""

import logging
import multiprocessing as mp
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from lossbench import registry
from lossbench.plugins import Plugin, register_plugin
from lossbench.records import Record
from lossbench.registry import GROUPS
from lossbench.runner.executors import CannotStart, Events, Part
from lossbench.training.replicas import get_one_core_environment
from lossbench.types import Stack, Trial

log = logging.getLogger("lossbench")

REPORT_SECONDS = 0.1
"""The shortest time between two reports of progress."""
GRACE = 5.0
"""Seconds for a worker to end by itself."""
DEATHS = 2
"""Times that a part may kill its worker before it is split to find the trial that does."""

Ended = list[tuple[Part, Sequence[Record] | None]]
"""Parts that have ended with their records; None if a part was stopped."""


@dataclass(frozen=True)
class Setup:
    """The values that a worker starts with."""

    started: float  # when the command began to train, time.time()
    device: str = ""  # CUDA_VISIBLE_DEVICES, where it is to be set
    kinds: bytes = b""  # classes that a script has registered
    plugins: tuple[Plugin, ...] = ()  # files and modules that have been loaded


def pickle_registered(trials: Sequence[Trial]) -> bytes:
    """Pickle the registered classes of these trials that no installed package offers.

    By value where a script or a notebook defines them, as a worker does not import that. Raises `CannotStart` if
    pickling fails.
    """
    # 1. all names in the trials, with those inside combined losses and deferred weightings
    choices = {(group, getattr(t, group)) for t in trials for group in GROUPS}
    used = [(GROUPS[group], part.name) for group, choice in choices for part in registry.unfold(choice)]
    used += [(registry.metrics, t.metric) for t in trials]
    # 2. their classes, without installed ones
    entries = {(kinds.group, name): kinds.entries()[name] for kinds, name in dict.fromkeys(used)}
    local = [(group, entry) for (group, _), entry in entries.items() if not entry.installed]
    try:
        return cloudpickle.dumps(local)
    except Exception as error:  # a user's class may raise anything when it is pickled
        names = ", ".join(sorted(entry.name for _, entry in local))
        raise CannotStart(f"{names} cannot be pickled: {error}") from error


class Worker:
    """A worker process, and the part that it trains."""

    def __init__(self, context: Any, setup: Setup) -> None:
        self.context, self.setup = context, setup
        self.part: Part | None = None
        self._start()

    def _start(self) -> None:
        self.pipe, child_pipe = self.context.Pipe()
        self.process = self.context.Process(target=serve, args=(child_pipe, self.setup), daemon=True)
        with _hide_main():
            self.process.start()
        child_pipe.close()

    def give(self, part: Part) -> None:
        """Let the process train `part`."""
        self.part = part
        self.pipe.send((part.stack, part.checkpoints))

    def restart(self) -> str:
        """Start a new process in place of one that has ended; return how that one ended."""
        self.part = None
        self.close(time.monotonic() + GRACE)
        code = self.process.exitcode or 0
        self._start()
        return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"

    def stop(self) -> None:
        """Ask the process to write a checkpoint and end."""
        if self.process.is_alive():
            self.process.terminate()

    def close(self, deadline: float) -> None:
        """Close the pipe, at which the process ends by itself; kill it at the deadline."""
        self.pipe.close()
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class ProcessExecutor:
    """A pool of worker processes on this machine. They start with the first part, and end with the last."""

    def __init__(self, setups: Sequence[Setup]) -> None:
        self.setups = list(setups)
        self.workers: list[Worker] = []
        self.deaths: dict[tuple[Trial, ...], int] = {}
        self.spare: list[Part] = []  # parts that have lost their workers

    def run(self, next_part: Callable[[], Part | None], events: Events) -> None:
        """Train parts until there are no more, or until `events.stopping()` and all have written checkpoints.

        Raises `CannotStart` if a worker does not start.
        """
        try:
            self._start_workers()
            self._train(next_part, events)
        finally:
            deadline = time.monotonic() + GRACE
            for worker in self.workers:
                worker.close(deadline)
            self.workers = []

    def _start_workers(self) -> None:
        if sys.platform == "darwin":  # Apple's libraries do not survive a fork
            context: Any = mp.get_context("spawn")
        else:
            context = mp.get_context("forkserver")
            context.set_forkserver_preload(["lossbench.training.run"])
        try:
            with _set_environment(get_one_core_environment()):  # also because a fork server must not have threads
                self.workers += (Worker(context, setup) for setup in self.setups)
        except Exception as error:  # for example in a daemonic process, which may have no children
            raise CannotStart(f"a worker process cannot be started: {error}") from error
        for worker in self.workers:
            self._wait_until_ready(worker)

    def _wait_until_ready(self, worker: Worker) -> None:
        try:
            worker.pipe.recv()
        except (EOFError, OSError) as error:
            raise CannotStart("a worker process ended before it was ready") from error

    def _train(self, next_part: Callable[[], Part | None], events: Events) -> None:
        is_stopped = False
        self._assign_parts(next_part, events)
        while busy := [w for w in self.workers if w.part is not None]:
            # 1. ask all workers to stop, once
            if events.stopping() and not is_stopped:
                is_stopped = True
                for worker in busy:
                    worker.stop()
            # 2. receive messages, and give free workers their next parts
            ready = wait([w.pipe for w in busy], timeout=0.2)
            ended: Ended = []
            try:
                for worker in busy:
                    if worker.pipe in ready:
                        ended += self._receive(worker, events)
                self._assign_parts(next_part, events)  # before records are written, so that no worker waits for that
            # 3. save the records, also of parts that have ended before another message raised
            finally:
                for part, records in ended:
                    events.ended(part, records)

    def _assign_parts(self, next_part: Callable[[], Part | None], events: Events) -> None:
        for worker in self.workers:
            if worker.part is not None or events.stopping():
                continue
            part = self.spare.pop() if self.spare else next_part()
            if part is None:
                continue
            try:
                worker.give(part)
            except OSError:  # it has died while it had nothing to do
                self._replace(worker, part)

    def _replace(self, worker: Worker, part: Part) -> None:
        """Restart a worker and keep its part for the next free one."""
        worker.restart()
        self._wait_until_ready(worker)
        self.spare.append(part)

    def _receive(self, worker: Worker, events: Events) -> Ended:
        """Receive one message of a worker; return its part if that has ended."""
        part = worker.part
        assert part is not None
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.part = None
            return [(part, None)] if events.stopping() else self._handle_death(part, worker)
        if kind == "progress":
            events.progress(part, *value)
        elif kind == "log":
            log.handle(logging.makeLogRecord(value))
        elif value is None and not events.stopping():  # a signal from outside has stopped this worker
            self._replace(worker, part)
        else:
            worker.part = None
            return [(part, value)]
        return []

    def _handle_death(self, part: Part, worker: Worker) -> Ended:
        """Train the part again, then its halves; a trial that kills its worker alone has failed."""
        ending = worker.restart()
        self._wait_until_ready(worker)
        trials = part.stack.trials
        self.deaths[trials] = deaths = self.deaths.get(trials, 0) + 1
        log.warning("A worker process with %d trials %s.", len(trials), ending)
        if deaths >= DEATHS and len(trials) == 1:
            from lossbench.training.run import make_failed_record

            reason = f"The process that trained it {ending}, {DEATHS} times."
            return [(part, [make_failed_record(trials[0], reason)])]
        if deaths < DEATHS:
            self.spare.append(part)
        else:
            middle = len(trials) // 2
            halves = (trials[:middle], trials[middle:])
            self.spare += (replace(part, name=f"{part.name}.{i}", stack=Stack(h)) for i, h in enumerate(halves))
        return [(part, [])]  # no records: the part ends under this name


@contextmanager
def _hide_main() -> Iterator[None]:
    """Hide the user's script: multiprocessing would have each worker run it, up to its `__main__` guard."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _set_environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def serve(pipe: Connection, setup: Setup) -> None:
    """Run in a worker: train the stacks that come through `pipe` until it closes."""
    stop_signals: list[int] = []  # an Event has a lock, on which a second signal would wait for the first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, lambda number, _: stop_signals.append(number))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        train = _set_up(pipe, setup, lambda: bool(stop_signals))
        pipe.send(("ready", None))
        while not stop_signals:
            pipe.send(train(*pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed the pipe: nothing more to do
        return


def _die_with_parent() -> None:
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the last checkpoint has its progress


def _set_up(pipe: Connection, setup: Setup, stop: Callable[[], bool]) -> Callable[[Stack, Path], tuple[str, Any]]:
    """Prepare the worker and return the function that trains a stack and returns the message for the parent."""
    if setup.device:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.device  # before torch looks
    import torch

    from lossbench.training.checkpoint import CheckpointCallback, TrainingStopped
    from lossbench.training.run import run_stack_or_fail

    torch.set_num_threads(1)
    _redirect_log(pipe)
    for plugin in setup.plugins:  # before the classes, which are pickled by name
        register_plugin(plugin)
    for group, entry in pickle.loads(setup.kinds) if setup.kinds else ():
        registry.ALL[group].register(entry.name, entry.kind, entry.source)

    def train(stack: Stack, folder: Path) -> tuple[str, Any]:
        callback = CheckpointCallback(_make_progress(pipe), stop, folder, setup.started)
        try:
            return "ended", run_stack_or_fail(stack, callback)
        except TrainingStopped:
            return "ended", None

    return train


def _make_progress(pipe: Connection) -> Callable[[int, int, int], None]:
    last = 0.0

    def send_progress(n_replicas: int, step: int, n_steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > REPORT_SECONDS or step == n_steps:
            last = now
            pipe.send(("progress", (n_replicas, step, n_steps)))

    return send_progress


def _redirect_log(pipe: Connection) -> None:
    """Send this process's log records to the parent's log."""

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # as plain values: arguments and tracebacks of a record need not be picklable
            trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
            facts = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            pipe.send(("log", facts | {"msg": record.getMessage(), "process": os.getpid(), "exc_text": trace}))

    log.handlers, log.propagate = [Sender()], False
    log.setLevel(logging.INFO)
