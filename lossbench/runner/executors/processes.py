"""Worker processes on this machine. Each trains one part at a time and tells of it through a pipe.

They come from a fork server that has imported everything once, and die with the process that they work for.
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

PAUSE = 0.1
"""Seconds between two reports of progress."""
GRACE = 5.0
"""Seconds that a worker has to end by itself."""
DEATHS = 2
"""Times that a part may kill its worker before it is split to find the trial that does."""


@dataclass(frozen=True)
class Setup:
    """What a worker begins with."""

    started: float  # when the command began to train, time.time()
    device: str = ""  # CUDA_VISIBLE_DEVICES, where it is to be set
    kinds: bytes = b""  # classes that a script has registered
    plugins: tuple[Plugin, ...] = ()  # files and modules that have been loaded


def pickle_registered(trials: Sequence[Trial]) -> bytes:
    """Return the classes of these trials that no installed package offers, pickled, what they hold beside them.

    By value where a script or a notebook defines them: a worker does not import that. Raises `CannotStart` if that
    fails.
    """
    chosen = {(group, getattr(t, group)) for t in trials for group in GROUPS}
    used = [(GROUPS[group], one.name) for group, choice in chosen for one in registry.unfold(choice)]
    used += [(registry.metrics, t.metric) for t in trials]
    found = {(names.group, name): names.entries()[name] for names, name in dict.fromkeys(used)}
    entries = [(group, entry) for (group, _), entry in found.items() if not entry.installed]
    try:
        return cloudpickle.dumps(entries)
    except Exception as error:  # pickle raises what a stranger's class raises
        names = ", ".join(sorted(entry.name for _, entry in entries))
        raise CannotStart(f"{names} cannot be pickled: {error}") from error


class Worker:
    """One process, and the part that it works on."""

    def __init__(self, context: Any, setup: Setup) -> None:
        self.context, self.setup = context, setup
        self.part: Part | None = None
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=serve, args=(theirs, self.setup), daemon=True)
        with _without_main():
            self.process.start()
        theirs.close()

    def give(self, part: Part) -> None:
        """Let it train `part`."""
        self.part = part
        self.pipe.send((part.stack, part.checkpoints))

    def restart(self) -> str:
        """A new process for one that has ended: how it did."""
        self.part = None
        self.close(time.monotonic() + GRACE)
        code = self.process.exitcode or 0
        self._start()
        return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        if self.process.is_alive():
            self.process.terminate()

    def close(self, deadline: float) -> None:
        """Close its pipe, at which it ends by itself; at the deadline it is killed."""
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
        self.spare: list[Part] = []  # of parts that have lost their workers

    def run(self, next_part: Callable[[], Part | None], events: Events) -> None:
        """Train parts until there are no more, or until `events.stopping()` and all have written checkpoints.

        Raises `CannotStart` if a worker does not come up.
        """
        try:
            self._start()
            self._run(next_part, events)
        finally:
            deadline = time.monotonic() + GRACE
            for worker in self.workers:
                worker.close(deadline)
            self.workers = []

    def _start(self) -> None:
        context = _context()
        try:
            with _environment(get_one_core_environment()):  # also because a fork server must not have threads
                self.workers += (Worker(context, setup) for setup in self.setups)
        except Exception as error:  # in a pool's process, for one, which may have no children
            raise CannotStart(f"a worker process cannot be started: {error}") from error
        for worker in self.workers:
            self._await(worker)

    def _await(self, worker: Worker) -> None:
        try:
            worker.pipe.recv()
        except (EOFError, OSError) as error:
            raise CannotStart("a worker process ended before it was ready") from error

    def _run(self, next_part: Callable[[], Part | None], events: Events) -> None:
        told = False
        self._assign(next_part, events)
        while busy := self._busy():
            if events.stopping() and not told:
                told = True
                for worker in busy:
                    worker.stop()
            ready = wait([w.pipe for w in busy], timeout=0.2)
            ended: list[tuple[Part, Sequence[Record] | None]] = []
            try:
                for worker in busy:
                    if worker.pipe in ready:
                        ended += self._hear(worker, events)
                self._assign(next_part, events)  # before records are written, so that nobody waits for that
            finally:
                for part, found in ended:
                    events.ended(part, found)

    def _assign(self, next_part: Callable[[], Part | None], events: Events) -> None:
        for worker in self.workers:
            if worker.part is None and not events.stopping():
                part = self.spare.pop() if self.spare else next_part()
                if part is not None:
                    self._give(worker, part)

    def _give(self, worker: Worker, part: Part) -> None:
        try:
            worker.give(part)
        except OSError:  # it has died while it had nothing to do
            worker.restart()
            self._await(worker)
            self.spare.append(part)

    def _busy(self) -> list[Worker]:
        return [w for w in self.workers if w.part is not None]

    def _hear(self, worker: Worker, events: Events) -> list[tuple[Part, Sequence[Record] | None]]:
        """One message of a worker; its part with the records (None if stopped) when that has ended."""
        part = worker.part
        assert part is not None
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.part = None
            return [(part, None)] if events.stopping() else self._after_death(part, worker)
        if kind == "progress":
            events.progress(part, *value)
        elif kind == "said":
            log.handle(logging.makeLogRecord(value))
        elif value is None and not events.stopping():  # somebody else has stopped it
            worker.restart()
            self._await(worker)
            self.spare.append(part)
        else:
            worker.part = None
            return [(part, value)]
        return []

    def _after_death(self, part: Part, worker: Worker) -> list[tuple[Part, Sequence[Record] | None]]:
        """Train it again, then its halves; a trial that alone kills its worker has failed."""
        how = worker.restart()
        self._await(worker)
        trials = part.stack.trials
        self.deaths[trials] = deaths = self.deaths.get(trials, 0) + 1
        log.warning("A worker process with %d trials %s.", len(trials), how)
        if deaths >= DEATHS and len(trials) == 1:
            return [(part, [_fatal(trials[0], how)])]
        middle = len(trials) // 2
        halves = (trials[:middle], trials[middle:])
        if deaths < DEATHS:
            self.spare.append(part)
        else:
            self.spare += (replace(part, name=f"{part.name}.{i}", stack=Stack(h)) for i, h in enumerate(halves))
        return [(part, [])]  # no records: it ends as this part


def _fatal(trial: Trial, how: str) -> Record:
    from lossbench.training.run import make_failed_record

    return make_failed_record(trial, f"The process that trained it {how}, {DEATHS} times.")


def _context() -> Any:
    if sys.platform == "darwin":  # Apple's libraries do not survive a fork
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["lossbench.training.run"])
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the user's script meanwhile: multiprocessing would have each worker run it, up to its `__main__` guard."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
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
    """A worker's life: train what comes through `pipe` until it closes."""
    stopped: list[int] = []  # an Event has a lock, on which a second signal would wait for the first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        train = _ready(pipe, setup, lambda: bool(stopped))
        pipe.send(("ready", None))
        while not stopped:
            pipe.send(train(*pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed the pipe: nothing more to do
        return


def _die_with_parent() -> None:
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # whatever it trains is in the last checkpoint


def _ready(pipe: Connection, setup: Setup, stop: Callable[[], bool]) -> Callable[[Stack, Path], tuple[str, Any]]:
    if setup.device:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.device
    import torch

    from lossbench.training.checkpoint import Stopped, Watch
    from lossbench.training.run import attempt

    torch.set_num_threads(1)
    _tell_through(pipe)
    for plugin in setup.plugins:  # before the classes, which are pickled by name
        register_plugin(plugin)
    for group, entry in pickle.loads(setup.kinds) if setup.kinds else ():
        registry.ALL[group].register(entry.name, entry.kind, entry.source)

    def train(stack: Stack, folder: Path) -> tuple[str, Any]:
        watch = Watch(_progress(pipe), stop, folder, setup.started)
        try:
            return "ended", attempt(stack, watch)
        except Stopped:
            return "ended", None

    return train


def _progress(pipe: Connection) -> Callable[[int, int, int], None]:
    last = 0.0

    def tell(rows: int, step: int, steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > PAUSE or step == steps:
            last = now
            pipe.send(("progress", (rows, step, steps)))

    return tell


def _tell_through(pipe: Connection) -> None:
    """Let this process's log records appear in the parent's log."""

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
            facts = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            pipe.send(("said", facts | {"msg": record.getMessage(), "process": os.getpid(), "exc_text": trace}))

    log.handlers, log.propagate = [Sender()], False
    log.setLevel(logging.INFO)
