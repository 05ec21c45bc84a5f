"""From records to one summary per loss, weighting, corruption and rate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from lossbench.analysis.curves import Degradation, Reach, area, degradation, reach, steps_to_target
from lossbench.analysis.intervals import Estimate, interval, interval_over_seeds
from lossbench.records import Results
from lossbench.types import Array

# Trials that differ in one of these are never averaged.
SETTINGS = (
    *("task", "data", "metric", "model", "head"),
    *("optimizer", "lr", "weight_decay", "momentum", "schedule", "warmup", "clip_mode", "clip", "batch_size"),
    *("epochs", "evaluations", "validation", "precision"),
    *("beta1", "beta2", "eps", "split_test", "split_validation"),
)
CELL = ("corruption", "loss", "weighting", "rate")


@dataclass(frozen=True)
class Summary:
    """What the seeds of one loss, weighting, corruption and rate say. Means are over trials that did not diverge."""

    settings: dict[str, Any]  # those of SETTINGS that the records know
    loss: str
    weighting: str
    corruption: str
    rate: float
    realised_rate: float
    metric: str
    higher_is_better: bool
    perfect: float
    trivial: float  # the trivial predictor's value on test
    target: float  # what "steps to target" aims at; like `trivial`, the mean over seeds where each has its own
    last: Estimate | None  # test metric at the last epoch; None without a trial to average
    best: Estimate | None  # at the epoch that validation calls best
    steps: Reach | None  # None without a target or curves
    area: float  # mean height of the test curve
    gap: float  # last against best epoch, in the metric's unit; positive: training on made it worse (memorisation)
    degradation: Degradation | None  # None at rate 0, or where rate 0 is missing
    values: dict[int, float]  # test metric at the last epoch by seed, the diverged left out
    seeds: tuple[int, ...]  # all that there is a record of
    trials: tuple[str, ...]  # ids of those that means are over, by seed
    diverged: tuple[str, ...]  # ids of those left out of the means
    n_failed: int
    reasons: tuple[str, ...]  # why trials failed
    wall_seconds: float  # median
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The loss, with its weighting if there is one."""
        return self.loss if self.weighting in ("", "none") else f"{self.loss} + {self.weighting}"

    @property
    def n_diverged(self) -> int:
        """How many trials diverged."""
        return len(self.diverged)

    @property
    def n_trials(self) -> int:
        """How many trials there is a record of, failed ones included."""
        return len(self.seeds)


@dataclass(frozen=True)
class _Evidence:
    """Curves and scores of the primary metric on test, by trial."""

    curves: dict[str, tuple[Array, Array]]  # steps, values
    scores: dict[tuple[str, str], pd.Series]  # (trial, epoch) -> score by example


def summarise(results: Sequence[Results]) -> list[Summary]:
    """One summary per setting, corruption, loss, weighting and rate, in that order, whatever the order of `results`.

    A trial that several results hold counts once.
    """
    trials = pd.concat([_filled(result.trials) for result in results] or [pd.DataFrame({"trial": []})])
    trials = trials.drop_duplicates("trial", keep="last")
    if trials.empty:
        return []
    evidence = _evidence(results, trials)
    keys = [*(name for name in SETTINGS if name in trials), *CELL]
    cells = trials.groupby(keys, sort=True, dropna=False, observed=True)
    return _compared([_summary(rows, keys, evidence) for _, rows in cells])


def _filled(trials: pd.DataFrame) -> pd.DataFrame:
    """The same with the columns that a cell needs, where records do not have them."""
    defaults = {"weighting": "none", "corruption": "none", "rate": 0.0, "seed": 0}
    missing = pd.DataFrame({name: value for name, value in defaults.items() if name not in trials}, trials.index)
    return pd.concat([trials, missing], axis=1)


def _evidence(results: Sequence[Results], trials: pd.DataFrame) -> _Evidence:
    metric = dict(zip(trials["trial"], trials["metric"], strict=True))
    evidence = _Evidence({}, {})
    for result in results:
        test = result.curves[result.curves["split"] == "test"]
        test = test[test["metric"].astype(object) == test["trial"].astype(object).map(metric)]
        for trial, rows in test.sort_values("step").groupby("trial", observed=True):
            evidence.curves[str(trial)] = rows["step"].to_numpy(), rows["value"].to_numpy()
        for key, rows in result.test.groupby(["trial", "epoch"], observed=True):
            trial, epoch = map(str, cast("tuple[str, str]", key))
            evidence.scores[trial, epoch] = rows.set_index("example")["score"]
    return evidence


