"""TensorBoard's events, those of a loss's run, and the files that hold them, each written whole or not at all.

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
from lossbench.report.tensorboard.boards import Run, select_trials
from lossbench.seeds import hash_values
from lossbench.types import Array

CURVES, PICTURES = "lossbench", "pictures"  # endings of the names of event files


def is_written(run: Path, digest: str, ending: str = CURVES) -> bool:
    """Return True if the run has a file with this ending and just this content."""
    return any(run.glob(f"*tfevents*.{digest}.{ending}"))


def write_events(run: Path, events: Sequence[Event], digest: str, ending: str = CURVES) -> None:
    """Write an event file of a run, whole or not at all, in place of the one with that ending; no events: no file.

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
            temporary.rename(run / _make_file_name(digest, ending))
    finally:
        temporary.unlink(missing_ok=True)
    if ending == CURVES:
        # a running TensorBoard forgets the pictures with the curves, and reads them again under a new name
        for path in run.glob(f"*tfevents*.{PICTURES}"):
            path.rename(run / _make_file_name(*path.name.split(".")[-2:]))


def _make_file_name(digest: str, ending: str) -> str:
    """Return a new name each time: in a file that it knows, a running TensorBoard reads on from where it was."""
    return f"events.out.tfevents.{time.time_ns()}.{digest}.{ending}"


def make_header(start: float) -> Iterator[Event]:
    """Yield the first events of a file; start: seconds since 1970, by which TensorBoard sorts runs, then by name."""
    yield Event(wall_time=start, file_version="brain.Event:2")
    # Makes a running TensorBoard forget what it read from the file that this one replaces.
    yield Event(wall_time=start, step=0, session_log=SessionLog(status=SessionLog.START))


