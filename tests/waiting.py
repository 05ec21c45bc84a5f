"""How tests wait: for an event, never for a time that some machine needs."""

import time
from collections.abc import Callable
from typing import Protocol

PATIENCE = 600.0
"""Seconds after which a test gives up on an event. Ten times what the slowest event takes on a quiet machine: only a
program that hangs gets there."""


class Running(Protocol):
    """A process: of subprocess, or a command of ours."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""


def wait_until(condition: Callable[[], object], what: str, process: Running | None = None) -> None:
    """Return once `condition()` holds; fail where it never does, or where `process` ends before it does.

    what: the event in words, for the message.
    """
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None or condition(), f"it ended before {what}"
        assert time.monotonic() < ends, f"waited {PATIENCE:.0f} s in vain until {what}"
        time.sleep(0.02)
