"""Writing TensorBoard's boards, from records: a run per loss, with a curve per metric and corruption rate.

TensorBoard switches all runs off where there are more than 40 of them, and colours by run: hence rates are in the
curves' names, and not in those of runs (docs/decisions/0015-tensorboard.md).
"""

import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pandas as pd

from lossbench.analysis import Summary
from lossbench.analysis.comparison import LOSS_SETTINGS, Comparison, ComparisonOptions, compare
from lossbench.analysis.study import FOLDER, Study, read
from lossbench.analysis.summary import SETTINGS
from lossbench.errors import InvalidValue
from lossbench.records import TRIALS, UNTRAINED, explain_errors, lock_folder
from lossbench.report.tensorboard import events, overview
from lossbench.report.tensorboard.boards import Board, Run, find_start, group_boards, place_board, shown, subject
from lossbench.report.tensorboard.events import Point, build_events, digest_run, read_points
from lossbench.seeds import hash_values

TREE = "tensorboard"
"""The folder below a command's output that holds all boards."""
SEEN = ".tensorboard"
"""A file beside records: the board that shows them, which is newer than they are."""


@dataclass(frozen=True)
class Written:
    """What was written: the boards' folders, and how many cells have predictions that are not drawn."""

    boards: tuple[Path, ...]
    n_undrawn: int


def refresh(
    output: Path,
    folders: Collection[Path],
    study: Study | None = None,
    /,
    ended: bool = False,
    predictions: bool = False,
    pictures: bool = False,
) -> Written:
    """Write what `folders` have on record, and what is compared with it, to the tree below `output`.

    study: what was already read of `find_comparable(folders)`; else it is read here. ended: also what is to be said of
    all losses. predictions, pictures: also pictures of what was predicted, and of the losses. Where all is as it was,
    nothing is read and nothing written.

    Raises RecordError where a folder cannot be read or written.
    """
    there = [folder for folder in folders if (folder / TRIALS).exists()]
    if not there or all(is_fresh(output, folder) for folder in there):
        return Written((), 0)
    found = _of(study or read(find_comparable(there)), there)
    if found.trials.empty:
        return Written((), 0)
    made = write(output / TREE, found, _comparisons(found) if ended else None, predictions, pictures)
    if ended and predictions:
        _mark(output, found, made)
    return made


def choose_tree(found: Study, otherwise: Path) -> Path:
    """Return where a study's boards belong: beside its command's records, where those all lie in one output."""
    pairs = found.trials[[FOLDER, "task"]].drop_duplicates().itertuples(index=False)
    outputs = {_output(Path(str(folder)), str(task)) for folder, task in pairs}
    return (outputs.pop() or otherwise if len(outputs) == 1 else otherwise) / TREE


def _output(folder: Path, task: str) -> Path | None:
    parents = folder.parents
    return parents[2] if len(parents) > 2 and parents[1].name == task else None


def find_board(folders: Iterable[Path]) -> Path | None:
    """Return what to open for an output's records: their board, what holds several, or None if there is none.

    Records lie in ``<output>/<task>/<loss>/<name>``.
    """
    found = [board for folder in folders if (board := _seen(folder.parents[2], folder)).is_dir()]
    return find_common(found) if found else None


def find_common(folders: Sequence[Path]) -> Path:
    """Return the folder that holds all of these, as they are spelt if all are absolute or none is."""
    mixed = len({folder.is_absolute() for folder in folders}) > 1
    return Path(os.path.commonpath([folder.absolute() for folder in folders] if mixed else folders))


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
    trials = found.reported
    homes = {str(trial): Path(str(folder)) for trial, folder in zip(trials["trial"], trials[FOLDER], strict=True)}
    made = group_boards(found.summarise())
    with lock_folder(tree):
        places = {place_board(tree, board): board for board in made}
        for folder, board in places.items():
            _write(board, folder, homes)
            own = None if comparisons is None else [c for c in comparisons if subject(c.first) == board.settings]
            _write_overview(folder, board, _measured(trials, board), own, homes, pictures)
        cells = [(f / run.name, cell) for f, board in places.items() for run in board.runs for cell in run.cells]
        return Written(tuple(places), _write_predictions(cells, homes) if predictions else 0)


def _measured(trials: pd.DataFrame, board: Board) -> list[tuple[str, str]]:
    """Splits and metrics of which there are curves."""
    own = trials[trials["trial"].isin([trial for cell in board.cells for trial in shown(cell)])]
    ends = [str(name).split("/") for name in own if str(name).endswith("/last") and own[name].notna().any()]
    return [("train", name) for name in overview.TRAIN] + [(split, metric) for split, metric, _ in ends]


def find_comparable(folders: Collection[Path]) -> list[Path]:
    """Return the folders of records that lie beside `folders` and may be compared with them by their names; then these.

    Of a trial that several hold, the last counts.
    """
    patterns = {(folder.parents[1], f"{folder.name.rpartition('-')[0]}-*") for folder in folders}
    found = {mark.parent for home, pattern in patterns for mark in home.glob(f"*/{_quoted(pattern)}/{TRIALS}")}
    return [*sorted(found - set(folders)), *dict.fromkeys(folders)]


