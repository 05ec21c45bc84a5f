"""A study's log file: trainings with their times and speed, and errors with tracebacks."""

import logging
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lossbench.records import explain_errors
from lossbench.runner.reporter import Level, Reporter

NAME = "lossbench.log"
log = logging.getLogger("lossbench")


class _LogFile(logging.FileHandler):
    """A log file that gives up where it cannot write: saving the records fails as well, with a message."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # logging handles errors of writing, but not of opening
            self.handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written is still in the buffer
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the name is logging's
        log.removeHandler(self)


class _ReporterHandler(logging.Handler):
    """Passes warnings on to the reporter, without their tracebacks."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self.reporter.on_message(record.getMessage(), Level.WARNING)


@contextmanager
def keep_log(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Append to the log of the study in `folder` inside the block, and pass warnings on to the reporter."""
    with explain_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    file = _LogFile(folder / NAME, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [file, _ReporterHandler(reporter)]
    thread = threading.get_ident()
    with _open_logger():
        for handler in handlers:
            handler.addFilter(lambda record: record.thread == thread)  # another thread's run has a log of its own
            log.addHandler(handler)
        try:
            yield
        finally:
            for handler in handlers:
                log.removeHandler(handler)
                handler.close()


_changing = threading.Lock()
_before: list[tuple[int, bool]] = []
"""For each concurrent run, the logger's level and propagation before the first of them."""


@contextmanager
def _open_logger() -> Iterator[None]:
    """Let the logger accept messages of level INFO; the last of several concurrent runs restores its settings."""
    with _changing:
        _before.append(_before[0] if _before else (log.level, log.propagate))
        log.setLevel(logging.INFO)
        log.propagate = False
    try:
        yield
    finally:
        with _changing:
            level, propagate = _before.pop()
            if not _before:
                log.setLevel(level)
                log.propagate = propagate


def describe_peak_memory(workers: bool) -> str:
    """Describe the peak resident memory of this process, and of the largest of its workers if it had any."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts kilobytes
    process, child = (
        resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return f"{process / 1e9:.1f} GB" + (f", {child / 1e9:.1f} GB in the largest worker" if workers else "")
