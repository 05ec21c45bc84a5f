"""From records to one summary per loss, weighting, corruption and rate; and what curves come to."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis.intervals import SCORED, Estimate, Scores, crossed, estimate_over_seeds, interval, is_sample
from lossbench.records import GROUP, UNTRAINED, Results
from lossbench.types import Array, Optimizer, Trial, list_settings


@dataclass(frozen=True)
class Reach:
    """Steps to the target over seeds."""

    median: float  # infinite where half of the trials or more did not reach it
    n_reached: int
    n_trials: int


@dataclass(frozen=True)
class Degradation:
    """What corruption costs; positive is worse than rate 0."""

    value: float
    unit: str  # "points" (hundredths of a perfect value) | "%"
    n_pairs: int  # seeds that are there at both rates


def steps_to_target(steps: Array, curve: Array, target: float, higher_is_better: bool) -> float:
    """The step of the first evaluation at which `curve` is at least as good as `target`; infinite if none is.

    steps, curve: ``[E]``. Values that are not finite reach nothing.
    """
    curve = np.asarray(curve, np.float64)
    good = np.isfinite(curve) & ((curve >= target) if higher_is_better else (curve <= target))
    return float(np.asarray(steps)[good.argmax()]) if good.any() else np.inf


def reach(steps: Sequence[float]) -> Reach:
    """The median over trials, those that never arrived being infinite (censored)."""
    values = np.sort(np.asarray(steps, np.float64))
    lower, upper = values[(len(values) - 1) // 2], values[len(values) // 2]
    return Reach(float((lower + upper) / 2), int(np.isfinite(values).sum()), len(values))


def area(steps: Array, curve: Array) -> float:
    r"""The mean height of `curve` over the training, by the trapezoid rule; NaN if a value is not finite.

    .. math:: \frac{1}{x_E - x_1} \sum_i (x_{i+1} - x_i) (y_i + y_{i+1}) / 2

    steps: ``[E]``, rising. curve: ``[E]``. Returns the curve's unit: low is good for errors, high for scores.
    """
    steps, curve = np.asarray(steps, np.float64), np.asarray(curve, np.float64)
    if len(curve) < 2:
        return float(curve[0]) if len(curve) else np.nan
    return float(np.diff(steps) @ (curve[1:] + curve[:-1]) / 2 / (steps[-1] - steps[0]))


def degradation(
    at_rate: Mapping[int, float], at_zero: Mapping[int, float], higher_is_better: bool, perfect: float
) -> Degradation | None:
    r"""What the metric loses against rate 0, paired by seed; positive is worse. None without a pair.

    Where higher is better, in points: the mean of :math:`100 (y_0 - y) / y_\mathrm{perfect}`. For errors, in percent:
    :math:`100 (\exp \mathrm{mean} \log (y / y_0) - 1)`, the scale on which errors are compared; None where one is
    not positive.

    at_rate, at_zero: the metric by seed.
    """
    seeds = [seed for seed, value in at_rate.items() if np.isfinite(value) and np.isfinite(at_zero.get(seed, np.nan))]
    if not seeds:
        return None
    here = np.array([at_rate[seed] for seed in seeds])
    there = np.array([at_zero[seed] for seed in seeds])
    if higher_is_better:
        scale = perfect if np.isfinite(perfect) and perfect > 0 else 1.0
        return Degradation(float(100 * (there - here).mean() / scale), "points", len(seeds))
    if min(here.min(), there.min()) <= 0:
        return None
    return Degradation(float(100 * np.expm1(np.log(here / there).mean())), "%", len(seeds))


SETTINGS = (
    *("task", "data", "model"),
    *(one.column for kind in (Optimizer, Trial) for one in list_settings(kind)),
    "contender",
)
"""Columns of records: trials that differ in one of these are never averaged."""
CELL = ("corruption", "loss", "weighting", "corruption_rate")


@dataclass(frozen=True)
class Summary:
    """What the seeds of one loss, weighting, corruption and rate say. Means are over trials that did not diverge."""

    settings: dict[str, Any]  # those of SETTINGS that the records know
    loss: str
    weighting: str
    corruption: str
    corruption_rate: float
    realised_rate: float
    metric: str
    transform: str  # how scores per example become the metric: mean | root | linear | none
    higher_is_better: bool
    perfect: float
    baseline_predictor: float  # the baseline predictor's value on test
    target: (
        float  # what "steps to target" aims at; like `baseline_predictor`, the mean over seeds where each has its own
    )
    last: Estimate | None  # test metric at the last epoch; None without a trial to average
    best: Estimate | None  # at the epoch that validation calls best
    validation: float  # mean validation metric at the last epoch, by which a learning rate is chosen
    steps: Reach | None  # None without a target or curves
    area: float  # mean height of the test curve
    gap: float  # last against best epoch, in the metric's unit; positive: training on made it worse (memorisation)
    degradation: Degradation | None  # None at rate 0, or where rate 0 is missing
    values: dict[int, float]  # test metric at the last epoch by seed, the diverged left out
    seeds: tuple[int, ...]  # all that there is a record of
    trials: tuple[str, ...]  # ids of those that means are over, by seed
    diverged: tuple[str, ...]  # ids of those left out of the means
    n_failed: int
    n_skipped: int  # as loss or corruption cannot take their data
    reasons: tuple[str, ...]  # why trials failed, were skipped, or were not finite from the start
    wall_seconds: float  # median
    gradient_norm: float  # median over seeds of the median over training; NaN where records do not tell
    residual_scale: float  # median over seeds, of test residuals in the targets' scale; NaN where there are none
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
        """How many trials there is a record of, failed and skipped ones included."""
        return len(self.seeds)


@dataclass(frozen=True)
class Evidence:
    """Curves and scores of the metric on test, by trial."""

    curves: dict[str, tuple[Array, Array]]  # steps, values
    scores: dict[tuple[str, str], Scores]  # (trial, epoch)


@dataclass(frozen=True)
class _Rows:
    """Some rows of the table of trials. A data frame per cell would take most of the time."""

    table: dict[str, Array]  # columns of objects
    at: Array  # the rows' numbers

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, name: str) -> Array:
        return self.table[name][self.at]

    def where(self, kept: Array) -> "_Rows":
        return _Rows(self.table, self.at[kept])

    def numbers(self, name: str) -> Array:
        """A column as numbers, NaN for what is none."""
        if name not in self.table:
            return np.full(len(self), np.nan)
        try:
            return self[name].astype(np.float64)
        except (TypeError, ValueError):  # by pandas takes twenty times as long
            return pd.to_numeric(pd.Series(self[name], dtype=object), errors="coerce").to_numpy(np.float64)

    def judged(self, epoch: str, split: str = "test") -> Array:
        """``[n]``, the primary metric."""
        return self.numbers(f"{split}/{self['metric'][0]}/{epoch}") if len(self) else np.zeros(0)

    def first(self, name: str) -> Any:
        """The first row's value; None where there is no such column."""
        return self[name][0] if name in self.table else None


