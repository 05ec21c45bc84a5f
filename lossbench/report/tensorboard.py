"""TensorBoard's runs, from records: one per loss, with a curve per metric and corruption rate.

TensorBoard switches all runs off where there are more than 40 of them, and colours by run: hence rates are in the
curves' names, and not in those of runs (docs/decisions/0015-tensorboard.md).
"""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from lossbench import records
from lossbench.analysis import Summary
from lossbench.analysis.comparison import Asked, Comparison, compare
from lossbench.analysis.study import FOLDER, Study, read
from lossbench.analysis.summary import Evidence, summarise_trials
from lossbench.errors import InvalidValue
from lossbench.records import CURVES, TRIALS, telling, writing
from lossbench.report import events, overview, predicted
from lossbench.report.board import Board, Run, boards, place, shown, since, subject
from lossbench.report.curve_names import Point, end_values, spread, tag
from lossbench.seeds import FIRST_TUNING_SEED, stable_hash
from lossbench.types import Array

TREE = "tensorboard"
"""The folder below a command's output that holds all boards."""
SEEN = ".tensorboard"
"""A file beside records: the board that shows them, which is newer than they are."""
LAYOUT = 1
"""Of what is written: another number has all written anew."""


@dataclass(frozen=True)
class Written:
    """What was written: the boards' folders, and how many cells have predictions that are not drawn."""

    boards: tuple[Path, ...]
    n_undrawn: int


def refresh(
    output: Path, folders: Collection[Path], ended: bool = False, predictions: bool = False, pictures: bool = False
) -> Written:
    """Write what `folders` have on record, and what is compared with it, to the tree below `output`.

    ended: also what is to be said of all losses. predictions, pictures: also pictures of what was predicted, and of
    the losses. Where all is as it was, nothing is read and nothing written.

    Raises RecordError where a folder cannot be read or written.
    """
    there = [folder for folder in folders if (folder / TRIALS).exists()]
    if not there or all(_is_fresh(output, folder) for folder in there):
        return Written((), 0)
    found = _of(read(_beside(there)), there)
    if found.trials.empty:
        return Written((), 0)
    made = write(output / TREE, found, _comparisons(found) if ended else None, predictions, pictures)
    if ended and predictions:
        _mark(output, found, made)
    return made


def tree_of(found: Study, otherwise: Path) -> Path:
    """Where boards of a study belong: beside the records of its command, where those all lie in one output."""
    pairs = found.trials[[FOLDER, "task"]].drop_duplicates().itertuples(index=False)
    outputs = {_output(Path(str(folder)), str(task)) for folder, task in pairs}
    return (outputs.pop() or otherwise if len(outputs) == 1 else otherwise) / TREE


def _output(folder: Path, task: str) -> Path | None:
    parents = folder.parents
    return parents[2] if len(parents) > 2 and parents[1].name == task else None


def opened(folders: Iterable[Path]) -> Path | None:
    """What to open for an output's folders of records: their board, what holds several, or None if there is none.

    Records lie in ``<output>/<task>/<loss>/<name>``.
    """
    found = [board for folder in folders if (board := _seen(folder.parents[2], folder)).is_dir()]
    return Path(os.path.commonpath(found)) if found else None


def _seen(output: Path, folder: Path) -> Path:
    """The board that shows what is in a folder; the whole tree as long as it is not told."""
    mark = folder / SEEN
    return output / TREE / mark.read_text("utf-8") if mark.exists() else output / TREE


def write(
    tree: Path,
    found: Study,
    comparisons: Sequence[Comparison] | None = None,
    predictions: bool = False,
    pictures: bool = False,
) -> Written:
    """Write the boards of a study below `tree`: what is new of their runs, and what spans them.

    comparisons: what is to be said of the losses; None leaves that out.
    """
    trials = found.trials[found.trials["seed"] < FIRST_TUNING_SEED]
    homes = {str(trial): Path(str(folder)) for trial, folder in zip(trials["trial"], trials[FOLDER], strict=True)}
    # without scores of test rows, intervals and the time that they take: none is shown
    made = boards(summarise_trials(trials, Evidence(found.evidence.curves, {}))) if len(trials) else []
    with writing(tree):
        places = {place(tree, board): board for board in made}
        for folder, board in places.items():
            _write(board, folder, homes)
            own = None if comparisons is None else [c for c in comparisons if subject(c.first) == board.settings]
            overview.write(folder, board, _measured(trials, board), own, homes, pictures)
        cells = [(f / run.name, cell) for f, board in places.items() for run in board.runs for cell in run.cells]
        return Written(tuple(places), predicted.draw(cells, homes) if predictions else 0)


def _measured(trials: pd.DataFrame, board: Board) -> list[tuple[str, str]]:
    """Splits and metrics of which there are curves."""
    own = trials[trials["trial"].isin([trial for cell in board.cells for trial in shown(cell)])]
    ends = [str(name).split("/") for name in own if str(name).endswith("/last") and own[name].notna().any()]
    return [("train", name) for name in overview.TRAIN] + [(split, metric) for split, metric, _ in ends]


