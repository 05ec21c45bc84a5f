"""What a command ends with: its trials as a table or as JSON, where they are, and a job's value."""

import json
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lossbench import records
from lossbench.analysis import summarise
from lossbench.analysis.comparison import Asked, Comparison, compare
from lossbench.analysis.study import read
from lossbench.cli import console, skips
from lossbench.config.experiment import Experiment
from lossbench.errors import Incompatible, InvalidValue
from lossbench.plan import trial_id
from lossbench.records import Results
from lossbench.report.json_values import finite
from lossbench.report.tables import comparison as compared
from lossbench.report.tables import rows as flat
from lossbench.report.tables import summaries as table
from lossbench.report.tables.rows import plain
from lossbench.report.tensorboard import writer as tensorboard

NAMED_FOLDERS = 3
"""More folders than these are told as their common one."""
FRAMES = ("trials", "curves", "test")


def load(experiments: Sequence[Experiment]) -> dict[Path, Results]:
    """What is on record of just these trials, by folder: a folder may hold more seeds and rates."""
    asked: dict[Path, set[str]] = defaultdict(set)
    for experiment in dict.fromkeys(experiments):
        asked[experiment.folder] |= {trial_id(t) for t in experiment.trials()}
    found = {folder: _only(records.load(folder), ids) for folder, ids in asked.items() if _exists(folder)}
    return {folder: results for folder, results in found.items() if len(results.trials)}


def merged(parts: Iterable[Mapping[Path, Results]]) -> dict[Path, Results]:
    """What jobs have found, together: a trial that several ask for counts once."""
    found: dict[Path, Results] = {}
    for folder, results in ((folder, results) for part in parts for folder, results in part.items()):
        found[folder] = _joined(found[folder], results) if folder in found else results
    return found


def _joined(one: Results, other: Results) -> Results:
    other = _only(other, set(other.trials["trial"]) - set(one.trials["trial"]))
    frames = {name: pd.concat([getattr(one, name), getattr(other, name)]) for name in FRAMES}
    return replace(one, **frames)


def show(found: Mapping[Path, Results], comparisons: Sequence[Comparison] = ()) -> None:
    """Print the comparisons, or else the table; where the records are, and how to see their curves.

    Nothing if none was trained.
    """
    if not _trained(found):
        return
    out = console.results()
    out.print(compared.tables(comparisons) if comparisons else table.table(summarise(list(found.values()))))
    for line in _places(list(found)):
        out.print(line, soft_wrap=True, markup=False)


def comparisons_of(experiments: Sequence[Experiment]) -> list[Comparison]:
    """What just these trials say; nothing where no two losses can be compared."""
    ids = {trial_id(trial) for experiment in experiments for trial in experiment.trials()}
    folders = [folder for folder in dict.fromkeys(e.folder for e in experiments) if _exists(folder)]
    try:
        study = read(folders)
        return compare(replace(study, trials=study.trials[study.trials["trial"].isin(ids)]), Asked())
    except InvalidValue:  # one loss, or nothing that was trained to its end
        return []


def print_json(
    found: Mapping[Path, Results],
    skipped: Sequence[Incompatible],
    failed: Mapping[str, str],
    comparisons: Sequence[Comparison] = (),
) -> None:
    """Print one JSON document: a summary per row of the table, folders, and what was skipped or failed as a job."""
    document = {
        "summaries": [plain(summary) for summary in summarise(list(found.values()))],
        **({"comparisons": flat.nested(comparisons)} if comparisons else {}),
        "records": [str(folder) for folder in found],
        "skipped": [{"reason": why, "what": what} for why, what in skips.grouped(skipped).items()],
        "failed": [{"job": job, "reason": reason} for job, reason in failed.items()],
    }
    print_document(document)


def print_document(document: Any) -> None:
    """Print a JSON document."""
    print(json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False))


def failed_trials(found: Mapping[Path, Results]) -> dict[str, int]:
    """How many trials failed, by reason; of trials that were all skipped, all: nothing came of what was asked for."""
    wrong = ["failed"] if _trained(found) else list(records.UNTRAINED)
    rows = [r.trials[r.trials["status"].isin(wrong)] for r in found.values()]
    reasons = [str(reason) for part in rows if len(part) for reason in part["reason"]]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def value(found: Mapping[Path, Results]) -> float:
    """A job's value: its trials' mean primary metric on validation at the last epoch. NaN if none has any.

    Over seeds, rates and experiments. It is the metric itself: a sweeper has to be told whether it goes up or down.
    A trial that diverged counts as the trivial predictor, lest a setting look good for diverging where it is hard.
    Trials that failed or were skipped are left out: they say nothing about the setting.
    """
    values = np.concatenate([np.zeros(0), *(_last(results.trials) for results in found.values())])
    return float(values.mean()) if values.size else np.nan


def _last(trials: pd.DataFrame) -> "np.ndarray[Any, np.dtype[np.float64]]":
    column = f"validation/{trials['metric'].iloc[0]}/last"
    if column not in trials:
        return np.zeros(0)
    tried = trials[~trials["status"].isin(records.UNTRAINED)]
    last, trivial = (pd.to_numeric(tried[name]).to_numpy(np.float64) for name in (column, "trivial"))
    values = np.where(tried["status"] == "finished", last, trivial)
    return values[np.isfinite(values)]


def _trained(found: Mapping[Path, Results]) -> bool:
    return not all(results.trials["status"].isin(records.UNTRAINED).all() for results in found.values())


def _exists(folder: Path) -> bool:
    return (folder / records.TRIALS).exists()


def _only(results: Results, ids: set[str]) -> Results:
    frames = {name: getattr(results, name) for name in FRAMES}
    return replace(results, **{name: frame[frame["trial"].isin(ids)] for name, frame in frames.items()})


def _places(folders: Sequence[Path]) -> list[str]:
    common = Path(os.path.commonpath(folders))
    many = len(folders) > NAMED_FOLDERS
    told = [f"Records: {common} ({len(folders)} folders)"] if many else [f"Records: {folder}" for folder in folders]
    board = tensorboard.opened(folders)
    return [*told, f"Curves:  tensorboard --logdir {shlex.quote(str(board))}"] if board else told
