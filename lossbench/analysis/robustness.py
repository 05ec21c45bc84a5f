"""What corruption does to a loss, over the rates on record."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.comparison import Comparison, Row
from lossbench.analysis.paired import Difference
from lossbench.analysis.summary import area, degradation


@dataclass(frozen=True)
class Robustness:
    """One loss over all rates; rates at which all its trials diverged, or none is on record, are missing.

    values: the metric at the last epoch, by rate.
    area: the mean over the rates of what is lost against rate 0, in percent of an error or in points; NaN where a rate
        is missing, or some trial diverged.
    clean: the difference from the baseline at rate 0: the price of robustness.
    gap: last against best epoch at the highest rate, in the metric's unit; positive: training on memorised.
    falls_at: the rate at which the metric is no better than the baseline predictor's, between two rates by a straight
        line, or at which all trials diverged; infinite where it stays better.
    """

    name: str
    values: dict[float, float]
    area: float
    clean: Difference | None
    gap: float
    falls_at: float


def measure_robustness(comparison: Comparison) -> list[Robustness]:
    """Each loss over all rates, the least degraded first; nothing of a single rate."""
    rates = [level.corruption_rate for level in comparison.levels]
    rows: dict[str, dict[float, Row]] = {}
    for level in comparison.levels:
        for row in level.rows:
            rows.setdefault(row.name, {})[level.corruption_rate] = row
    found = [_robustness(name, own, rates, comparison.baseline_predictor) for name, own in rows.items()]
    return sorted(found, key=lambda r: (np.nan_to_num(r.area, nan=np.inf), r.name)) if len(rates) > 1 else []


def _robustness(name: str, rows: Mapping[float, Row], rates: list[float], trivial: float) -> Robustness:
    values = {rate: row.summary.last.value for rate, row in rows.items() if row.summary.last}
    clean, worst = rows.get(0.0), rows.get(rates[-1])
    up = next(iter(rows.values())).summary.higher_is_better
    return Robustness(
        name=name,
        values=values,
        area=_area(rows, rates),
        clean=clean.against if clean else None,
        gap=worst.summary.gap if worst else np.nan,
        falls_at=_falls_at({**_diverged(rows, up), **values}, trivial, up),
    )


def _area(rows: Mapping[float, Row], rates: list[float]) -> float:
    """Of relative degradation, paired by seed, as a mean height over the rates."""
    if 0.0 not in rows or any(rate not in rows or rows[rate].summary.n_diverged for rate in rates):
        return np.nan
    clean = rows[0.0].summary
    losses = [degradation(rows[r].summary.values, clean.values, clean.higher_is_better, clean.perfect) for r in rates]
    return area(np.array(rates), np.array([found.value if found else np.nan for found in losses]))


def _diverged(rows: Mapping[float, Row], higher_is_better: bool) -> dict[float, float]:
    """Rates at which nothing but divergence is on record, as bad as can be."""
    worst = -np.inf if higher_is_better else np.inf
    return {rate: worst for rate, row in rows.items() if not row.summary.trials and row.summary.n_diverged}


def _falls_at(values: Mapping[float, float], trivial: float, higher_is_better: bool) -> float:
    rates = sorted(values)
    ahead = np.array([(values[r] - trivial) * (1 if higher_is_better else -1) for r in rates])
    below = np.flatnonzero(ahead <= 0)
    if not len(below):
        return np.inf if np.isfinite(trivial) else np.nan
    last = int(below[0])
    if last == 0 or not np.isfinite(ahead[last]):
        return rates[last]
    share = ahead[last - 1] / (ahead[last - 1] - ahead[last])
    return float(rates[last - 1] + share * (rates[last] - rates[last - 1]))