def _beside(folders: Iterable[Path]) -> list[Path]:
    """Those folders, and all that lie beside them and may be compared with them, by their names."""
    patterns = {(folder.parents[1], f"{folder.name.rpartition('-')[0]}-*") for folder in folders}
    found = {mark.parent for home, pattern in patterns for mark in home.glob(f"*/{_quoted(pattern)}/{TRIALS}")}
    return sorted(found | set(folders))


def _quoted(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def _of(found: Study, folders: Collection[Path]) -> Study:
    """What is compared with the trials in `folders`, failed ones of the same experiments included."""
    homes = dict(zip(found.trials["trial"], found.trials[FOLDER].map(str), strict=True))
    summaries = [s for s in summarise_trials(found.trials, Evidence({}, {})) if shown(s)]
    wanted = set(map(str, folders))
    subjects = [subject(s) for s in summaries if any(homes[trial] in wanted for trial in shown(s))]
    kept = {homes[trial] for s in summaries if subject(s) in subjects for trial in shown(s)}
    return Study(found.trials[found.trials["trial"].map(homes).isin(kept)], found.evidence)


def _comparisons(found: Study) -> list[Comparison]:
    try:
        return compare(found, Asked())
    except InvalidValue:  # there is but one loss
        return []


def _is_fresh(output: Path, folder: Path) -> bool:
    seen = folder / SEEN
    if not seen.exists() or seen.stat().st_mtime_ns < (folder / TRIALS).stat().st_mtime_ns:
        return False
    return _seen(output, folder).is_dir()


def _mark(output: Path, found: Study, made: Written) -> None:
    """Leave beside the records where they are shown; where they are shown on several boards, nothing."""
    if len(made.boards) != 1:
        return
    for folder in map(Path, found.trials[FOLDER].map(str).unique()):
        with telling("write", folder):
            (folder / SEEN).write_text(str(made.boards[0].relative_to(output / TREE)), "utf-8")


def _write(board: Board, folder: Path, homes: Mapping[str, Path]) -> None:
    """The runs that are new or have changed, and none that is no more."""
    digests = {run.name: _digest(run) for run in board.runs}
    changed = [run for run in board.runs if not events.is_written(folder / run.name, digests[run.name])]
    points = _points([cell for run in changed for cell in run.cells], homes)
    for run in changed:
        own = [(cell, points[cell.trials + cell.diverged]) for cell in run.cells]
        started = _started(run, homes, [point for _, part in own for point in part])
        made = [*events.beginning(since(folder, run.name)), *_events(run, own, started)]
        events.put(folder / run.name, made, digests[run.name])
    for other in folder.iterdir():
        if other.is_dir() and other.name not in digests and other.name != overview.NAME and _is_ours(other):
            shutil.rmtree(other)


def _is_ours(run: Path) -> bool:
    """Whether nothing lies in a folder but what is written here."""
    return all("tfevents" in path.name for path in run.iterdir())


def _digest(run: Run) -> str:
    cells = [(cell.metric, cell.corruption, cell.rate, cell.trials, cell.diverged) for cell in run.cells]
    return stable_hash(LAYOUT, cells)[:12]


def _started(run: Run, homes: Mapping[str, Path], points: Iterable[Point]) -> float:
    """When training began, in seconds since 1970, as far as the records tell."""
    folders = {homes[trial] for cell in run.cells for trial in shown(cell)}
    ended = max((folder / TRIALS).stat().st_mtime for folder in folders)
    return ended - max((point.seconds for point in points), default=0.0)


def _points(cells: Sequence[Summary], homes: Mapping[str, Path]) -> dict[tuple[str, ...], list[Point]]:
    """What the trials of each cell say at each step, by the cell's trials."""
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
    table = records.columns(folder, CURVES, lambda _: True).unify_dictionaries().combine_chunks()
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


def _events(run: Run, cells: Sequence[tuple[Summary, list[Point]]], started: float) -> Iterator[Event]:
    yield Event(wall_time=started, summary=hparams_pb(run.settings, "", started))
    points = [(point, cell) for cell, own in cells for point in own]
    points.sort(key=lambda pair: pair[0].step)
    for step, group in groupby(points, lambda pair: pair[0].step):
        at_once = list(group)
        values = {name: value for pair in at_once for name, value in _values(*pair)}
        seconds = max(point.seconds for point, _ in at_once)
        yield Event(wall_time=started + seconds, step=step, summary=events.scalars(values))
    if points:
        last = max((point for point, _ in points), key=attrgetter("step"))
        values = {name: value for cell, _ in cells for name, value in end_values(cell).items()}
        yield Event(wall_time=started + last.seconds, step=last.step, summary=events.scalars(values))


def _values(point: Point, cell: Summary) -> Iterator[tuple[str, float]]:
    name = tag(point.split, point.metric, cell)
    yield name, point.mean
    if point.split == "test" and len(shown(cell)) > 1:
        low, high = spread(name)
        yield low, point.low
        yield high, point.high
