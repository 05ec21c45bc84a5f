"""One bar over all that a command trains: trials, speed, time left."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lossbench.training.workers import Part

PAUSE = 0.1
"""Seconds between two looks of the bar."""


class Bar:
    """Shows the share of trial-steps done. Off where standard error is no terminal."""

    def __init__(self, total: int, console: Console, shown: bool = True) -> None:
        self.total, self.done, self.steps = total, 0, 0
        self._running: dict[Part, tuple[int, int, int]] = {}
        self._shown_at = 0.0
        self.progress = Progress(
            TextColumn("{task.fields[trials]}"),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self.task = self.progress.add_task("", total=float(total), trials=f"{total:,} trials", speed="preparing")
        self.started = time.monotonic()  # and again at the first step: starting workers is not training

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def update(self, part: Part, rows: int, step: int, steps: int) -> None:
        """`rows` trials of `part` have done `step` of their `steps`."""
        if self.progress.disable:
            return
        if not self.steps:
            self.started = time.monotonic()
        if part in self._running:
            before_rows, before, _ = self._running[part]
            self.steps += max(0, rows * step - before_rows * before)
        self._running[part] = rows, step, steps
        self._show()

    def ended(self, part: Part, trials: int) -> None:
        """So many of its trials are on record, those that could not be trained included."""
        self._running.pop(part, None)
        self.done += trials
        self._show(now=True)

    def _show(self, now: bool = False) -> None:
        at = time.monotonic()
        if not now and at - self._shown_at < PAUSE:
            return
        self._shown_at = at
        done = self.done + sum(rows * step / steps for rows, step, steps in self._running.values())
        speed = f"{self.steps / max(at - self.started, 1e-9):,.0f} trial-steps/s"
        self.progress.update(
            self.task, completed=min(done, self.total), trials=f"{int(done):,}/{self.total:,} trials", speed=speed
        )
