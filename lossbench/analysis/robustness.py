"""Robustness of losses: what corruption does to each, over the corruption rates on record."""

from dataclasses import dataclass

import numpy as np

from lossbench.analysis.comparison import Comparison, Row
from lossbench.analysis.pairwise import Difference
from lossbench.analysis.summary import area_under_curve, measure_degradation


@dataclass(frozen=True)
class Robustness:
    """One loss over all corruption rates. Rates at which all its trials diverged, or none is on record, are missing.

    values: the metric at the last epoch, by rate.
    mean_degradation: the mean over the rates of the degradation against rate 0, in percent of an error or in points;
        NaN where a rate is missing, or some trial diverged.
    clean_difference: the difference from the baseline at rate 0, which is the price of robustness.
    overfitting_gap: last minus best epoch at the highest rate, in the metric's unit; positive: it got worse.
    breakdown_rate: the rate at which the metric is no better than the baseline predictor's (linear between two rates),
        or at which all trials diverged; infinite where it stays better.
    """

    name: str
    values: dict[float, float]
    mean_degradation: float
    clean_difference: Difference | None
    overfitting_gap: float
    breakdown_rate: float


def measure_robustness(comparison: Comparison) -> list[Robustness]:
    """Return each loss over all corruption rates, the least degraded first; nothing where there is one rate only."""
    rates = [level.corruption_rate for level in comparison.levels]
    if len(rates) < 2:
        return []
    rows: dict[str, dict[float, Row]] = {}
    for level in comparison.levels:
        for row in level.rows:
            rows.setdefault(row.name, {})[level.corruption_rate] = row
    measured = []
    for name, by_rate in rows.items():
        clean, worst = by_rate.get(0.0), by_rate.get(rates[-1])
        measured.append(
            Robustness(
                name=name,
                values={rate: row.summary.last.value for rate, row in by_rate.items() if row.summary.last},
                mean_degradation=_average_degradation(by_rate, rates),
                clean_difference=clean.vs_baseline if clean else None,
                overfitting_gap=worst.summary.overfitting_gap if worst else np.nan,
                breakdown_rate=_find_breakdown_rate(by_rate, comparison.baseline_predictor),
            )
        )
    return sorted(measured, key=lambda r: (np.nan_to_num(r.mean_degradation, nan=np.inf), r.name))


def _average_degradation(rows: dict[float, Row], rates: list[float]) -> float:
    """Return the degradation, paired by seed, as a mean height over the rates (trapezoids)."""
    if 0.0 not in rows or any(rate not in rows or rows[rate].summary.n_diverged for rate in rates):
        return np.nan
    clean = rows[0.0].summary
    heights = []
    for rate in rates:
        lost = measure_degradation(rows[rate].summary.values, clean.values, clean.higher_is_better, clean.perfect)
        heights.append(lost.value if lost else np.nan)
    return area_under_curve(np.array(rates), np.array(heights))


def _find_breakdown_rate(rows: dict[float, Row], baseline_predictor: float) -> float:
    """Return the first rate at which the loss is no better than the baseline predictor; infinite if it stays better."""
    sign = 1 if next(iter(rows.values())).summary.higher_is_better else -1
    # 1. the lead over the baseline predictor by rate; minus infinity where nothing but divergence is on record
    lead = {}
    for rate, row in rows.items():
        if row.summary.last:
            lead[rate] = sign * (row.summary.last.value - baseline_predictor)
        elif row.summary.n_diverged and not row.summary.trials:
            lead[rate] = -np.inf - sign * baseline_predictor  # NaN without a baseline predictor
    # 2. the first rate without a lead
    rates = sorted(lead)
    at = next((i for i, rate in enumerate(rates) if lead[rate] <= 0), None)
    if at is None:
        return np.inf if np.isfinite(baseline_predictor) else np.nan
    # 3. linear between the last rate with a lead and that one
    if at == 0 or not np.isfinite(lead[rates[at]]):
        return rates[at]
    low, high = rates[at - 1], rates[at]
    share = lead[low] / (lead[low] - lead[high])  # of the way between the two rates
    return float(low + share * (high - low))
