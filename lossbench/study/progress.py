"""One bar over all that a run trains: trials, speed, time left. In a terminal or a notebook."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from lossbench.config.experiment import Experiment
from lossbench.runner.reporter import Level, Progress


class ProgressBar:
    """Shows the share of trial-steps done, and messages above it. No bar where there is neither terminal nor notebook.

    messages: whether to print messages that are no warnings.
    """

    def __init__(self, console: Console, messages: bool = True) -> None:
        self.console, self.messages = console, messages
        self.bars = Bars(
            TextColumn("{task.fields[trials]}"),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
            transient=True,
        )
        self.task = self.bars.add_task("", total=1.0, trials="preparing", speed="", visible=False)

    def __enter__(self) -> "ProgressBar":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def on_progress(self, progress: Progress) -> None:
        """Move the bar."""
        self.bars.update(
            self.task,
            visible=True,
            total=float(progress.n_trials),
            completed=progress.done,
            trials=f"{int(progress.done):,}/{progress.n_trials:,} trials",
            speed=f"{progress.steps / max(progress.seconds, 1e-9):,.0f} trial-steps/s",
        )

    def on_saved(self, experiments: Sequence[Experiment]) -> None:
        """Do nothing: the bar counts trials."""

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Print a line."""
        if self.messages or level >= Level.WARNING:
            self.console.print(text, soft_wrap=True, markup=False)