def _quoted(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def _of(found: Study, folders: Collection[Path]) -> Study:
    """Select what is compared with the trials in `folders`, failed ones of the same experiments included."""
    trials, homes = found.trials, found.trials[FOLDER].map(str)
    asked = {folder.resolve() for folder in folders}
    there = [home for home in homes.unique() if Path(home).resolve() in asked]  # a study may spell them otherwise
    shared = [name for name in SETTINGS if name in trials and name not in LOSS_SETTINGS]
    subjects = trials.groupby(shared, sort=False, dropna=False).ngroup()
    trained = ~trials["status"].isin(UNTRAINED)
    wanted = subjects[trained & homes.isin(there)]
    kept = homes[trained & subjects.isin(wanted)]
    return found.select(trials["trial"][homes.isin(kept)])


def _comparisons(found: Study) -> list[Comparison]:
    if len(found.reported[["loss", "weighting", "head"]].drop_duplicates()) < 2:
        return []
    try:
        return compare(found, ComparisonOptions())
    except InvalidValue:  # there is but one loss
        return []


def is_fresh(output: Path, folder: Path) -> bool:
    """Return whether the board that shows a folder is newer than its records."""
    seen = folder / SEEN
    if not seen.exists() or seen.stat().st_mtime_ns < (folder / TRIALS).stat().st_mtime_ns:
        return False
    return _seen(output, folder).is_dir()


def _mark(output: Path, found: Study, made: Written) -> None:
    """Leave beside the records where they are shown; where they are shown on several boards, nothing."""
    if len(made.boards) != 1:
        return
    for folder in map(Path, found.trials[FOLDER].map(str).unique()):
        with explain_errors("write", folder):
            (folder / SEEN).write_text(str(made.boards[0].relative_to(output / TREE)), "utf-8")


def _write(board: Board, folder: Path, homes: Mapping[str, Path]) -> None:
    """The runs that are new or have changed, and none that is no more."""
    digests = {run.name: digest_run(run) for run in board.runs}
    changed = [run for run in board.runs if not events.is_written(folder / run.name, digests[run.name])]
    points = read_points([cell for run in changed for cell in run.cells], homes)
    for run in changed:
        own = [(cell, points[cell.trials + cell.diverged]) for cell in run.cells]
        started = _started(run, homes, [point for _, part in own for point in part])
        made = [*events.beginning(find_start(folder, run.name)), *build_events(run, own, started)]
        events.put(folder / run.name, made, digests[run.name])
    for other in folder.iterdir():
        if other.is_dir() and other.name not in digests and other.name != overview.NAME and _is_ours(other):
            shutil.rmtree(other)


def _is_ours(run: Path) -> bool:
    """Tell whether nothing lies in a folder but what is written here."""
    return all("tfevents" in path.name for path in run.iterdir())


def _started(run: Run, homes: Mapping[str, Path], points: Iterable[Point]) -> float:
    """When training began, in seconds since 1970, as far as the records tell."""
    folders = {homes[trial] for cell in run.cells for trial in shown(cell)}
    ended = max((folder / TRIALS).stat().st_mtime for folder in folders)
    return ended - max((point.seconds for point in points), default=0.0)


def _write_overview(
    folder: Path,
    board: Board,
    curves: Sequence[overview.Curve],
    comparisons: Sequence[Comparison] | None,
    homes: Mapping[str, Path],
    pictures: bool,
) -> None:
    """Write the run that spans all losses, and its pictures where they are asked for, unless it is there already.

    comparisons: None where nothing is to be said yet. homes: folders of records by trial.
    """
    run = folder / overview.NAME
    said = {f"verdict/{c.corruption}": overview.format_verdict(c) for c in comparisons or []}
    digest = overview.digest_board(board, curves, said)
    ended = max((home / TRIALS).stat().st_mtime for home in {homes[shown(cell)[0]] for cell in board.cells})
    if not events.is_written(run, digest):
        made = [*events.beginning(find_start(folder, overview.NAME))]
        events.put(run, [*made, *overview.build_events(board, curves, said, ended)], digest)
    losses = {cell.loss: homes[shown(cell)[0]] for cell in board.cells}
    digest = overview.digest_pictures(comparisons or [], losses)
    if not events.is_written(run, digest, events.PICTURES):  # what is there is of other numbers
        drawn = [*overview.build_pictures(comparisons, losses, ended)] if comparisons and pictures else []
        events.put(run, drawn, digest, events.PICTURES)


def _write_predictions(cells: Sequence[tuple[Path, Summary]], homes: Mapping[str, Path]) -> int:
    """Write pictures of predictions for the first `MOST_PICTURED` cells; return how many are left out.

    cells: each with its run's folder.
    """
    able = overview.select_cells(cells, homes)
    for run, group in groupby(able[: overview.MOST_PICTURED], itemgetter(0)):
        own = [cell for _, cell in group]
        digest = hash_values([shown(cell)[0] for cell in own])[:12]
        if not events.is_written(run, digest, events.PICTURES):
            drawn = [event for cell in own for event in overview.build_predictions(cell, homes[shown(cell)[0]])]
            events.put(run, drawn, digest, events.PICTURES)
    return max(0, len(able) - overview.MOST_PICTURED)
