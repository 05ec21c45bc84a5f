"""Reading a study: many folders of records at once, and of each only what tables, comparisons and boards look at."""

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
from lossbench.analysis.summary import SETTINGS, Evidence, Summary, fill_columns, summarise_trials
from lossbench.errors import InvalidValue, make_unknown
from lossbench.records import CURVES, GROUP, TEST, TRIALS, RecordError, name_score_column
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER, SCORED, DEFAULT_LOSS, SCORE = "folder", "scored", "default_loss", "score"
"""Columns that are added to the table of trials, one that older records lack, and one of `test.parquet`."""
KNOWN = frozenset(
    (
        *("trial", "loss", "weighting", "corruption", "corruption_rate", "seed", *SETTINGS, DEFAULT_LOSS),
        *("higher_is_better", "transform", "perfect", "baseline_predictor", "target", "status", "reason"),
        *("wall_seconds", "realised_rate", "gradient_norm", "residual_scale", "diverged_step"),
    )
)
"""Columns that are read beside the metrics' values."""


@dataclass(frozen=True)
class Study:
    """What was read once, for the table, the comparisons and the boards.

    trials: a row per trial, with its folder.
    evidence: curves, and scores at the last and the best epoch, of the metric.
    """

    trials: pd.DataFrame
    evidence: Evidence
    _summaries: dict[tuple[bool, float], list[Summary]] = field(default_factory=dict, init=False, repr=False)

    @property
    def reported(self) -> pd.DataFrame:
        """The trials on seeds that are reported: those for tuning are left out."""
        return self.trials[~self._for_tuning]

    @property
    def tuning(self) -> pd.DataFrame:
        """The trials on seeds that are for tuning alone."""
        return self.trials[self._for_tuning]

    @property
    def _for_tuning(self) -> Array:
        return self.trials["seed"].to_numpy() >= FIRST_TUNING_SEED

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
        return self if kept.all() else Study(self.trials[kept], self.evidence)

    def join(self, other: "Study") -> "Study":
        """Return both together; of a trial that both hold, the other's counts."""
        trials = pd.concat([self.trials, other.trials], ignore_index=True).drop_duplicates("trial", keep="last")
        curves, scores = self.evidence.curves | other.evidence.curves, self.evidence.scores | other.evidence.scores
        return Study(trials, Evidence(curves, scores))

    def _summarise(self, tuning: bool, confidence: float) -> list[Summary]:
        if (tuning, confidence) not in self._summaries:
            trials, evidence = (self.tuning, Evidence({}, {})) if tuning else (self.reported, self.evidence)
            made = summarise_trials(trials, evidence, confidence) if len(trials) else []
            self._summaries[tuning, confidence] = made
        return self._summaries[tuning, confidence]


def read(roots: Sequence[Path], where: Mapping[str, Sequence[str]] | None = None, metric: str = "") -> Study:
    """All trials at or below `roots` that have one of the values that `where` asks for, judged by `metric`.

    metric: one of those on record; by default each trial's own.

    Raises RecordError where there is no folder, or no record in it, and LossbenchError for unknown names.
    """
    trials = _judged(_selected(_trials(_folders(roots)), where or {}), metric)
    return Study(trials, _evidence(trials))


def _folders(roots: Sequence[Path]) -> list[Path]:
    for root in roots:
        if not root.is_dir():
            raise RecordError(f"There is no folder {str(root)!r}.{_near(root)} Give the folders that hold records.")
    found = {folder.resolve(): folder for root in roots for folder in records.find_folders(root)}
    if not found:
        places = ", ".join(map(str, roots))
        raise RecordError(f"There are no records at or below {places}. An experiment leaves them in results/.")
    return list(found.values())


def _near(root: Path) -> str:
    beside = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
    near = get_close_matches(root.name, beside, n=1)
    return f" Did you mean {str(root.with_name(near[0]))!r}?" if near else ""


def _trials(folders: Sequence[Path]) -> pd.DataFrame:
    with ThreadPoolExecutor() as pool:
        tables = list(pool.map(lambda folder: records.read_columns(folder, TRIALS, is_wanted), folders))
    trials = _joined(tables)
    if trials.empty:
        raise RecordError(f"There are no trials on record in {folders[0]}.")
    trials[FOLDER] = np.repeat(np.array(folders, object), [len(table) for table in tables])
    return trials.drop_duplicates("trial", keep="last")


def _joined(tables: Sequence["pa.Table"]) -> pd.DataFrame:
    import pyarrow as pa

    try:
        return fill_columns(pa.concat_tables(tables, promote_options="permissive").to_pandas())
    except pa.ArrowTypeError:  # a column is of numbers here and of text there; ten times slower
        return fill_columns(pd.concat([table.to_pandas() for table in tables], ignore_index=True))


