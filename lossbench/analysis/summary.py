"""Summaries of trials: one per loss, weighting, corruption and rate, with its interval, steps and learning curve."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis.intervals import (
    EXAMPLE_TRANSFORMS,
    Estimate,
    Scores,
    align_scores,
    estimate_interval,
    estimate_over_seeds,
    is_sample,
)
from lossbench.records import GROUP, UNTRAINED, Results
from lossbench.types import Array, Optimizer, Trial, list_settings


@dataclass(frozen=True)
class StepsToTarget:
    """The steps to the target, over seeds."""

    median: float  # infinite where half of the trials or more did not reach it
    n_reached: int
    n_trials: int


@dataclass(frozen=True)
class Degradation:
    """The cost of corruption; positive is worse than at rate 0."""

    value: float
    unit: str  # "points" (hundredths of a perfect value) | "%"
    n_pairs: int  # seeds that are there at both rates


def steps_to_target(steps: Array, curve: Array, target: float, higher_is_better: bool) -> float:
    """Return the step of the first evaluation at which `curve` is at least as good as `target`; infinite if none is.

    steps, curve: ``[E]``. Values that are not finite reach nothing.
    """
    curve = np.asarray(curve, np.float64)
    good = np.isfinite(curve) & ((curve >= target) if higher_is_better else (curve <= target))
    return float(np.asarray(steps)[good.argmax()]) if good.any() else np.inf


def summarise_steps(steps: Sequence[float]) -> StepsToTarget:
    """Return the median over trials, those that never arrived being infinite (censored)."""
    values = np.sort(np.asarray(steps, np.float64))
    lower, upper = values[(len(values) - 1) // 2], values[len(values) // 2]
    return StepsToTarget(float((lower + upper) / 2), int(np.isfinite(values).sum()), len(values))


def area_under_curve(steps: Array, curve: Array) -> float:
    r"""Compute the mean height of `curve` over the training, by the trapezoid rule; NaN if a value is not finite.

    .. math:: \frac{1}{x_E - x_1} \sum_i (x_{i+1} - x_i) (y_i + y_{i+1}) / 2

    steps: ``[E]``, rising. curve: ``[E]``. Returns the curve's unit: low is good for errors, high for scores.
    """
    steps, curve = np.asarray(steps, np.float64), np.asarray(curve, np.float64)
    if len(curve) < 2:
        return float(curve[0]) if len(curve) else np.nan
    return float(np.diff(steps) @ (curve[1:] + curve[:-1]) / 2 / (steps[-1] - steps[0]))


def measure_degradation(
    at_rate: Mapping[int, float], at_zero: Mapping[int, float], higher_is_better: bool, perfect: float
) -> Degradation | None:
    r"""Measure what the metric loses against rate 0, paired by seed; positive is worse. None without a pair.

    Where higher is better, in points: the mean of :math:`100 (y_0 - y) / y_\mathrm{perfect}`. For errors, in percent:
    :math:`100 (\exp \mathrm{mean} \log (y / y_0) - 1)`, the scale on which errors are compared; None where one is
    not positive.

    at_rate, at_zero: the metric by seed.
    """
    seeds = [seed for seed, value in at_rate.items() if np.isfinite(value) and np.isfinite(at_zero.get(seed, np.nan))]
    if not seeds:
        return None
    corrupted = np.array([at_rate[seed] for seed in seeds])
    clean = np.array([at_zero[seed] for seed in seeds])
    if higher_is_better:
        scale = perfect if np.isfinite(perfect) and perfect > 0 else 1.0
        return Degradation(float(100 * (clean - corrupted).mean() / scale), "points", len(seeds))
    if min(corrupted.min(), clean.min()) <= 0:
        return None
    return Degradation(float(100 * np.expm1(np.log(corrupted / clean).mean())), "%", len(seeds))


SETTINGS = (
    *("task", "data", "model"),
    *(setting.column for kind in (Optimizer, Trial) for setting in list_settings(kind)),
    "contender",
)
"""Columns of records: trials that differ in one of these are never averaged."""
CELL = ("corruption", "loss", "weighting", "corruption_rate")


@dataclass(frozen=True)
class Summary:
    """The trials of one loss, weighting, corruption and rate over seeds. Means leave out trials that diverged."""

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
    target: float  # of "steps to target"; like `baseline_predictor`, the mean over seeds where each has its own
    last: Estimate | None  # test metric at the last epoch; None where no trial finished
    best: Estimate | None  # at the epoch that validation calls best
    validation: float  # mean validation metric at the last epoch, by which a learning rate is chosen
    steps: StepsToTarget | None  # None without a target or curves
    aulc: float  # area under the learning curve: mean height of the test curve
    overfitting_gap: float  # last minus best epoch, in the metric's unit; positive: training on made it worse
    degradation: Degradation | None  # None at rate 0, or where rate 0 is missing
    values: dict[int, float]  # test metric at the last epoch by seed, the diverged left out
    seeds: tuple[int, ...]  # all on record
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
    def sort_value(self) -> float:
        """The number that sorts summaries by the metric at the last epoch, the best first; infinite without one."""
        value = self.last.value if self.last else np.nan
        return (-value if self.higher_is_better else value) if np.isfinite(value) else np.inf

    @property
    def n_diverged(self) -> int:
        """The number of trials that diverged."""
        return len(self.diverged)

    @property
    def n_trials(self) -> int:
        """The number of trials on record, failed and skipped ones included."""
        return len(self.seeds)


@dataclass(frozen=True)
class Measurements:
    """Curves and scores of the metric on test, by trial."""

    curves: dict[str, tuple[Array, Array]]  # steps, values
    scores: dict[tuple[str, str], Scores]  # (trial, epoch)


@dataclass(frozen=True)
class _TrialGroup:
    """Some lines of the table of trials. A data frame per cell would take most of the time."""

    table: dict[str, Array]  # columns of objects
    at: Array  # the lines' numbers

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, name: str) -> Array:
        return self.table[name][self.at]

    def select(self, kept: Array) -> "_TrialGroup":
        return _TrialGroup(self.table, self.at[kept])

    def get_numbers(self, name: str) -> Array:
        """Return a column as numbers, NaN for what is none."""
        if name not in self.table:
            return np.full(len(self), np.nan)
        try:
            return self[name].astype(np.float64)
        except (TypeError, ValueError):  # pandas takes twenty times as long
            return pd.to_numeric(pd.Series(self[name], dtype=object), errors="coerce").to_numpy(np.float64)

    def get_metric(self, epoch: str, split: str = "test") -> Array:
        """Return the primary metric, ``[n]``."""
        return self.get_numbers(f"{split}/{self['metric'][0]}/{epoch}") if len(self) else np.zeros(0)

    def get_first(self, name: str) -> Any:
        """Return the first line's value; None where there is no such column."""
        return self[name][0] if name in self.table else None


