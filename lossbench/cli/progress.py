"""One bar over all stacks: trials, steps, time left."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lossbench.types import Stack


class Bar:
    """Shows the share of trial-steps done. Off where standard error is no terminal."""

    def __init__(self, planned: Sequence[Stack], console: Console, shown: bool = True) -> None:
        self.trials = sum(len(s.trials) for s in planned)
        self.done_rows, self.last, self.shown_at = 0, 0, 0.0
        self.progress = Progress(
            TextColumn("{task.fields[trials]} trials"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self.task = self.progress.add_task("", total=float(self.trials), trials=self.trials, rate="starting")
        self.started = time.perf_counter()

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def update(self, rows: int, step: int, steps: int) -> None:
        """`rows` trials have done `step` of their `steps`."""
        now = time.perf_counter()
        if now - self.shown_at < 0.1 and step < steps:
            return
        self.shown_at = now
        completed = self.done_rows + rows * step / steps
        rate = f"{rows * step / max(now - self.started, 1e-9):,.0f} trial-steps/s"
        self.progress.update(self.task, completed=completed, rate=rate)
        if step == steps:
            self.done_rows += rows
            self.started = now
