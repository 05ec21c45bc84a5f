"""A study: many folders of records, read at once, and of each only what tables, comparisons and boards need."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench import records
from lossbench.analysis.intervals import Scores
from lossbench.analysis.summary import SETTINGS, Measurements, Summary, add_missing_columns, summarise_trials
from lossbench.errors import InvalidValue, describe_error, make_unknown
from lossbench.records import CURVES, GROUP, TEST, TRIALS, RecordError, name_score_column
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER, SCORE_COLUMN, DEFAULT_LOSS, SCORE = "folder", "score_column", "default_loss", "score"
"""Columns that are added to the table of trials, one that older records lack, and one of `test.parquet`."""
READ_COLUMNS = frozenset(
    (
        *("trial", "loss", "weighting", "corruption", "corruption_rate", "seed", *SETTINGS, DEFAULT_LOSS),
        *("higher_is_better", "transform", "perfect", "baseline_predictor", "target", "status", "reason"),
        *("wall_seconds", "realised_rate", "gradient_norm", "residual_scale", "diverged_step"),
    )
)
"""Columns that are read beside the metrics' values."""
NEEDED = ("trial", "loss", "metric", "status", "seed")
"""Columns without which a table is none of trials."""


@dataclass(frozen=True)
class Study:
    """The trials of many folders, read once for tables, comparisons and boards.

    trials: a row per trial, with its folder.
    measurements: curves, and scores at the last and the best epoch, of the metric.
    problems: a line on each folder that cannot be read, and is left out.
    """

    trials: pd.DataFrame
    measurements: Measurements
    problems: tuple[str, ...] = ()
    _summaries: dict[tuple[bool, float], list[Summary]] = field(default_factory=dict, init=False, repr=False)

    @property
    def reported(self) -> pd.DataFrame:
        """The trials on reported seeds, without those on tuning seeds."""
        return self.trials[self.trials["seed"].to_numpy() < FIRST_TUNING_SEED]

    @property
    def tuning(self) -> pd.DataFrame:
        """The trials on tuning seeds."""
        return self.trials[self.trials["seed"].to_numpy() >= FIRST_TUNING_SEED]

    def summarise(self, confidence: float = 0.95) -> list[Summary]:
        """Return the summaries of what is reported, computed once for each `confidence`."""
        return self._summarise(False, confidence)

    def summarise_tuning(self, confidence: float = 0.95) -> list[Summary]:
        """Return the summaries of the trials for tuning; no scores are looked at, as settings are chosen by validation.

        They are computed once for each `confidence`.
        """
        return self._summarise(True, confidence)

    def select(self, trials: Collection[str]) -> "Study":
        """Return the study of those trials alone, given by their ids."""
        kept = self.trials["trial"].isin(trials).to_numpy()
        return self if kept.all() else Study(self.trials[kept], self.measurements, self.problems)

    def join(self, other: "Study") -> "Study":
        """Return both together; of a trial that both hold, the other's counts."""
        trials = pd.concat([self.trials, other.trials], ignore_index=True).drop_duplicates("trial", keep="last")
        curves, scores = (
            self.measurements.curves | other.measurements.curves,
            self.measurements.scores | other.measurements.scores,
        )
        return Study(trials, Measurements(curves, scores), tuple(dict.fromkeys((*self.problems, *other.problems))))

    def _summarise(self, tuning: bool, confidence: float) -> list[Summary]:
        if (tuning, confidence) not in self._summaries:
            trials, measurements = (self.tuning, Measurements({}, {})) if tuning else (self.reported, self.measurements)
            summaries = summarise_trials(trials, measurements, confidence) if len(trials) else []
            self._summaries[tuning, confidence] = summaries
        return self._summaries[tuning, confidence]


def read_study(roots: Sequence[Path], where: Mapping[str, Sequence[str]] | None = None, metric: str = "") -> Study:
    """Read all trials at or below `roots` that have the values that `where` lists, to be judged by `metric`.

    metric: one of those on record; by default each trial's own.

    A folder that is damaged is left out, and named in the study's `problems`. Raises RecordError where there is no
    folder, no record in it, or nothing that can be read, and LossbenchError for unknown names.
    """
    trials, problems = _read_trials(_find_folders(roots))
    trials = _filter_trials(trials, where or {})
    trials = _set_metric(trials, metric)
    measurements, damaged = _read_measurements(trials)
    if damaged:
        problems |= damaged
        trials = trials[~trials[FOLDER].astype(str).isin([str(folder) for folder in damaged])]
    if trials.empty:
        raise RecordError(" ".join(dict.fromkeys(problems.values())))
    return Study(trials, measurements, tuple(f"Left out: {reason}" for reason in problems.values()))


