"""TensorBoard's events, those of a loss's run, and the files that hold them, written whole or not at all.

Written by TensorBoard's own record writer, all at once: no thread, no file kept open, no torch.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary as Value
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from lossbench import records
from lossbench.analysis import Summary
from lossbench.report.tensorboard.boards import Run, shown
from lossbench.seeds import hash_values
from lossbench.types import Array

CURVES, PICTURES = "lossbench", "pictures"
"""How the names of event files end."""


def is_written(run: Path, digest: str, ending: str = CURVES) -> bool:
    """Tell whether the run has such a file of just that content."""
    return any(run.glob(f"*tfevents*.{digest}.{ending}"))


def put(run: Path, events: Sequence[Event], digest: str, ending: str = CURVES) -> None:
    """Write an event file of a run, whole or not at all, in place of the one with that ending; no events: none.

    digest: stands for the content, for `is_written`.
    """
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / ".writing"  # TensorBoard reads every file whose name holds "tfevents"
    try:
        with temporary.open("wb") as stream:
            writer = RecordWriter(stream)
            for event in events:
                writer.write(event.SerializeToString())
        for old in run.glob(f"*tfevents*.{ending}"):
            old.unlink()
        if events:
            temporary.rename(run / _name(digest, ending))
    finally:
        temporary.unlink(missing_ok=True)
    if ending == CURVES:
        _show_again(run)


def _show_again(run: Path) -> None:
    """Let a running TensorBoard read pictures once more, as it has forgotten them with the curves."""
    for path in run.glob(f"*tfevents*.{PICTURES}"):
        path.rename(run / _name(*path.name.split(".")[-2:]))


def _name(digest: str, ending: str) -> str:
    """A new name each time: a running TensorBoard reads on in files that it knows."""
    return f"events.out.tfevents.{time.time_ns()}.{digest}.{ending}"


def beginning(since: float) -> Iterator[Event]:
    """Yield what a file starts with; since: seconds since 1970, by which TensorBoard sorts runs, then by name."""
    yield Event(wall_time=since, file_version="brain.Event:2")
    # Makes a running TensorBoard forget what it read from the file that this one replaces.
    yield Event(wall_time=since, step=0, session_log=SessionLog(status=SessionLog.START))


def scalars(values: Mapping[str, float]) -> Value:
    """Return one number per tag."""
    return Value(value=[Value.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def text(tag: str, markdown: str) -> Value:
    """Return what the TEXT tab shows, as Markdown."""
    metadata = texts.create_summary_metadata(tag, "")
    return Value(value=[Value.Value(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(markdown))])


def picture(tag: str, png: bytes, size: tuple[int, int], told: str) -> Value:
    """Return what the IMAGES tab shows; size: width and height; told: what the mark beside the title tells."""
    texts = [str(side).encode() for side in size]
    tensor = tensor_util.make_tensor_proto([*texts, png])
    return Value(value=[Value.Value(tag=tag, metadata=images.create_summary_metadata(tag, told), tensor=tensor)])


SPREAD = "variation over seeds"
END = "values at the end"
PRIMARY = "primary: "
"""Sorts before "test", "train" and "validation"; the other two sort behind them."""


class Point(NamedTuple):
    """What the seeds say of one metric at one step."""

    split: str
    metric: str
    step: int
    seconds: float
    mean: float
    low: float
    high: float


def group(split: str, metric: str, primary: str) -> str:
    """Return the name that the curves of all rates share."""
    return f"{PRIMARY if (split, metric) == ('test', primary) else ''}{split} {metric}"


def level(cell: Summary) -> str:
    """Return corruption and rate: `symmetric_flips 0.4`."""
    return "no corruption" if cell.corruption in ("", "none") else f"{cell.corruption} {cell.corruption_rate:g}"


def tag(split: str, metric: str, cell: Summary) -> str:
    """Return the name of a curve."""
    return f"{group(split, metric, cell.metric)}/{level(cell)}"


def spread(tag: str) -> tuple[str, str]:
    """Return the names of the curves below and above it."""
    return f"{SPREAD}/{tag}, lowest", f"{SPREAD}/{tag}, highest"


LR = "learning rate"
NUMBERS = {
    "last": "{metric} at {rate}",
    "best": "best epoch at {rate}",
    "steps": "steps to target at {rate}",
    "diverged": "diverged at {rate}",
    "lr": LR + " at {rate}",
}
"""Numbers at the end, and what their columns are called."""


def ends(cell: Summary, rate: str = "") -> dict[str, str]:
    """Return what each number at the end is called in a table, by its tag."""
    return {f"{END}/{name}, {level(cell)}": t.format(metric=cell.metric, rate=rate) for name, t in NUMBERS.items()}


def end_values(cell: Summary) -> dict[str, float]:
    """Return the numbers at the end by tag; those that are not known, or not finite, are left out."""
    numbers = (
        cell.last.value if cell.last else np.nan,
        cell.best.value if cell.best else np.nan,
        cell.steps.median if cell.steps else np.nan,
        cell.n_diverged,
        cell.settings.get("lr") or np.nan,
    )
    found = zip(ends(cell), map(float, numbers), strict=True)
    return {name: number for name, number in found if np.isfinite(number)}


LAYOUT = 1
"""Of what is written: another number has all written anew."""


def digest_run(run: Run) -> str:
    """Return what stands for the content of `build_events`."""
    cells = [(cell.metric, cell.corruption, cell.corruption_rate, cell.trials, cell.diverged) for cell in run.cells]
    return hash_values(LAYOUT, cells)[:12]


def read_points(cells: Sequence[Summary], homes: Mapping[str, Path]) -> dict[tuple[str, ...], list[Point]]:
    """Return what the trials of each cell say at each step, by the cell's trials."""
    number = {trial: i for i, cell in enumerate(cells) for trial in shown(cell)}
    names: dict[str, int] = {}
    tables = [_curves(folder, number, names) for folder in sorted({homes[trial] for trial in number})]
    points: dict[tuple[str, ...], list[Point]] = {cell.trials + cell.diverged: [] for cell in cells}
    if not tables:
        return points
    groups = pd.concat(tables).groupby(["cell", "step", "name"], sort=True)
    table = groups.agg(
        seconds=("seconds", "mean"), mean=("value", "mean"), low=("value", "min"), high=("value", "max")
    ).reset_index()
    keys, curves = list(points), [tuple(name.split("/", 1)) for name in names]
    columns = ("cell", "name", "step", "seconds", "mean", "low", "high")
    for index, name, *values in zip(*(table[c].tolist() for c in columns), strict=True):
        points[keys[index]].append(Point(*curves[name], *values))
    return points


