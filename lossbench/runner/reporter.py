"""Reporters, which a run calls: a progress bar, TensorBoard's writer, a notebook, none at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # choices import torch, for which locks need not wait
    from lossbench.config.choices import Experiment


class Level(IntEnum):
    """The level of a message, with the numbers of `logging`."""

    INFO = 20
    WARNING = 30


@dataclass(frozen=True)
class Progress:
    """The progress of a run."""

    n_trials: int
    done: float  # trials, with the shares of those that are being trained
    steps: int  # of all trials together, so far
    seconds: float  # since the first step


class Reporter(Protocol):
    """The calls of a run to its listener, in the thread of the run. An exception ends the run; saved records stay."""

    def on_progress(self, progress: Progress) -> None:
        """Receive the progress; called at most ten times a second, and whenever trials have ended."""

    def on_saved(self, experiments: "Sequence[Experiment]") -> None:
        """Receive the experiments of which trials have just been put on record."""

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Receive one line for people."""


class SilentReporter:
    """A reporter that does nothing. A base for reporters that need some of the calls."""

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
        """Call each reporter."""
        for reporter in self.reporters:
            reporter.on_progress(progress)

    def on_saved(self, experiments: "Sequence[Experiment]") -> None:
        """Call each reporter."""
        for reporter in self.reporters:
            reporter.on_saved(experiments)

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Call each reporter."""
        for reporter in self.reporters:
            reporter.on_message(text, level)