def summarise(results: Sequence[Results]) -> list[Summary]:
    """Return a summary per setting, corruption, loss, weighting and rate, in that order, however `results` are ordered.

    A trial that several results hold counts once.
    """
    trials = pd.concat([add_missing_columns(result.trials) for result in results] or [pd.DataFrame({"trial": []})])
    trials = trials.drop_duplicates("trial", keep="last")
    return summarise_trials(trials, _collect_measurements(results, trials)) if len(trials) else []


def summarise_trials(trials: pd.DataFrame, measurements: Measurements, confidence: float = 0.95) -> list[Summary]:
    """Summarise a table of trials, which has the columns that `fill_columns` adds, with their curves and scores."""
    keys = [*(name for name in SETTINGS if name in trials), *CELL]
    # 1. the lines of each cell: sorted by its key, then split where the key changes
    table = {str(name): trials[name].to_numpy(object) for name in trials}
    codes = trials.groupby(keys, sort=True, dropna=False, observed=True).ngroup().to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order]) > 0) + 1
    cells = [_TrialGroup(table, at) for at in np.split(order, starts)]
    # 2. each by itself
    summaries = [_summarise_cell(cell, keys, measurements, confidence) for cell in cells]
    # 3. what a cell is only beside others: its degradation, and seeds that others of the same data have
    clean = {(*_get_kind(s), s.corruption): s for s in summaries if s.corruption_rate == 0}
    seeds: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for summary in summaries:
        seeds[_get_subject(summary)] |= set(summary.seeds)
    completed = []
    for summary in summaries:
        missing = sorted(seeds[_get_subject(summary)] - set(summary.seeds))
        notes = (f"seeds that other rows have are missing: {', '.join(map(str, missing))}",) if missing else ()
        lost = _compare_with_clean(summary, clean)
        completed.append(replace(summary, degradation=lost, notes=summary.notes + notes))
    return completed