def _curves(folder: Path, number: Mapping[str, int], names: dict[str, int]) -> pd.DataFrame:
    """A folder's finite values, with the number of their cell, and of their name, which is added to `names`.

    By numbers: grouping by text takes several times as long.
    """
    table = records.read_columns(folder, records.CURVES, lambda _: True).unify_dictionaries().combine_chunks()
    trials, splits, metrics = (_coded(table[column]) for column in ("trial", "split", "metric"))
    cells = np.array([number.get(trial, -1) for trial in trials[1]] or [-1])[trials[0]]
    kept = np.isfinite(table["value"].to_numpy()) & (cells >= 0)
    pairs = [[f"{split}/{metric}" for metric in metrics[1]] for split in splits[1]]
    codes = np.array([[names.setdefault(name, len(names)) for name in row] for row in pairs])[splits[0], metrics[0]]
    numbers = {name: table[name].to_numpy() for name in ("step", "seconds", "value")}
    return pd.DataFrame({"cell": cells, "name": codes, **numbers})[kept]


def _coded(column: pa.ChunkedArray) -> tuple[Array, list[str]]:
    """A column's values as numbers of a list."""
    chunk = column.combine_chunks()
    chunk = chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode()
    return chunk.indices.to_numpy(zero_copy_only=False), chunk.dictionary.to_pylist()


def build_events(run: Run, cells: Sequence[tuple[Summary, list[Point]]], started: float) -> Iterator[Event]:
    """Yield a run's settings, its curves and its values at the end; started: seconds since 1970."""
    yield Event(wall_time=started, summary=hparams_pb(run.settings, "", started))
    points = [(point, cell) for cell, own in cells for point in own]
    points.sort(key=lambda pair: pair[0].step)
    for step, group in groupby(points, lambda pair: pair[0].step):
        at_once = list(group)
        values = {name: value for pair in at_once for name, value in _values(*pair)}
        seconds = max(point.seconds for point, _ in at_once)
        yield Event(wall_time=started + seconds, step=step, summary=scalars(values))
    if points:
        last = max((point for point, _ in points), key=attrgetter("step"))
        values = {name: value for cell, _ in cells for name, value in end_values(cell).items()}
        yield Event(wall_time=started + last.seconds, step=last.step, summary=scalars(values))


def _values(point: Point, cell: Summary) -> Iterator[tuple[str, float]]:
    name = tag(point.split, point.metric, cell)
    yield name, point.mean
    if point.split == "test" and len(shown(cell)) > 1:
        low, high = spread(name)
        yield low, point.low
        yield high, point.high