def summarise(results: Sequence[Results]) -> list[Summary]:
    """One summary per setting, corruption, loss, weighting and rate, in that order, whatever the order of `results`.

    A trial that several results hold counts once.
    """
    trials = pd.concat([fill_columns(result.trials) for result in results] or [pd.DataFrame({"trial": []})])
    trials = trials.drop_duplicates("trial", keep="last")
    return summarise_trials(trials, _evidence(results, trials)) if len(trials) else []


def summarise_trials(trials: pd.DataFrame, evidence: Evidence, confidence: float = 0.95) -> list[Summary]:
    """The same from a table of trials, each in one row and `filled`, and what is known of them."""
    keys = [*(name for name in SETTINGS if name in trials), *CELL]
    return _compared([_summary(rows, keys, evidence, confidence) for rows in _cells(trials, keys)])


def _cells(trials: pd.DataFrame, keys: list[str]) -> list[_Rows]:
    table = {str(name): trials[name].to_numpy(object) for name in trials}
    cells = trials.groupby(keys, sort=True, dropna=False, observed=True).ngroup().to_numpy()
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order]) > 0) + 1
    return [_Rows(table, at) for at in np.split(order, starts)]


def fill_columns(trials: pd.DataFrame) -> pd.DataFrame:
    """The same with the columns that a cell needs, where records do not have them."""
    defaults = {"weighting": "none", "corruption": "none", "corruption_rate": 0.0, "seed": 0}
    missing = pd.DataFrame({name: value for name, value in defaults.items() if name not in trials}, trials.index)
    return pd.concat([trials, missing], axis=1)


