"""Ctrl-C and SIGTERM while training: the first asks to stop, the second stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Asked between steps; knows by which signal."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal != 0

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """A signal has come."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal: what is done, and how to go on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Take both signals meanwhile; a thread that is not the main one cannot, and is not asked to stop."""
    state = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = {n: signal.signal(n, state.on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
