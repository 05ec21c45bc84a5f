"""The writer of TensorBoard's boards, from records: a run per loss, with a curve per metric and corruption rate.

TensorBoard switches all runs off where there are more than 40 of them, and colours by run: hence corruption
rates are in the curves' names, and not in those of runs (docs/decisions/0015-tensorboard.md).
"""

import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from lossbench.analysis import Summary
from lossbench.analysis.comparison import LOSS_SETTINGS, Comparison, ComparisonOptions, compare
from lossbench.analysis.study import FOLDER, Study, read_study
from lossbench.analysis.summary import SETTINGS
from lossbench.errors import InvalidValue
from lossbench.records import TRIALS, UNTRAINED, explain_errors, lock_folder
from lossbench.report.tensorboard import events, overview
from lossbench.report.tensorboard.boards import (
    Board,
    compute_start,
    get_board_folder,
    get_shared_settings,
    group_boards,
    select_trials,
)
from lossbench.report.tensorboard.events import build_events, digest_run, read_points
from lossbench.seeds import hash_values
from lossbench.types import Choice

TREE = "tensorboard"  # the folder below a command's output that holds all boards
BOARD_FILE = ".tensorboard"  # beside records: the board that shows them, and when it was written


@dataclass(frozen=True)
class WriteResult:
    """The boards' folders, and the number of cells whose predictions are not drawn."""

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
    losses: Mapping[str, Choice] = MappingProxyType({}),
) -> WriteResult:
    """Write the records in `folders`, and those that they are compared with, to the tree below `output`.

    study: what was already read of `find_comparable(folders)`; else it is read here. ended: also the verdict on all
    losses. predictions, pictures: also pictures of the predictions, and of the losses. Where the boards are newer than
    the records, nothing is read and nothing written.

    losses: those of this command, by label, which may be built for pictures though they are not built in.

    Raises RecordError where a folder cannot be read or written.
    """
    recorded = [folder for folder in folders if (folder / TRIALS).exists()]
    if not recorded or all(is_fresh(output, folder) for folder in recorded):
        return WriteResult((), 0)
    study = _select_comparable(study or read_study(find_comparable(recorded)), recorded)
    if study.trials.empty:
        return WriteResult((), 0)
    result = write(output / TREE, study, _compare(study) if ended else None, predictions, pictures, losses)
    if ended and predictions and len(result.boards) == 1:  # all is written: note beside the records where it is shown
        for folder in map(Path, study.trials[FOLDER].map(str).unique()):
            with explain_errors("write", folder):
                (folder / BOARD_FILE).write_text(str(result.boards[0].relative_to(output / TREE)), "utf-8")
    return result


def choose_tree(study: Study, otherwise: Path) -> Path:
    """Return where a study's boards belong: beside its command's records, where those all lie in one output."""
    pairs = study.trials[[FOLDER, "task"]].drop_duplicates().itertuples(index=False)
    outputs = set()
    for folder, task in pairs:
        parents = Path(str(folder)).parents  # <output>/<task>/<loss>/<name>
        outputs.add(parents[2] if len(parents) > 2 and parents[1].name == str(task) else None)
    return (outputs.pop() or otherwise if len(outputs) == 1 else otherwise) / TREE


def find_board(folders: Iterable[Path]) -> Path | None:
    """Return what to open for an output's records: their board, or what holds several; None if there is none.

    Records lie in ``<output>/<task>/<loss>/<name>``.
    """
    boards = [board for folder in folders if (board := _locate_board(folder.parents[2], folder)).is_dir()]
    return find_common_parent(boards) if boards else None


def find_common_parent(folders: Sequence[Path]) -> Path:
    """Return the folder that holds all of these, as they are spelt if all are absolute or none is."""
    mixed = len({folder.is_absolute() for folder in folders}) > 1
    return Path(os.path.commonpath([folder.absolute() for folder in folders] if mixed else folders))


def _locate_board(output: Path, folder: Path) -> Path:
    """Return the board that shows a folder's records; the tree of all boards where none is noted."""
    mark = folder / BOARD_FILE
    return output / TREE / mark.read_text("utf-8") if mark.exists() else output / TREE


def write(
    tree: Path,
    study: Study,
    comparisons: Sequence[Comparison] | None = None,
    predictions: bool = False,
    pictures: bool = False,
    losses: Mapping[str, Choice] = MappingProxyType({}),
) -> WriteResult:
    """Write the boards of a study below `tree`: the runs that are new or have changed, and the overview.

    comparisons: for the verdicts; None leaves them out. losses: as in `refresh`.
    """
    trials = study.reported
    homes = {str(trial): Path(str(folder)) for trial, folder in zip(trials["trial"], trials[FOLDER], strict=True)}
    boards = group_boards(study.summarise())
    with lock_folder(tree):
        board_by_folder = {get_board_folder(tree, board): board for board in boards}
        for folder, board in board_by_folder.items():
            _write_runs(board, folder, homes)
            its_comparisons = None
            if comparisons is not None:
                its_comparisons = [c for c in comparisons if get_shared_settings(c.first) == board.settings]
            _write_overview(folder, board, _list_curves(trials, board), its_comparisons, homes, pictures, losses)
        cells = [
            (f / run.name, cell) for f, board in board_by_folder.items() for run in board.runs for cell in run.cells
        ]
        return WriteResult(tuple(board_by_folder), _write_predictions(cells, homes) if predictions else 0)


def _list_curves(trials: pd.DataFrame, board: Board) -> list[overview.Curve]:
    """Return splits and metrics of a board's curves."""
    of_board = trials[trials["trial"].isin([trial for cell in board.cells for trial in select_trials(cell)])]
    ends = [str(name).split("/") for name in of_board if str(name).endswith("/last") and of_board[name].notna().any()]
    return [("train", name) for name in overview.TRAIN] + [(split, metric) for split, metric, _ in ends]


