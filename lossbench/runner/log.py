"""A study's log file: what was trained when, how fast, and what went wrong, with tracebacks."""

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


class _File(logging.FileHandler):
    """Gives up where it cannot write: the records say so, and the log is not worth a second message."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the file is opened here, outside of what logging handles
            self.handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written is still in the buffer
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the name is logging's
        log.removeHandler(self)


class _Told(logging.Handler):
    """Hands warnings to the reporter, without their tracebacks."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self.reporter.on_message(record.getMessage(), Level.WARNING)


@contextmanager
def keep_log(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Append to the log of the study in `folder` meanwhile, and hand warnings to the reporter."""
    with explain_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    file = _File(folder / NAME, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [file, _Told(reporter)]
    thread = threading.get_ident()
    with _verbosely():
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
"""Level and propagation of the logger before the first of the runs that go on, and again for each of the others."""


@contextmanager
def _verbosely() -> Iterator[None]:
    """Let the logger take what is of a log's level; the last of several runs at once puts it back as it was."""
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
    """The largest resident memory so far of this process, and of the largest of its workers if it had any."""
    unit = 1 if sys.platform == "darwin" else 1024
    own, child = (resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return f"{own / 1e9:.1f} GB" + (f", {child / 1e9:.1f} GB in the largest worker" if workers else "")
