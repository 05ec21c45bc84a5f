"""TensorBoard's files, kept up with the records as they come."""

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import groupby

from lossbench.config.experiment import Experiment
from lossbench.errors import LossbenchError
from lossbench.runner.reporter import SilentReporter

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

    def finish(self, experiments: Iterable[Experiment], complete: bool) -> None:
        """Write what is to be said of the experiments.

        That is also what a killed process has put on record and could not draw any more. Predictions are drawn only
        if the run is complete, and pictures of losses only where their seconds do not count.
        """
        pictures = complete and time.monotonic() - self._begun > PICTURES_AFTER
        _refresh(experiments, ended=True, predictions=complete, pictures=pictures)


def _refresh(experiments: Iterable[Experiment], **what: bool) -> None:
    from lossbench.report import tensorboard

    ordered = sorted(dict.fromkeys(experiments), key=lambda e: str(e.output))
    for output, group in groupby(ordered, key=lambda e: e.output):
        try:
            left = tensorboard.refresh(output, [e.folder for e in group], **what).n_undrawn
        except LossbenchError as error:  # the records are what counts; the next command draws again
            log.warning("TensorBoard's files are not written: %s", error)
        else:
            if left:
                log.info("Predictions are not drawn for %d combinations of loss and rate: there are many.", left)
