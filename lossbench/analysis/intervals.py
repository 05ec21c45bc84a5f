"""How far a metric can be trusted: intervals that hold for new test rows, and not only for new seeds.

Scores as tables of seeds by test rows, over the rows that all trials have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lossbench.types import Array


@dataclass(frozen=True)
class Estimate:
    """A metric's mean over seeds, with its interval (NaN where nothing can be said)."""

    value: float
    low: float
    high: float
    n_seeds: int
    n_examples: int  # or groups of them; 0 where they are no sample
    seed_share: float  # of the variance: near 1, more seeds narrow the interval; near 0, only more test rows do
    grouped: bool = False

    @property
    def speaks_for(self) -> str:
        """What else the interval would hold for."""
        if not np.isfinite(self.low + self.high):
            return "nothing"
        over = ["new seeds"] if self.n_seeds > 1 else []
        rows = "new groups of test rows" if self.grouped else "new test rows"
        return " and ".join(over + ([rows] if self.n_examples else []))


def interval(
    scores: Array,
    transform: str = "mean",
    higher_is_better: bool = False,
    confidence: float = 0.95,
    perfect: float | None = None,
    groups: Array | None = None,
) -> Estimate:
    r"""The interval of one loss's metric over S seeds and m test rows, both being samples.

    .. math:: \mathrm{var} = s^2_\mathrm{seed}/S + s^2_\mathrm{example}/m

    with the variances of the row means and of the column means, and Satterthwaite's degrees of freedom; on the scale
    of the logarithm (by the delta method) for errors, raw where higher is better. With one seed only the second part
    is there, and the interval speaks for new test rows only.

    scores: ``[S, m]``, the metric's value per example; rows that are not finite (diverged) are left out.
    transform: ``mean``; ``linear``, where single scores have no sign of their own; or ``root`` where the metric is the
        square root of the mean over examples. Its value is then the mean over seeds of the root, not the root of the
        pooled mean: the number that averaging the metric over seeds gives, and that one bad seed does not rule. Scores
        are linearised about each seed's root.
    groups: ``[m]``, of the rows: those of one group are not a sample of their own, groups are.
    perfect: a perfect prediction's value, which no limit passes.

    Reference: Owen, The Pigeonhole Bootstrap, 2007, https://arxiv.org/abs/0712.1111 (its crossed design);
    Satterthwaite, An Approximate Distribution of Estimates of Variance Components, 1946,
    https://doi.org/10.2307/3002019
    """
    rows = np.asarray(scores, np.float64)
    keep = np.isfinite(rows).all(axis=1)
    rows = rows[keep]  # [S, m]
    if transform == "root":
        rows = linearised(rows)
    positive = bool(((rows.mean(axis=1) if transform == "linear" else np.asarray(scores)[keep]) >= 0).all())
    if groups is not None:
        rows = by_group(rows, groups)
    n_seeds, n_examples = rows.shape
    if not rows.size:
        return Estimate(np.nan, np.nan, np.nan, n_seeds, n_examples, np.nan)
    parts = _part(rows.mean(axis=1)), _part(rows.mean(axis=0))
    low, high = _limits(float(rows.mean()), parts, positive and not higher_is_better, confidence, perfect)
    low = max(low, 0.0) if positive else low  # the mean of what is not negative is not
    return Estimate(float(rows.mean()), low, high, n_seeds, n_examples, _share(*parts), groups is not None)