def _evidence(results: Sequence[Results], trials: pd.DataFrame) -> Evidence:
    metric = dict(zip(trials["trial"], trials["metric"], strict=True))
    evidence = Evidence({}, {})
    for result in results:
        test = result.curves[result.curves["split"] == "test"]
        test = test[test["metric"].astype(object) == test["trial"].astype(object).map(metric)]
        test = test.sort_values("step", kind="stable")
        evidence.curves.update({trial: part for (trial,), part in _parts(test, ["trial"], "step", "value")})
        columns = ["example", "score", *({GROUP} & {*result.test})]
        evidence.scores.update((key, Scores(*part)) for key, part in _parts(result.test, ["trial", "epoch"], *columns))
    return evidence


def _parts(rows: pd.DataFrame, keys: list[str], *columns: str) -> Iterator[tuple[Any, Any]]:
    """The columns of each group of rows with equal keys: what groupby gives, some hundred times faster."""
    groups = rows.groupby(keys, observed=True, sort=False).ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    names = [rows[key].astype(str).to_numpy()[order[starts]] for key in keys]
    parts = [np.split(rows[column].to_numpy()[order], starts[1:]) for column in columns]
    if len(rows):
        yield from zip(zip(*names, strict=True), zip(*parts, strict=True), strict=True)


def _summary(rows: _Rows, keys: list[str], evidence: Evidence, confidence: float) -> Summary:
    n = len(rows)
    rows = _latest(rows)
    failed, skipped = (rows.where(rows["status"] == status) for status in UNTRAINED)
    untrained = np.isin(rows["status"].astype(str), UNTRAINED)
    explained = untrained | (rows.numbers("diverged_step") == 0)
    tried = rows.where(~untrained)
    first = tried if len(tried) else rows  # failed trials may leave no more than their settings
    better = first.first("higher_is_better") in (True, 1)
    good = tried.where((tried["status"] == "finished") & np.isfinite(tried.judged("last")))
    return Summary(
        settings={key: _plain(first.first(key)) for key in keys if key not in CELL},
        loss=str(first.first("loss")),
        weighting=str(first.first("weighting")),
        corruption=str(first.first("corruption")),
        corruption_rate=float(first.first("corruption_rate")),
        realised_rate=_mean(rows.numbers("realised_rate")),
        metric=str(first.first("metric")),
        transform=str(first.first("transform")),
        higher_is_better=better,
        perfect=_mean(rows.numbers("perfect")),
        baseline_predictor=_mean(rows.numbers("baseline_predictor")),
        target=_mean(rows.numbers("target")),
        last=_estimate(good, "last", evidence, confidence),
        best=_estimate(good, "best", evidence, confidence),
        validation=_mean(good.judged("last", "validation")),
        steps=_steps(tried, good, evidence),
        area=_mean([area(*evidence.curves[trial]) for trial in good["trial"] if trial in evidence.curves]),
        gap=_mean((good.judged("last") - good.judged("best")) * (-1 if better else 1)),
        degradation=None,
        values=dict(zip(map(int, good["seed"]), good.judged("last").tolist(), strict=True)),
        seeds=tuple(map(int, rows["seed"])),
        trials=tuple(good["trial"]),
        diverged=tuple(tried["trial"][~np.isin(tried["trial"].astype(str), good["trial"].astype(str))]),
        n_failed=len(failed),
        n_skipped=len(skipped),
        reasons=tuple(sorted({str(reason) for reason in _texts(rows.where(explained), "reason")})),
        wall_seconds=_median(good.numbers("wall_seconds")),
        gradient_norm=_median(good.numbers("gradient_norm")),
        residual_scale=_median(good.numbers("residual_scale")),
        notes=(f"{n - len(rows)} trials repeat a seed; the latest of each is used",) if n > len(rows) else (),
    )


