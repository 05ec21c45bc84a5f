"""Commands in processes of their own, without the seconds that each needs to import PyTorch and Lightning.

A fork server imports them once and is copied for each command: a process with its own memory, signals, folder and exit
code, in which nothing has run before.
"""

import io
import multiprocessing as mp
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from waiting import PATIENCE

PRELOADED = ["lossbench.cli.hydra.jobs", "lossbench.study", "lossbench.training.run"]


class Outcome(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Command:
    """`python ARGUMENTS` in `folder`, as it runs: `Command(folder, "-m", "lossbench", "loss=huber")`.

    arguments: `-m MODULE ...`, `-c CODE ...` or `FILE ...`. Modules and packages in the folder are found as if
    they were installed.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._said = tempfile.TemporaryDirectory(prefix="lossbench-command-")
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self._process = context.Process(target=_run, args=(folder, list(arguments), environment, self._said.name))
        with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):  # a fork server must not have threads
            self._process.start()

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill it, and return once it is dead."""
        self._process.kill()
        self._process.join()

    def wait(self) -> Outcome:
        """Return its exit code and what it has printed."""
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, f"it did not end in {PATIENCE:.0f} s"
        return Outcome(self._process.exitcode, *((Path(self._said.name) / n).read_text() for n in ("out", "err")))

    def close(self) -> None:
        """Kill it if it still runs, and forget what it has printed."""
        self.kill()
        self._process.close()
        self._said.cleanup()


def run_command(folder: Path, *arguments: str) -> Outcome:
    """Run one command to its end: its exit code and what it has printed."""
    command = Command(folder, *arguments)
    try:
        return command.wait()
    finally:
        command.close()


def _run(folder: Path, arguments: list[str], environment: dict[str, str], said: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(folder))
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(Path(said) / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(n, "wb", 0), write_through=True) for n in (1, 2))
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(arguments[1], {"__name__": "__main__"})
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
