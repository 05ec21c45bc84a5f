"""Pictures of what was predicted for test examples, as events."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary as Value

from lossbench.analysis import Summary
from lossbench.records import PREDICTIONS, TRIALS, Samples, load
from lossbench.report.figures.gallery import draw_gallery, render_png
from lossbench.report.tensorboard import events
from lossbench.report.tensorboard.boards import shown
from lossbench.report.tensorboard.curve_names import level
from lossbench.types import Array, Picture

PREDICTED = "test predictions"  # is shown between test and train
MOST_PICTURED = 30
"""Cells whose predictions are drawn: a picture takes a tenth of a second, and few are looked at."""


def select_cells(cells: Sequence[tuple[Path, Summary]], homes: Mapping[str, Path]) -> list[tuple[Path, Summary]]:
    """Return those of `cells`, each with its run's folder, whose predictions are on record and can be drawn."""
    return [(run, cell) for run, cell in cells if (homes[shown(cell)[0]] / PREDICTIONS).exists()]


def build_pictures(cell: Summary, folder: Path) -> Iterator[Event]:
    """Draw what the first seed of a cell, whose records are in `folder`, predicts on some test examples."""
    results, ended = load(folder), (folder / TRIALS).stat().st_mtime
    trial = shown(cell)[0]
    if results.samples is None or results.predictions is None:
        return
    row = results.trials[results.trials["trial"] == trial].iloc[0]
    steps = {"last": int(row["steps"]), "best": int(row["best_step"])}
    for epoch, values in _by_epoch(results.predictions, trial).items():
        name = f"{PREDICTED}, {level(cell)}/{epoch} epoch"
        yield Event(
            wall_time=ended, step=steps[epoch], summary=_picture(name, results.samples, values, int(row["seed"]))
        )


def _by_epoch(predictions: pd.DataFrame, trial: str) -> dict[str, Array]:
    """Predictions at the best and the last epoch, in that order; at the last only where they are the same."""
    own = predictions[predictions["trial"] == trial]
    found = {epoch: np.stack(list(own["values"][own["epoch"] == epoch])) for epoch in sorted(own["epoch"].unique())}
    if len(found) == 2 and np.array_equal(found["best"], found["last"], equal_nan=True):
        del found["best"]
    return found


def _picture(name: str, samples: Samples, predictions: Array, seed: int) -> Value:
    kind = Picture(samples.kind)
    figure = draw_gallery(kind, samples.inputs, samples.targets, predictions, samples.class_names, columns=4)
    width, height = (int(side) for side in figure.bbox.size)
    told = f"The first {len(predictions)} test examples; seed {seed}. At most {MOST_PICTURED} are drawn at once."
    return events.picture(name, render_png(figure), (width, height), told)