def add_missing_columns(trials: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that a summary needs, where records do not have them."""
    defaults = {"weighting": "none", "corruption": "none", "corruption_rate": 0.0, "seed": 0}
    missing = pd.DataFrame({name: value for name, value in defaults.items() if name not in trials}, trials.index)
    return pd.concat([trials, missing], axis=1)


def _collect_measurements(results: Sequence[Results], trials: pd.DataFrame) -> Measurements:
    """Collect the test curves of each trial's own metric, and its scores per example."""
    metric = dict(zip(trials["trial"], trials["metric"], strict=True))
    measurements = Measurements({}, {})
    for result in results:
        test = result.curves[result.curves["split"] == "test"]
        test = test[test["metric"].astype(object) == test["trial"].astype(object).map(metric)]
        test = test.sort_values("step", kind="stable")
        for (trial,), curve in _split_by_keys(test, ["trial"], "step", "value"):
            measurements.curves[trial] = curve
        columns = ["example", "score", *({GROUP} & {*result.test})]
        for key, scores in _split_by_keys(result.test, ["trial", "epoch"], *columns):
            measurements.scores[key] = Scores(*scores)
    return measurements


def _split_by_keys(rows: pd.DataFrame, keys: list[str], *columns: str) -> Iterator[tuple[Any, Any]]:
    """Yield the columns of each group of lines with equal keys: groupby's result, some hundred times faster."""
    groups = rows.groupby(keys, observed=True, sort=False).ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    names = [rows[key].astype(str).to_numpy()[order[starts]] for key in keys]
    parts = [np.split(rows[column].to_numpy()[order], starts[1:]) for column in columns]
    if len(rows):
        yield from zip(zip(*names, strict=True), zip(*parts, strict=True), strict=True)


def _summarise_cell(cell: _TrialGroup, keys: list[str], measurements: Measurements, confidence: float) -> Summary:
    # 1. the latest trial of each seed, by seed
    n_lines = len(cell)
    latest = {int(seed): number for number, seed in enumerate(cell["seed"])}
    cell = cell.select(np.array([latest[seed] for seed in sorted(latest)]))
    repeated = n_lines - len(cell)
    # 2. trials that failed or were skipped leave no numbers, trials that diverged are no part of means
    failed, skipped = (cell.select(cell["status"] == status) for status in UNTRAINED)
    untrained = np.isin(cell["status"].astype(str), UNTRAINED)
    tried = cell.select(~untrained)
    good = tried.select((tried["status"] == "finished") & np.isfinite(tried.get_metric("last")))
    explained = cell.select(untrained | (cell.get_numbers("diverged_step") == 0))
    reasons = explained["reason"] if "reason" in cell.table else ()
    # 3. facts that all trials share; failed ones may have no more than their settings
    shared = tried if len(tried) else cell
    better = shared.get_first("higher_is_better") in (True, 1)
    gaps = (good.get_metric("last") - good.get_metric("best")) * (-1 if better else 1)
    areas = [area_under_curve(*measurements.curves[trial]) for trial in good["trial"] if trial in measurements.curves]
    return Summary(
        settings={key: _to_scalar(shared.get_first(key)) for key in keys if key not in CELL},
        loss=str(shared.get_first("loss")),
        weighting=str(shared.get_first("weighting")),
        corruption=str(shared.get_first("corruption")),
        corruption_rate=float(shared.get_first("corruption_rate")),
        realised_rate=_average(cell.get_numbers("realised_rate")),
        metric=str(shared.get_first("metric")),
        transform=str(shared.get_first("transform")),
        higher_is_better=better,
        perfect=_average(cell.get_numbers("perfect")),
        baseline_predictor=_average(cell.get_numbers("baseline_predictor")),
        target=_average(cell.get_numbers("target")),
        last=_estimate_metric(good, "last", measurements, confidence),
        best=_estimate_metric(good, "best", measurements, confidence),
        validation=_average(good.get_metric("last", "validation")),
        steps=_count_steps_to_target(tried, good, measurements),
        aulc=_average(areas),
        overfitting_gap=_average(gaps),
        degradation=None,
        values=dict(zip(map(int, good["seed"]), good.get_metric("last").tolist(), strict=True)),
        seeds=tuple(map(int, cell["seed"])),
        trials=tuple(good["trial"]),
        diverged=tuple(tried["trial"][~np.isin(tried["trial"].astype(str), good["trial"].astype(str))]),
        n_failed=len(failed),
        n_skipped=len(skipped),
        reasons=tuple(sorted({str(reason) for reason in reasons if not pd.isna(reason)})),
        wall_seconds=_take_median(good.get_numbers("wall_seconds")),
        gradient_norm=_take_median(good.get_numbers("gradient_norm")),
        residual_scale=_take_median(good.get_numbers("residual_scale")),
        notes=(f"{repeated} trials repeat a seed; the latest of each is used",) if repeated else (),
    )


def _estimate_metric(cell: _TrialGroup, epoch: str, measurements: Measurements, confidence: float) -> Estimate | None:
    """Estimate the test metric at `epoch`, with test examples as a sample wherever scores allow it."""
    if not len(cell):
        return None
    better, perfect = bool(cell.get_first("higher_is_better")), float(cell.get_numbers("perfect")[0])
    scores = [part for trial in cell["trial"] if (part := measurements.scores.get((trial, epoch)))]
    if (transform := cell.get_first("transform")) in EXAMPLE_TRANSFORMS and len(scores) == len(cell):
        (table,), groups = align_scores([scores])
        if is_sample(table, groups):
            return estimate_interval(table, str(transform), better, confidence, perfect, groups)
    return estimate_over_seeds(cell.get_metric(epoch), better, confidence, perfect)


def _count_steps_to_target(tried: _TrialGroup, good: _TrialGroup, measurements: Measurements) -> StepsToTarget | None:
    """Return the steps to the target; a diverged trial never gets there, whatever it passed on its way."""
    has_curve = np.array([trial in measurements.curves for trial in good["trial"]], bool)
    cell = good.select(has_curve & np.isfinite(good.get_numbers("target")))
    if not len(tried) or (not len(cell) and len(good)):
        return None
    columns = zip(cell["trial"], cell.get_numbers("target"), cell["higher_is_better"], strict=True)
    steps = [
        steps_to_target(*measurements.curves[trial], float(target), bool(better)) for trial, target, better in columns
    ]
    return summarise_steps(steps + [np.inf] * (len(tried) - len(cell)))


def _compare_with_clean(summary: Summary, clean: Mapping[tuple[Any, ...], Summary]) -> Degradation | None:
    """Measure the degradation against rate 0 of the same corruption, or else of none."""
    same = (clean.get((*_get_kind(summary), corruption)) for corruption in (summary.corruption, "none"))
    base = next((other for other in same if other), None)
    if summary.corruption_rate == 0 or base is None:
        return None
    return measure_degradation(summary.values, base.values, summary.higher_is_better, summary.perfect)


def _get_kind(summary: Summary) -> tuple[Any, ...]:
    """Return all that identifies a cell but corruption and rate."""
    return (*summary.settings.items(), summary.loss, summary.weighting)


def _get_subject(summary: Summary) -> tuple[Any, ...]:
    """Return the metric, task and data set, for which all losses should have the same seeds."""
    return summary.metric, summary.settings.get("task"), summary.settings.get("data")


def _average(values: Array | list[float]) -> float:
    """Return the mean of the finite values; NaN of none."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if finite.size else np.nan


def _take_median(values: Array) -> float:
    """Return the median of the finite values; NaN of none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _to_scalar(value: Any) -> Any:
    """Convert to a Python scalar, missing as None (which, unlike NaN, equals itself)."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if pd.isna(value) else value