def is_wanted(name: str) -> bool:
    """Whether a column of the trials' table is looked at here: a setting, a fact, or a metric's value."""
    return name in KNOWN or name.startswith(("test/", "validation/"))


def _selected(trials: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    keys = sorted(KNOWN.intersection(trials))
    for key, values in where.items():
        if key not in keys:
            raise make_unknown("setting", key, keys, "Settings on record")
        kept = trials[[any(_is_same(own, value) for value in values) for own in trials[key]]]
        if kept.empty:
            there = ", ".join(sorted({str(own) for own in trials[key]})[:20])
            raise InvalidValue(f"No trial has {key}={','.join(values)}. On record: {there}.")
        trials = kept
    return trials


def _is_same(own: Any, value: str) -> bool:
    try:
        return float(own) == float(value)
    except (TypeError, ValueError):
        return str(own) == value


def _judged(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The trials with `metric` for their own, and the column of its scores."""
    if not metric:
        return trials.assign(scored=SCORE)
    names = {c.split("/")[1] for c in map(str, trials) if c.startswith("test/") and c.endswith("/last")}
    if metric not in names:
        raise make_unknown("metric", metric, names, "On record")
    own = trials["metric"] == metric
    if own.all():
        return trials.assign(scored=SCORE)
    facts = {n: trials.loc[own, n].iloc[0] for n in ("higher_is_better", "perfect")} if own.any() else _facts(metric)
    strange: dict[str, Any] = {"metric": metric, "transform": "linear", "target": np.nan, "baseline_predictor": np.nan}
    others = trials[~own].assign(**facts, **strange, scored=name_score_column(metric))
    return pd.concat([trials[own].assign(scored=SCORE), others], ignore_index=True)


def _facts(metric: str) -> dict[str, Any]:
    from lossbench import registry  # imports torch, which is wanted for nothing else

    kind = registry.metrics.find(metric)
    return {"higher_is_better": kind.higher_is_better, "perfect": kind.limit}


def _evidence(trials: pd.DataFrame) -> Evidence:
    asked = trials[["trial", "metric", SCORED, FOLDER]]
    parts = [(Path(str(folder)), part) for folder, part in asked.groupby(FOLDER, sort=False)]
    evidence = Evidence({}, {})
    with ThreadPoolExecutor() as pool:
        for curves, scores in pool.map(lambda part: _evidence_of(*part), parts):
            evidence.curves.update(curves)
            evidence.scores.update(scores)
    return evidence


def _evidence_of(folder: Path, trials: pd.DataFrame) -> tuple[dict[Any, Any], dict[Any, Any]]:
    metrics = set(trials["metric"])
    own, scored = (dict(zip(trials["trial"], trials[name], strict=True)) for name in ("metric", SCORED))
    curves = records.read_columns(folder, CURVES, {"trial", "step", "split", "metric", "value"}.__contains__)
    scores = records.read_columns(folder, TEST, {"trial", "example", "epoch", GROUP, *scored.values()}.__contains__)
    drawn = {
        trial: values
        for metric in metrics
        for trial, values in _parts(curves, {"split": "test", "metric": metric}, "step", "value")
        if own.get(trial) == metric
    }
    measured = {
        (trial, epoch): Scores(*values)
        for epoch in ("last", "best")
        for column in {*scored.values()} & {*scores.column_names}
        for trial, values in _parts(scores, {"epoch": epoch}, "example", column, *({GROUP} & {*scores.column_names}))
        if scored.get(trial) == column and np.isfinite(values[1]).all()
    }
    return drawn, measured


def _parts(table: "pa.Table", where: Mapping[str, str], *columns: str) -> Iterator[tuple[str, tuple[Array, ...]]]:
    """Some columns of each trial, of the rows that have the values asked for."""
    if not table.num_rows:
        return
    table = table.unify_dictionaries().combine_chunks()
    kept = np.ones(table.num_rows, bool)
    for name, value in where.items():
        codes, names = _coded(table, name)
        kept &= codes == (names.index(value) if value in names else -1)
    codes, names = _coded(table, "trial")
    trial, values = codes[kept], [table[name].to_numpy()[kept] for name in columns]
    if (np.diff(trial) < 0).any():
        order = np.argsort(trial, kind="stable")
        trial, values = trial[order], [column[order] for column in values]
    starts = np.flatnonzero(np.diff(trial, prepend=-1))
    pieces = (np.split(column, starts[1:]) for column in values)
    yield from zip([names[code] for code in trial[starts]], zip(*pieces, strict=True), strict=True)


def _coded(table: "pa.Table", name: str) -> tuple[Array, list[Any]]:
    """A column's values as numbers of `names`."""
    column = table[name].chunk(0)
    column = column if hasattr(column, "dictionary") else column.dictionary_encode()
    return column.indices.to_numpy(zero_copy_only=False), column.dictionary.to_pylist()