def _latest(rows: _Rows) -> _Rows:
    """The last of each seed, by seed."""
    latest = {int(seed): number for number, seed in enumerate(rows["seed"])}
    return rows.where(np.array([latest[seed] for seed in sorted(latest)]))


def _texts(rows: _Rows, name: str) -> list[Any]:
    return [text for text in (rows[name] if name in rows.table else ()) if not pd.isna(text)]


def _estimate(rows: _Rows, epoch: str, evidence: Evidence, confidence: float) -> Estimate | None:
    """The test metric at `epoch`, with test rows as a sample wherever scores allow it."""
    if not len(rows):
        return None
    better, perfect = bool(rows.first("higher_is_better")), float(rows.numbers("perfect")[0])
    known = [part for trial in rows["trial"] if (part := evidence.scores.get((trial, epoch)))]
    if (transform := rows.first("transform")) in SCORED and len(known) == len(rows):
        (table,), groups = crossed([known])
        if is_sample(table, groups):
            return interval(table, str(transform), better, confidence, perfect, groups)
    return estimate_over_seeds(rows.judged(epoch), better, confidence, perfect)


def _steps(tried: _Rows, good: _Rows, evidence: Evidence) -> Reach | None:
    """Steps to the target; a diverged trial never gets there, whatever it passed on its way."""
    drawn = np.array([trial in evidence.curves for trial in good["trial"]], bool)
    rows = good.where(drawn & np.isfinite(good.numbers("target")))
    if not len(tried) or (not len(rows) and len(good)):
        return None
    columns = zip(rows["trial"], rows.numbers("target"), rows["higher_is_better"], strict=True)
    found = [steps_to_target(*evidence.curves[trial], float(target), bool(better)) for trial, target, better in columns]
    return reach(found + [np.inf] * (len(tried) - len(rows)))


def _compared(summaries: list[Summary]) -> list[Summary]:
    """Add what a cell is only by comparison: its degradation, and seeds that others of the same data have."""
    clean = {(*_kind(s), s.corruption): s for s in summaries if s.corruption_rate == 0}
    seeds: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for summary in summaries:
        seeds[_subject(summary)] |= set(summary.seeds)
    return [
        replace(s, degradation=_degradation(s, clean), notes=s.notes + _gaps(s, seeds[_subject(s)])) for s in summaries
    ]


def _degradation(summary: Summary, clean: Mapping[tuple[Any, ...], Summary]) -> Degradation | None:
    """Against rate 0 of the same corruption, or of none."""
    same = (clean.get((*_kind(summary), corruption)) for corruption in (summary.corruption, "none"))
    base = next((other for other in same if other), None)
    if summary.corruption_rate == 0 or base is None:
        return None
    return degradation(summary.values, base.values, summary.higher_is_better, summary.perfect)


def _gaps(summary: Summary, seeds: set[int]) -> tuple[str, ...]:
    missing = sorted(seeds - set(summary.seeds))
    return (f"seeds that other rows have are missing: {', '.join(map(str, missing))}",) if missing else ()


def _kind(summary: Summary) -> tuple[Any, ...]:
    """All but corruption and rate."""
    return (*summary.settings.items(), summary.loss, summary.weighting)


def _subject(summary: Summary) -> tuple[Any, ...]:
    return summary.metric, summary.settings.get("task"), summary.settings.get("data")


def _mean(values: Array | list[float]) -> float:
    """The mean of what is finite; NaN of nothing."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if finite.size else np.nan


def _median(values: Array) -> float:
    """The median of what is finite; NaN of nothing."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _plain(value: Any) -> Any:
    """A Python scalar, missing as None (which, unlike NaN, equals itself)."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if pd.isna(value) else value
