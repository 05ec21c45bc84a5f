"""Reporters of a run: a writer of TensorBoard's files, and a progress bar in a terminal or a notebook."""

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
"""The least time between two updates of the curves."""
PICTURES_AFTER = 20.0
"""Seconds that a run has to take for pictures of its losses, which take some themselves."""


class BoardWriter(SilentReporter):
    """Keeps TensorBoard's curves up to date during a run, several experiments at once, in a tenth of the time."""

    def __init__(self) -> None:
        self._undrawn: dict[Experiment, None] = {}
        self._started = time.monotonic()
        self._draw_after = self._started + DRAW_SECONDS

    def on_saved(self, experiments: Sequence[Experiment]) -> None:
        """Draw new curves, if the last update is long enough ago."""
        self._undrawn |= dict.fromkeys(experiments)
        if time.monotonic() > self._draw_after:
            # the next update waits until drawing has taken at most a tenth of the time
            started = time.monotonic()
            _refresh_boards(self._undrawn)
            self._undrawn.clear()
            ended = time.monotonic()
            self._draw_after = ended + max(DRAW_SECONDS, 10 * (ended - started))

    def interrupt(self, experiments: Sequence[Experiment]) -> None:
        """Write the curves and comparisons of the trials that a run has put on record before it ended early."""
        _refresh_boards(experiments, ended=True)

    def finish(self, experiments: Sequence[Experiment], tuning: Sequence[Experiment] = ()) -> Study:
        """Write the curves and comparisons of the experiments; return their records, and those of their tuning.

        This includes trials that a killed process has put on record but not drawn. Pictures of losses are drawn only
        after a run that took long enough for their seconds not to matter.
        """
        pictures = time.monotonic() - self._started > PICTURES_AFTER
        folders = _list_recorded(experiments)
        stale = any(not writer.is_fresh(e.output, e.folder) for e in experiments if e.folder in folders)
        # boards compare with the other experiments of a study: these are read only if there is anything to write
        study = read_study([*_list_recorded(tuning), *(writer.find_comparable(folders) if stale else folders)])
        for problem in study.problems:
            log.warning("%s", problem)
        _refresh_boards(experiments, study, ended=True, predictions=True, pictures=pictures)
        return study


def _list_recorded(experiments: Iterable[Experiment]) -> list[Path]:
    """Return the folders that hold records."""
    return [f for f in dict.fromkeys(experiment.folder for experiment in experiments) if (f / TRIALS).exists()]


def _refresh_boards(experiments: Iterable[Experiment], study: Study | None = None, **options: bool) -> None:
    """Write TensorBoard's files of each output folder; an error is logged and does not end the run."""
    ordered = sorted(dict.fromkeys(experiments), key=lambda experiment: str(experiment.output))
    losses = {experiment.template.loss.label: experiment.template.loss for experiment in ordered}
    for output, group in groupby(ordered, key=lambda experiment: experiment.output):
        folders = [experiment.folder for experiment in group]
        try:
            n_undrawn = writer.refresh(output, folders, study, losses=losses, **options).n_undrawn
        except LossbenchError as error:  # the records are what counts; the next command draws again
            log.warning("TensorBoard's files are not written: %s", error)
        else:
            if n_undrawn:
                log.info("Predictions are not drawn for %d combinations of loss and rate: there are many.", n_undrawn)


class ProgressBar:
    """Shows the share of trial-steps done, and messages above it.

    The bar needs a terminal, or a notebook with ipywidgets, by which rich draws it there.
    messages: print messages that are no warnings, too.
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
        # rich estimates the time left from trials, in which those under way count by their share
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