def find_comparable(folders: Collection[Path]) -> list[Path]:
    """Return the folders of records that lie beside `folders` and may be compared with them by their names; then these.

    Of a trial that several hold, the last counts.
    """
    # <output>/<task>/<loss>/<data>-<model>-<digest>: any loss and any digest; a [ of a name is no wildcard
    patterns = {(folder.parents[1], f"{folder.name.rpartition('-')[0]}-*".replace("[", "[[]")) for folder in folders}
    beside = {mark.parent for home, pattern in patterns for mark in home.glob(f"*/{pattern}/{TRIALS}")}
    return [*sorted(beside - set(folders)), *dict.fromkeys(folders)]


def _select_comparable(study: Study, folders: Collection[Path]) -> Study:
    """Select what is compared with the trials in `folders`, failed ones of the same experiments included."""
    # 1. the study's own spellings of these folders
    trials, homes = study.trials, study.trials[FOLDER].map(str)
    resolved = {folder.resolve() for folder in folders}
    spelt = [home for home in homes.unique() if Path(home).resolve() in resolved]
    # 2. the settings that losses share, of the trials in them
    shared = [name for name in SETTINGS if name in trials and name not in LOSS_SETTINGS]
    subjects = trials.groupby(shared, sort=False, dropna=False).ngroup()
    trained = ~trials["status"].isin(UNTRAINED)
    wanted = subjects[trained & homes.isin(spelt)]
    # 3. all folders with a trained trial at such settings, and all that they hold
    kept = homes[trained & subjects.isin(wanted)]
    return study.select(trials["trial"][homes.isin(kept)])


def _compare(study: Study) -> list[Comparison]:
    if len(study.reported[["loss", "weighting", "head"]].drop_duplicates()) < 2:
        return []
    try:
        return compare(study, ComparisonOptions())
    except InvalidValue:  # there is but one loss
        return []


def is_fresh(output: Path, folder: Path) -> bool:
    """Return whether the board that shows a folder is newer than its records."""
    mark = folder / BOARD_FILE
    if not mark.exists() or mark.stat().st_mtime_ns < (folder / TRIALS).stat().st_mtime_ns:
        return False
    return _locate_board(output, folder).is_dir()


def _write_runs(board: Board, folder: Path, homes: Mapping[str, Path]) -> None:
    """Write the runs that are new or have changed, and remove those that are no more."""
    digests = {run.name: digest_run(run) for run in board.runs}
    changed = [run for run in board.runs if not events.is_written(folder / run.name, digests[run.name])]
    points = read_points([cell for run in changed for cell in run.cells], homes)
    for run in changed:
        cells = [(cell, points[cell.trials + cell.diverged]) for cell in run.cells]
        # training began as long before the records were written as its last point says
        sources = {homes[trial] for cell in run.cells for trial in select_trials(cell)}
        ended = max((source / TRIALS).stat().st_mtime for source in sources)
        started = ended - max((point.seconds for _, curve in cells for point in curve), default=0.0)
        header = events.make_header(compute_start(folder, run.name))
        events.write_events(folder / run.name, [*header, *build_events(run, cells, started)], digests[run.name])
    for other in folder.iterdir():
        if not other.is_dir() or other.name in digests or other.name == overview.NAME:
            continue
        if all("tfevents" in path.name for path in other.iterdir()):  # a folder with anything else is the user's
            shutil.rmtree(other)


def _write_overview(
    folder: Path,
    board: Board,
    curves: Sequence[overview.Curve],
    comparisons: Sequence[Comparison] | None,
    homes: Mapping[str, Path],
    pictures: bool,
    trusted: Mapping[str, Choice],
) -> None:
    """Write the run that spans all losses, and its pictures if `pictures`, unless it is there already.

    comparisons: None where there is no verdict yet. homes: folders of records by trial.
    """
    run = folder / overview.NAME
    verdicts = {f"verdict/{c.corruption}": overview.format_verdict(c) for c in comparisons or []}
    digest = overview.digest_board(board, curves, verdicts)
    losses = {cell.loss: homes[select_trials(cell)[0]] for cell in board.cells}
    sources = {homes[select_trials(cell)[0]] for cell in board.cells}
    ended = max((source / TRIALS).stat().st_mtime for source in sources)
    if not events.is_written(run, digest):
        header = events.make_header(compute_start(folder, overview.NAME))
        events.write_events(run, [*header, *overview.build_overview(board, curves, verdicts, ended)], digest)
    digest = overview.digest_pictures(comparisons or [], losses)
    if not events.is_written(run, digest, events.PICTURES):  # pictures that are there show other numbers
        drawn = [*overview.build_pictures(comparisons, losses, trusted, ended)] if comparisons and pictures else []
        events.write_events(run, drawn, digest, events.PICTURES)


def _write_predictions(cells: Sequence[tuple[Path, Summary]], homes: Mapping[str, Path]) -> int:
    """Write pictures of predictions for the first `MOST_PICTURED` cells; return how many are left out.

    cells: each with its run's folder.
    """
    drawable = overview.select_cells(cells, homes)
    for run, group in groupby(drawable[: overview.MOST_PICTURED], itemgetter(0)):
        firsts = [(cell, select_trials(cell)[0]) for _, cell in group]  # the first seed of each
        digest = hash_values([trial for _, trial in firsts])[:12]
        if not events.is_written(run, digest, events.PICTURES):
            drawn = [event for cell, trial in firsts for event in overview.build_predictions(cell, homes[trial])]
            events.write_events(run, drawn, digest, events.PICTURES)
    return max(0, len(drawable) - overview.MOST_PICTURED)