def _find_folders(roots: Sequence[Path]) -> list[Path]:
    for root in roots:
        if not root.is_dir():
            beside = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
            near = get_close_matches(root.name, beside, n=1)
            hint = f" Did you mean {str(root.with_name(near[0]))!r}?" if near else ""
            raise RecordError(f"There is no folder {str(root)!r}.{hint} Give the folders that hold records.")
    folders = {folder.resolve(): folder for root in roots for folder in records.find_folders(root)}
    if not folders:
        places = ", ".join(map(str, roots))
        raise RecordError(f"There are no records at or below {places}. An experiment leaves them in results/.")
    return list(folders.values())


def _read_trials(folders: Sequence[Path]) -> tuple[pd.DataFrame, dict[Path, str]]:
    """Return the trials of all folders, and by folder why one is left out."""
    import pyarrow as pa

    def read_folder(folder: Path) -> "pa.Table | RecordError":
        try:
            table = records.read_columns(folder, TRIALS, is_known_column)
        except RecordError as error:
            return error
        lacking = [name for name in NEEDED if name not in table.column_names]
        return RecordError(f"{folder / TRIALS} has no column {lacking[0]!r}.") if lacking else table

    with ThreadPoolExecutor() as pool:
        results = dict(zip(folders, pool.map(read_folder, folders), strict=True))
    problems = {folder: str(result) for folder, result in results.items() if isinstance(result, RecordError)}
    by_folder = {folder: result for folder, result in results.items() if not isinstance(result, RecordError)}
    tables = list(by_folder.values())
    if not tables:
        raise RecordError(" ".join(problems.values()))
    try:
        trials = add_missing_columns(pa.concat_tables(tables, promote_options="permissive").to_pandas())
    except pa.ArrowTypeError:  # a column holds numbers here and text there; ten times slower
        trials = add_missing_columns(pd.concat([table.to_pandas() for table in tables], ignore_index=True))
    if trials.empty:
        raise RecordError(f"There are no trials on record in {folders[0]}.")
    trials[FOLDER] = np.repeat(np.array([*by_folder], object), [len(table) for table in tables])
    return trials.drop_duplicates("trial", keep="last"), problems


def is_known_column(name: str) -> bool:
    """Return whether a column of the table of trials is read: a setting, a fact, or a metric's value."""
    return name in READ_COLUMNS or name.startswith(("test/", "validation/"))


