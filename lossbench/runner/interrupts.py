"""Ctrl-C and SIGTERM while training: the first requests a stop between steps, the second stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """A flag that signals set, and that training calls between steps."""

    def __init__(self) -> None:
        self.signal = 0  # the number of the first signal; 0 if none has come

    def __call__(self) -> bool:
        """Return True if training is to stop."""
        return self.signal != 0

    def handle_signal(self, number: int, _: FrameType | None) -> None:
        """Set the flag; at the second signal, raise `KeyboardInterrupt`."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number


class Interrupted(KeyboardInterrupt):
    """A signal has stopped the training. The message says what is done, and how to go on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number  # exit code, as shells use it


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Handle both signals inside the block. Python allows that in the main thread only; others get no request."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {n: signal.signal(n, request.handle_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