def make_scalars(values: Mapping[str, float]) -> Value:
    """Return one number per tag."""
    return Value(value=[Value.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def make_text(tag: str, markdown: str) -> Value:
    """Return Markdown for the TEXT tab."""
    metadata = texts.create_summary_metadata(tag, "")
    return Value(value=[Value.Value(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(markdown))])


def make_picture(tag: str, png: bytes, size: tuple[int, int], description: str) -> Value:
    """Return a picture for the IMAGES tab; size: width and height; description: of the mark beside the title."""
    tensor = tensor_util.make_tensor_proto([*(str(side).encode() for side in size), png])
    metadata = images.create_summary_metadata(tag, description)
    return Value(value=[Value.Value(tag=tag, metadata=metadata, tensor=tensor)])


SPREAD = "variation over seeds"
END = "values at the end"
PRIMARY = "primary: "  # sorts before "test", "train" and "validation"; the other two sort behind them


class Point(NamedTuple):
    """Mean, lowest and highest value over seeds of one metric at one step."""

    split: str
    metric: str
    step: int
    seconds: float
    mean: float
    low: float
    high: float


def format_group(split: str, metric: str, primary: str) -> str:
    """Return the name that the curves of all corruption rates share."""
    return f"{PRIMARY if (split, metric) == ('test', primary) else ''}{split} {metric}"


def format_level(cell: Summary) -> str:
    """Return corruption and corruption rate: `symmetric_flips 0.4`."""
    return "no corruption" if cell.corruption in ("", "none") else f"{cell.corruption} {cell.corruption_rate:g}"


def format_tag(split: str, metric: str, cell: Summary) -> str:
    """Return the name of a curve."""
    return f"{format_group(split, metric, cell.metric)}/{format_level(cell)}"


def format_spread_tags(tag: str) -> tuple[str, str]:
    """Return the names of the curves below and above the one with `tag`."""
    return f"{SPREAD}/{tag}, lowest", f"{SPREAD}/{tag}, highest"


LEARNING_RATE = "learning rate"
END_NUMBERS = {
    "last": "{metric} at {rate}",
    "best": "best epoch at {rate}",
    "steps": "steps to target at {rate}",
    "diverged": "diverged at {rate}",
    "lr": LEARNING_RATE + " at {rate}",
}
"""The numbers at the end, and their columns' headings at a corruption rate."""


def format_end_tags(cell: Summary, rate: str = "") -> dict[str, str]:
    """Return the heading of each number at the end, by its tag."""
    level = format_level(cell)
    return {f"{END}/{name}, {level}": t.format(metric=cell.metric, rate=rate) for name, t in END_NUMBERS.items()}


def get_end_values(cell: Summary) -> dict[str, float]:
    """Return the numbers at the end by tag; those that are not known, or not finite, are left out."""
    numbers = (
        cell.last.value if cell.last else np.nan,
        cell.best.value if cell.best else np.nan,
        cell.steps.median if cell.steps else np.nan,
        cell.n_diverged,
        cell.settings.get("lr") or np.nan,
    )
    pairs = zip(format_end_tags(cell), map(float, numbers), strict=True)
    return {tag: number for tag, number in pairs if np.isfinite(number)}


LAYOUT = 1  # of what is written: with another number, all files are written anew


def digest_run(run: Run) -> str:
    """Return a digest of the content of `build_events`."""
    cells = [(cell.metric, cell.corruption, cell.corruption_rate, cell.trials, cell.diverged) for cell in run.cells]
    return hash_values(LAYOUT, cells)[:12]


def read_points(cells: Sequence[Summary], homes: Mapping[str, Path]) -> dict[tuple[str, ...], list[Point]]:
    """Return the points of each cell's curves, by the cell's trials; homes: folders of records by trial."""
    # 1. one table of all trials' values, in which cells and curves are numbers
    cell_numbers = {trial: i for i, cell in enumerate(cells) for trial in select_trials(cell)}
    curve_numbers: dict[str, int] = {}
    folders = sorted({homes[trial] for trial in cell_numbers})
    tables = [_read_curves(folder, cell_numbers, curve_numbers) for folder in folders]
    points: dict[tuple[str, ...], list[Point]] = {cell.trials + cell.diverged: [] for cell in cells}
    if not tables:
        return points
    # 2. mean and spread over the trials of a cell at each step
    groups = pd.concat(tables).groupby(["cell", "step", "name"], sort=True)
    table = groups.agg(
        seconds=("seconds", "mean"), mean=("value", "mean"), low=("value", "min"), high=("value", "max")
    ).reset_index()
    # 3. names in place of the numbers again
    keys, curves = list(points), [tuple(name.split("/", 1)) for name in curve_numbers]
    columns = ("cell", "name", "step", "seconds", "mean", "low", "high")
    for index, name, *values in zip(*(table[c].tolist() for c in columns), strict=True):
        points[keys[index]].append(Point(*curves[name], *values))
    return points


def _read_curves(folder: Path, cell_numbers: Mapping[str, int], curve_numbers: dict[str, int]) -> pd.DataFrame:
    """Return a folder's finite values with the numbers of their cell and of their curve.

    New curves are added to `curve_numbers`. Grouping by numbers takes a fraction of the time of grouping by text.
    """
    table = records.read_columns(folder, records.CURVES, lambda _: True).unify_dictionaries().combine_chunks()
    trials, splits, metrics = (_encode_column(table[column]) for column in ("trial", "split", "metric"))
    cells = np.array([cell_numbers.get(trial, -1) for trial in trials[1]] or [-1])[trials[0]]  # -1: of no cell
    kept = np.isfinite(table["value"].to_numpy()) & (cells >= 0)
    names = [[f"{split}/{metric}" for metric in metrics[1]] for split in splits[1]]
    numbers = [[curve_numbers.setdefault(name, len(curve_numbers)) for name in line] for line in names]
    curves = np.array(numbers)[splits[0], metrics[0]]
    values = {name: table[name].to_numpy() for name in ("step", "seconds", "value")}
    return pd.DataFrame({"cell": cells, "name": curves, **values})[kept]


def _encode_column(column: pa.ChunkedArray) -> tuple[Array, list[str]]:
    """Return a column's values as places in a list, and the list."""
    chunk = column.combine_chunks()
    chunk = chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode()
    return chunk.indices.to_numpy(zero_copy_only=False), chunk.dictionary.to_pylist()


def build_events(run: Run, cells: Sequence[tuple[Summary, list[Point]]], started: float) -> Iterator[Event]:
    """Yield a run's settings, its curves and its values at the end; started: seconds since 1970."""
    yield Event(wall_time=started, summary=hparams_pb(run.settings, "", started))
    pairs = [(point, cell) for cell, points in cells for point in points]
    pairs.sort(key=lambda pair: pair[0].step)
    for step, group in groupby(pairs, lambda pair: pair[0].step):
        values, seconds = dict[str, float](), list[float]()
        for point, cell in group:
            tag = format_tag(point.split, point.metric, cell)
            values[tag] = point.mean
            seconds.append(point.seconds)
            if point.split == "test" and len(select_trials(cell)) > 1:
                lower, upper = format_spread_tags(tag)
                values |= {lower: point.low, upper: point.high}
        yield Event(wall_time=started + max(seconds), step=step, summary=make_scalars(values))
    if pairs:
        last = max((point for point, _ in pairs), key=attrgetter("step"))
        values = {tag: value for cell, _ in cells for tag, value in get_end_values(cell).items()}
        yield Event(wall_time=started + last.seconds, step=last.step, summary=make_scalars(values))
