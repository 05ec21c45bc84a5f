"""Who is told what a run does: a progress bar, TensorBoard's writer, a notebook, nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # choices import torch, for which locks need not wait
    from lossbench.config.choices import Experiment


class Level(IntEnum):
    """How much a message matters, in the numbers of `logging`."""

    INFO = 20
    WARNING = 30


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    done: trials, with the shares of those under way. steps: of all trials together, so far.
    """

    n_trials: int
    done: float
    steps: int
    seconds: float  # since the first step


class Reporter(Protocol):
    """What a run calls, in the thread that called it. What a reporter raises ends the run; what is saved stays."""

    def on_progress(self, progress: Progress) -> None:
        """Take how far the run is; called at most ten times a second, and whenever trials have ended."""

    def on_saved(self, experiments: "Sequence[Experiment]") -> None:
        """Take note that trials of these experiments have just been put on record."""

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Take one line for people."""


class SilentReporter:
    """Tells nobody. A base for reporters that care for some of the calls."""

    def on_progress(self, progress: Progress) -> None:
        """Do nothing."""

    def on_saved(self, experiments: "Sequence[Experiment]") -> None:
        """Do nothing."""

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Do nothing."""


class Reporters:
    """Several reporters as one."""

    def __init__(self, *reporters: Reporter) -> None:
        self.reporters = reporters

    def on_progress(self, progress: Progress) -> None:
        """Pass it on."""
        for reporter in self.reporters:
            reporter.on_progress(progress)

    def on_saved(self, experiments: "Sequence[Experiment]") -> None:
        """Pass it on."""
        for reporter in self.reporters:
            reporter.on_saved(experiments)

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Pass it on."""
        for reporter in self.reporters:
            reporter.on_message(text, level)
