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
        self.total = sum(len(s.trials) for s in planned)
        self.done, self.since_update = 0, 0.0
        self.progress = Progress(
            TextColumn("{task.fields[trials]}"),
            BarColumn(),
            TextColumn("{task.fields[steps]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        trials = f"{self.total} trials"
        self.task = self.progress.add_task("", total=float(self.total), trials=trials, steps="preparing")
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
        if now - self.since_update > 0.1 or step == steps:
            self.since_update = now
            speed = rows * step / max(now - self.started, 1e-9)
            self._show(self.done + rows * step / steps, f"step {step}/{steps}, {speed:,.0f} trial-steps/s")
        if step == steps:
            self.done, self.started = self.done + rows, now

    def stack_done(self, trials: int) -> None:
        """All `trials` of the stacks so far are done, those that could not be trained included."""
        self.done = trials
        self._show(trials, "")

    def _show(self, done: float, steps: str) -> None:
        trials = f"{int(done)}/{self.total} trials"
        self.progress.update(self.task, completed=done, trials=trials, steps=steps)