def _filter_trials(trials: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    keys = sorted(READ_COLUMNS.intersection(trials))
    for key, values in where.items():
        if key not in keys:
            raise make_unknown("setting", key, keys, "Settings on record")
        kept = trials[[any(_matches_filter(recorded, value) for value in values) for recorded in trials[key]]]
        if kept.empty:
            recorded = ", ".join(sorted({str(value) for value in trials[key]})[:20])
            raise InvalidValue(f"No trial has {key}={','.join(values)}. On record: {recorded}.")
        trials = kept
    return trials


def _matches_filter(recorded: Any, value: str) -> bool:
    try:
        return float(recorded) == float(value)
    except (TypeError, ValueError):
        return str(recorded) == value


def _set_metric(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Make `metric` the one that trials are judged by, and add the column of `test.parquet` that holds its scores."""
    if not metric:
        return trials.assign(score_column=SCORE)
    names = {c.split("/")[1] for c in map(str, trials) if c.startswith("test/") and c.endswith("/last")}
    if metric not in names:
        raise make_unknown("metric", metric, names, "On record")
    is_primary = trials["metric"] == metric
    if is_primary.all():
        return trials.assign(score_column=SCORE)
    # the direction and the perfect value, from trials that were judged by it, or else from the metric itself
    if is_primary.any():
        facts = {name: trials.loc[is_primary, name].iloc[0] for name in ("higher_is_better", "perfect")}
    else:
        from lossbench import registry  # imports torch, which is needed for nothing else here

        kind = registry.metrics.find(metric)
        facts = {"higher_is_better": kind.higher_is_better, "perfect": kind.limit}
    unknown: dict[str, Any] = {"transform": "linear", "target": np.nan, "baseline_predictor": np.nan}
    others = trials[~is_primary].assign(metric=metric, **facts, **unknown, score_column=name_score_column(metric))
    return pd.concat([trials[is_primary].assign(score_column=SCORE), others], ignore_index=True)


def _read_measurements(trials: pd.DataFrame) -> tuple[Measurements, dict[Path, str]]:
    """Return curves and scores of all trials, and by folder why its trials are left out."""
    columns = trials[["trial", "metric", SCORE_COLUMN, FOLDER]]
    parts = [(Path(str(folder)), part) for folder, part in columns.groupby(FOLDER, sort=False)]
    measurements, problems = Measurements({}, {}), {}

    def read_folder(part: tuple[Path, pd.DataFrame]) -> tuple[dict[Any, Any], dict[Any, Any]] | RecordError:
        try:
            return _read_folder(*part)
        except RecordError as error:
            return error
        except (LookupError, TypeError, ValueError) as error:  # a table with other columns or types than ours
            return RecordError(f"{part[0]} does not hold records as they are written ({describe_error(error)}).")

    with ThreadPoolExecutor() as pool:
        for (folder, _), result in zip(parts, pool.map(read_folder, parts), strict=True):
            if isinstance(result, RecordError):
                problems[folder] = str(result)
            else:
                measurements.curves.update(result[0])
                measurements.scores.update(result[1])
    return measurements, problems


def _read_folder(folder: Path, trials: pd.DataFrame) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Read the test curves of the trials of one folder by trial, and their scores by trial and epoch."""
    metrics = dict(zip(trials["trial"], trials["metric"], strict=True))
    score_columns = dict(zip(trials["trial"], trials[SCORE_COLUMN], strict=True))
    curve_table = records.read_columns(folder, CURVES, {"trial", "step", "split", "metric", "value"}.__contains__)
    wanted = {"trial", "example", "epoch", GROUP, *score_columns.values()}
    score_table = records.read_columns(folder, TEST, wanted.__contains__)
    curves = {
        trial: values
        for metric in set(metrics.values())
        for trial, values in _split_by_trial(curve_table, {"split": "test", "metric": metric}, "step", "value")
        if metrics.get(trial) == metric
    }
    present = {*score_table.column_names}
    scores = {
        (trial, epoch): Scores(*values)
        for epoch in ("last", "best")
        for column in {*score_columns.values()} & present
        for trial, values in _split_by_trial(score_table, {"epoch": epoch}, "example", column, *({GROUP} & present))
        if score_columns.get(trial) == column and np.isfinite(values[1]).all()
    }
    return curves, scores


def _split_by_trial(
    table: "pa.Table", where: Mapping[str, str], *columns: str
) -> Iterator[tuple[str, tuple[Array, ...]]]:
    """Yield some columns of each trial, of the lines that have the values in `where`."""
    if not table.num_rows:
        return
    table = table.unify_dictionaries().combine_chunks()
    kept = np.ones(table.num_rows, bool)
    for name, value in where.items():
        codes, names = _encode_column(table, name)
        kept &= codes == (names.index(value) if value in names else -1)
    codes, names = _encode_column(table, "trial")
    if not kept.any():
        return  # splitting nothing would give one piece
    trial, values = codes[kept], [table[name].to_numpy()[kept] for name in columns]
    if (np.diff(trial) < 0).any():  # the lines of a trial need not lie side by side
        order = np.argsort(trial, kind="stable")
        trial, values = trial[order], [column[order] for column in values]
    starts = np.flatnonzero(np.diff(trial, prepend=-1))
    pieces = (np.split(column, starts[1:]) for column in values)
    yield from zip([names[code] for code in trial[starts]], zip(*pieces, strict=True), strict=True)


def _encode_column(table: "pa.Table", name: str) -> tuple[Array, list[Any]]:
    """Return a column's values as numbers, and the names that these stand for."""
    column = table[name].chunk(0)
    column = column if hasattr(column, "dictionary") else column.dictionary_encode()
    return column.indices.to_numpy(zero_copy_only=False), column.dictionary.to_pylist()