def _summary(rows: pd.DataFrame, keys: list[str], evidence: _Evidence) -> Summary:
    repeated = int(rows.duplicated("seed").sum())
    rows = rows.drop_duplicates("seed", keep="last").sort_values("seed")
    failed = rows[rows["status"] == "failed"]
    tried = rows[rows["status"] != "failed"]
    first = (rows if tried.empty else tried).iloc[0]  # failed trials may leave no more than their settings
    better = first.get("higher_is_better") in (True, 1)
    good = tried[(tried["status"] == "finished") & np.isfinite(_values(tried, "last"))]
    return Summary(
        settings={key: _plain(first[key]) for key in keys if key not in CELL},
        loss=str(first["loss"]),
        weighting=str(first["weighting"]),
        corruption=str(first["corruption"]),
        rate=float(first["rate"]),
        realised_rate=_mean(_numbers(rows, "realised_rate")),
        metric=str(first["metric"]),
        higher_is_better=better,
        perfect=_mean(_numbers(rows, "perfect")),
        trivial=_mean(_numbers(rows, "trivial")),
        target=_mean(_numbers(rows, "target")),
        last=_estimate(good, "last", evidence),
        best=_estimate(good, "best", evidence),
        steps=_steps(tried, good, evidence),
        area=_mean([area(*evidence.curves[trial]) for trial in good["trial"] if trial in evidence.curves]),
        gap=_mean((_values(good, "last") - _values(good, "best")) * (-1 if better else 1)),
        degradation=None,
        values=dict(zip(good["seed"].astype(int).tolist(), _values(good, "last").tolist(), strict=True)),
        seeds=tuple(rows["seed"].astype(int).tolist()),
        trials=tuple(good["trial"]),
        diverged=tuple(tried["trial"][~tried["trial"].isin(good["trial"])]),
        n_failed=len(failed),
        reasons=tuple(sorted({str(reason) for reason in failed.get("reason", pd.Series()).dropna()})),
        wall_seconds=float(np.median(_numbers(good, "wall_seconds"))) if len(good) else np.nan,
        notes=(f"{repeated} trials repeat a seed; the latest of each is used",) if repeated else (),
    )


def _estimate(rows: pd.DataFrame, epoch: str, evidence: _Evidence) -> Estimate | None:
    """The test metric at `epoch`, with test rows as a sample wherever scores allow it."""
    if rows.empty:
        return None
    first = rows.iloc[0]
    better, perfect = bool(first["higher_is_better"]), float(_numbers(rows, "perfect")[0])
    scores = [evidence.scores.get((trial, epoch)) for trial in rows["trial"]]
    known = [score for score in scores if score is not None]
    if first.get("transform") in ("mean", "root") and len(known) == len(rows):
        table = pd.concat(known, axis=1, join="inner").to_numpy().T  # [S, m]
        if table.shape[1] > 1 and np.isfinite(table).all():
            return interval(table, str(first["transform"]), better, perfect=perfect)
    return interval_over_seeds(_values(rows, epoch), better, perfect=perfect)


def _steps(tried: pd.DataFrame, good: pd.DataFrame, evidence: _Evidence) -> Reach | None:
    """Steps to the target; a diverged trial never gets there, whatever it passed on its way."""
    rows = good[good["trial"].isin(evidence.curves) & np.isfinite(_numbers(good, "target"))]
    if tried.empty or (rows.empty and not good.empty):
        return None
    columns = zip(rows["trial"], rows.get("target", ()), rows["higher_is_better"], strict=True)
    found = [steps_to_target(*evidence.curves[trial], float(target), bool(better)) for trial, target, better in columns]
    return reach(found + [np.inf] * (len(tried) - len(rows)))


def _compared(summaries: list[Summary]) -> list[Summary]:
    """Add what a cell is only by comparison: its degradation, and seeds that others of the same data have."""
    return [
        replace(summary, degradation=_degradation(summary, summaries), notes=summary.notes + _gaps(summary, summaries))
        for summary in summaries
    ]


def _degradation(summary: Summary, summaries: Iterable[Summary]) -> Degradation | None:
    if summary.rate == 0:
        return None
    same = (summary.settings, summary.loss, summary.weighting)
    clean = [other for other in summaries if other.rate == 0 and same == (other.settings, other.loss, other.weighting)]
    clean = [other for other in clean if other.corruption in (summary.corruption, "none")]
    if not clean:
        return None
    base = max(clean, key=lambda other: other.corruption == summary.corruption)
    return degradation(summary.values, base.values, summary.higher_is_better, summary.perfect)


def _gaps(summary: Summary, summaries: Iterable[Summary]) -> tuple[str, ...]:
    alike = [other for other in summaries if _subject(other) == _subject(summary)]
    missing = sorted({seed for other in alike for seed in other.seeds} - set(summary.seeds))
    return (f"seeds that other rows have are missing: {', '.join(map(str, missing))}",) if missing else ()


def _subject(summary: Summary) -> tuple[Any, ...]:
    return summary.metric, summary.settings.get("task"), summary.settings.get("data")


def _values(rows: pd.DataFrame, epoch: str) -> Array:
    """``[n]``, the primary metric on test."""
    return _numbers(rows, f"test/{rows['metric'].iloc[0]}/{epoch}") if len(rows) else np.zeros(0)


def _numbers(rows: pd.DataFrame, name: str) -> Array:
    if name not in rows:
        return np.full(len(rows), np.nan)
    return pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)


def _mean(values: Array | list[float]) -> float:
    """The mean of what is finite; NaN of nothing."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if finite.size else np.nan


def _plain(value: Any) -> Any:
    """A Python scalar, missing as None (which, unlike NaN, equals itself)."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if pd.isna(value) else value