def estimate_over_seeds(
    values: Array, higher_is_better: bool = False, confidence: float = 0.95, perfect: float | None = None
) -> Estimate:
    """Student's t over seeds, for a metric without scores per example: it speaks for new seeds only.

    values: ``[S]``; those that are not finite are left out.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return Estimate(np.nan, np.nan, np.nan, 0, 0, np.nan)
    log = not higher_is_better and bool((values >= 0).all())
    low, high = _limits(float(values.mean()), (_part(values),), log, confidence, perfect)
    return Estimate(float(values.mean()), low, high, values.size, 0, 1.0)


def by_group(rows: Array, groups: Array) -> Array:
    r"""``[S, m]`` as ``[S, G]``, a column for each of G groups, with the same row means; they vary as the means do.

    With :math:`\bar x` the mean of a row, a group's number is :math:`\bar x + G/m \sum_{i \in g} (x_i - \bar x)`:
    large groups weigh more.
    """
    codes, n_groups = np.unique(groups, return_inverse=True)[1], len(np.unique(groups))
    means = rows.mean(axis=1, keepdims=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n_groups))
    sums = np.add.reduceat((rows - means)[:, order], starts, axis=1)
    grouped: Array = means + sums * n_groups / rows.shape[1]
    return grouped


def linearised(rows: Array) -> Array:
    """Scores whose row means are the roots of the given ones': sqrt(M) + (x - M) / (2 sqrt(M))."""
    means = rows.mean(axis=1, keepdims=True)
    roots = np.sqrt(means)
    lines: Array = roots + (rows - means) / np.where(roots > 0, 2 * roots, 1)
    return lines


def _part(means: Array) -> tuple[float, int]:
    """The variance of the mean of `means`, and its degrees of freedom (0: it cannot be known)."""
    if means.size < 2:
        return 0.0, 0
    return float(means.var(ddof=1)) / means.size, means.size - 1


def _share(seeds: tuple[float, int], examples: tuple[float, int]) -> float:
    total = seeds[0] + examples[0]
    return seeds[0] / total if total > 0 else np.nan


def _limits(
    value: float, parts: tuple[tuple[float, int], ...], log: bool, confidence: float, perfect: float | None
) -> tuple[float, float]:
    parts = tuple(part for part in parts if part[1])
    variance = sum(v for v, _ in parts)
    if not parts:
        return np.nan, np.nan
    if variance == 0:
        return value, value
    freedom = variance**2 / sum(v**2 / n for v, n in parts)
    # t.ppf of scipy.stats, which takes 70 times as long
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * np.sqrt(variance)
    if log and value > 0:  # d log(value) = d value / value
        return float(value * np.exp(-half / value)), float(value * np.exp(half / value))
    return _kept_within(value - half, value + half, value, perfect)


def _kept_within(low: float, high: float, value: float, perfect: float | None) -> tuple[float, float]:
    """No limit beyond `perfect`, unless the value itself is."""
    if perfect is None or not np.isfinite(perfect):
        return float(low), float(high)
    return (float(low), float(min(high, perfect))) if value <= perfect else (float(max(low, perfect)), float(high))


SCORED = ("mean", "root", "linear")
"""How scores per example can become the metric."""


class Scores(NamedTuple):
    """Of one trial's test examples, `[m]` each; groups are None where there are none."""

    examples: Array
    values: Array
    groups: Array | None = None


def crossed(parts: Sequence[Sequence[Scores]]) -> tuple[list[Array], Array | None]:
    """``[S, m]`` of each part's trials, of the examples that all trials have; and the examples' groups."""
    every = [scores for part in parts for scores in part]
    first = every[0]
    if not all(np.array_equal(scores.examples, first.examples) for scores in every):
        common = reduce(np.intersect1d, (scores.examples for scores in every))
        parts = [[_of(scores, common) for scores in part] for part in parts]
        first = parts[0][0]
    return [np.stack([scores.values for scores in part]) for part in parts], first.groups


def is_sample(table: Array, groups: Array | None) -> bool:
    """Whether the rows behind ``[S, m]`` can stand for others: several, or several groups of them, and all finite."""
    several = table.shape[1] > 1 and (groups is None or len(np.unique(groups)) > 1)
    return several and bool(np.isfinite(table).all())


def _of(scores: Scores, wanted: Array) -> Scores:
    order = np.argsort(scores.examples, kind="stable")
    at = order[np.searchsorted(scores.examples[order], wanted)]
    return Scores(wanted, scores.values[at], None if scores.groups is None else scores.groups[at])
