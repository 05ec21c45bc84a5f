"""Who is told what a run does: TensorBoard's files, kept up with the records, and a bar in a terminal or a notebook."""

import logging
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from lossbench.analysis.study import Study, read_study
from lossbench.config.choices import Experiment
from lossbench.errors import LossbenchError
from lossbench.records import TRIALS
from lossbench.report.tensorboard import writer
from lossbench.runner.reporter import Level, Progress, SilentReporter

log = logging.getLogger("lossbench")

DRAW_SECONDS = 10.0
"""Between two times of writing curves, at least."""
PICTURES_AFTER = 20.0
"""Seconds that a run has to take for pictures of its losses, which take some."""


class BoardWriter(SilentReporter):
    """Writes the curves of what is new while a run goes on: several experiments at once, and a tenth of the time."""

    def __init__(self) -> None:
        self._undrawn: dict[Experiment, None] = {}
        self._begun = time.monotonic()
        self._draw_after = self._begun + DRAW_SECONDS

    def on_saved(self, experiments: Sequence[Experiment]) -> None:
        """Draw what is new, if the last time is long enough ago."""
        self._undrawn |= dict.fromkeys(experiments)
        if time.monotonic() > self._draw_after:
            started = time.monotonic()
            _refresh(self._undrawn)
            self._undrawn.clear()
            ended = time.monotonic()
            self._draw_after = ended + max(DRAW_SECONDS, 10 * (ended - started))

    def interrupt(self, experiments: Sequence[Experiment]) -> None:
        """Write the curves of what a run has put on record before it ended early, and what they say so far."""
        _refresh(experiments, ended=True)

    def finish(self, experiments: Sequence[Experiment], tuning: Sequence[Experiment] = ()) -> Study:
        """Write what is to be said of the experiments; return what was read for it, of them and of their tuning.

        That is also what a killed process has put on record and could not draw any more. Pictures of losses are drawn
        only where their seconds do not count.
        """
        pictures = time.monotonic() - self._begun > PICTURES_AFTER
        folders = _on_record(experiments)
        stale = any(not writer.is_fresh(e.output, e.folder) for e in experiments if e.folder in folders)
        study = read_study([*_on_record(tuning), *(writer.find_comparable(folders) if stale else folders)])
        for problem in study.problems:
            log.warning("%s", problem)
        _refresh(experiments, study, ended=True, predictions=True, pictures=pictures)
        return study


def _on_record(experiments: Iterable[Experiment]) -> list[Path]:
    return [f for f in dict.fromkeys(e.folder for e in experiments) if (f / TRIALS).exists()]


def _refresh(experiments: Iterable[Experiment], study: Study | None = None, **options: bool) -> None:
    ordered = sorted(dict.fromkeys(experiments), key=lambda e: str(e.output))
    losses = {e.template.loss.label: e.template.loss for e in ordered}
    for output, group in groupby(ordered, key=lambda e: e.output):
        try:
            left = writer.refresh(output, [e.folder for e in group], study, losses=losses, **options).n_undrawn
        except LossbenchError as error:  # the records are what counts; the next command draws again
            log.warning("TensorBoard's files are not written: %s", error)
        else:
            if left:
                log.info("Predictions are not drawn for %d combinations of loss and rate: there are many.", left)


class ProgressBar:
    """Shows the share of trial-steps done, and messages above it.

    There is no bar where there is neither a terminal nor a notebook with ipywidgets, by which rich moves it there.
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
            disable=not (console.is_terminal or (console.is_jupyter and find_spec("ipywidgets"))),
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
