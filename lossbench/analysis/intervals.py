"""Confidence intervals of a metric that hold for new test examples, and not only for new seeds.

Scores are tables ``[S, m]`` of S seeds by m test examples, over the examples that all trials have.
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
    seed_share: float  # of the variance: near 1 more seeds narrow the interval, near 0 only more test examples do
    grouped: bool = False


def estimate_interval(
    scores: Array,
    transform: str = "mean",
    higher_is_better: bool = False,
    confidence: float = 0.95,
    perfect: float | None = None,
    groups: Array | None = None,
) -> Estimate:
    r"""Estimate one loss's metric with its interval, S seeds and m test examples both being samples.

    .. math:: \mathrm{var} = s^2_\mathrm{seed}/S + s^2_\mathrm{example}/m

    with the variances of the seeds' means and of the examples' means, and Satterthwaite's degrees of freedom. For
    errors the limits are taken on the scale of the logarithm (by the delta method), raw where higher is better. A
    single seed leaves the second part only: the interval then holds for new test examples, not for new seeds.

    scores: ``[S, m]``, the metric's value per example; seeds that are not finite (diverged) are left out.
    transform: ``mean``; ``linear``, where single scores have no sign of their own; or ``root`` where the metric is the
        square root of the mean over examples. Its value is then the mean over seeds of the root, not the root of the
        pooled mean: the number that averaging the metric over seeds gives, and that one bad seed does not rule. Scores
        are linearised about each seed's root.
    groups: ``[m]``, the examples' groups: the groups are the sample then, and not the examples.
    perfect: a perfect prediction's value, which no limit passes.

    Reference: Owen, The Pigeonhole Bootstrap, 2007, https://arxiv.org/abs/0712.1111 (its crossed design);
    Satterthwaite, An Approximate Distribution of Estimates of Variance Components, 1946,
    https://doi.org/10.2307/3002019
    """
    raw = np.asarray(scores, np.float64)
    raw = raw[np.isfinite(raw).all(axis=1)]  # [S, m]
    # 1. scores whose mean over the examples is the metric of each seed
    table = linearise_root(raw) if transform == "root" else raw
    positive = bool(((table.mean(axis=1) if transform == "linear" else raw) >= 0).all())
    # 2. examples of one group vary together: groups take their place
    if groups is not None:
        table = sum_by_group(table, groups)  # [S, G]
    n_seeds, n_examples = table.shape
    if not table.size:
        return Estimate(np.nan, np.nan, np.nan, n_seeds, n_examples, np.nan)
    # 3. the two parts of the variance of the grand mean, each with its degrees of freedom
    value = float(table.mean())
    seed_part, example_part = _compute_variance(table.mean(axis=1)), _compute_variance(table.mean(axis=0))
    # 4. Student's t on the scale of the logarithm for errors, raw for scores
    low, high = _compute_limits(
        value, (seed_part, example_part), positive and not higher_is_better, confidence, perfect
    )
    low = max(low, 0.0) if positive else low  # a mean of numbers that are not negative is not negative
    total = seed_part[0] + example_part[0]
    seed_share = seed_part[0] / total if total > 0 else np.nan
    return Estimate(value, low, high, n_seeds, n_examples, seed_share, groups is not None)


def estimate_over_seeds(
    values: Array, higher_is_better: bool = False, confidence: float = 0.95, perfect: float | None = None
) -> Estimate:
    """Estimate a metric without scores per example by Student's t over seeds: the interval holds for new seeds only.

    values: ``[S]``; those that are not finite are left out.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return Estimate(np.nan, np.nan, np.nan, 0, 0, np.nan)
    log = not higher_is_better and bool((values >= 0).all())
    low, high = _compute_limits(float(values.mean()), (_compute_variance(values),), log, confidence, perfect)
    return Estimate(float(values.mean()), low, high, values.size, 0, 1.0)


def sum_by_group(table: Array, groups: Array) -> Array:
    r"""Reduce ``[S, m]`` to ``[S, G]``, a column for each of G groups, with the same means and the means' variance.

    With :math:`\bar x` the mean of a seed, a group's number is :math:`\bar x + G/m \sum_{i \in g} (x_i - \bar x)`:
    large groups weigh more.
    """
    names, codes = np.unique(groups, return_inverse=True)
    means = table.mean(axis=1, keepdims=True)  # [S, 1]
    order = np.argsort(codes, kind="stable")  # the examples of a group side by side
    starts = np.searchsorted(codes[order], np.arange(len(names)))
    sums = np.add.reduceat((table - means)[:, order], starts, axis=1)  # [S, G]
    grouped: Array = means + sums * len(names) / table.shape[1]
    return grouped


def linearise_root(scores: Array) -> Array:
    """Return scores whose mean over the examples is the root of the given scores' mean M: √M + (x - M) / (2 √M)."""
    means = scores.mean(axis=1, keepdims=True)  # [S, 1]
    roots = np.sqrt(means)
    lines: Array = roots + (scores - means) / np.where(roots > 0, 2 * roots, 1)
    return lines


def _compute_variance(means: Array) -> tuple[float, int]:
    """Return the variance of the mean of `means`, and its degrees of freedom (0: it cannot be known)."""
    if means.size < 2:
        return 0.0, 0
    return float(means.var(ddof=1)) / means.size, means.size - 1


def _compute_limits(
    value: float, parts: tuple[tuple[float, int], ...], log: bool, confidence: float, perfect: float | None
) -> tuple[float, float]:
    """Return the limits of a t interval from parts of a variance with their degrees of freedom."""
    parts = tuple(part for part in parts if part[1])
    if not parts:
        return np.nan, np.nan
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return value, value
    freedom = variance**2 / sum(v**2 / n for v, n in parts)  # Satterthwaite
    # scipy.stats' t.ppf takes 70 times as long
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * np.sqrt(variance)
    if log and value > 0:  # d log(value) = d value / value
        return float(value * np.exp(-half / value)), float(value * np.exp(half / value))
    low, high = float(value - half), float(value + half)
    if perfect is None or not np.isfinite(perfect):
        return low, high
    # no limit lies beyond a perfect value, unless the value itself does
    return (low, min(high, perfect)) if value <= perfect else (max(low, perfect), high)


EXAMPLE_TRANSFORMS = ("mean", "root", "linear")
"""Transforms of a metric that scores single examples: the metric is their mean, its root, or linear in them."""


class Scores(NamedTuple):
    """The scores of one trial's test examples, ``[m]`` each; groups are None where there are none."""

    examples: Array
    values: Array
    groups: Array | None = None


def align_scores(parts: Sequence[Sequence[Scores]]) -> tuple[list[Array], Array | None]:
    """Return ``[S, m]`` of each part's trials over the examples that all trials have, and the examples' groups."""
    trials = [scores for part in parts for scores in part]
    if not all(np.array_equal(scores.examples, trials[0].examples) for scores in trials):
        common = reduce(np.intersect1d, (scores.examples for scores in trials))
        parts = [[_pick_examples(scores, common) for scores in part] for part in parts]
    return [np.stack([scores.values for scores in part]) for part in parts], parts[0][0].groups


def _pick_examples(scores: Scores, examples: Array) -> Scores:
    order = np.argsort(scores.examples, kind="stable")
    at = order[np.searchsorted(scores.examples[order], examples)]
    return Scores(examples, scores.values[at], None if scores.groups is None else scores.groups[at])


def is_sample(table: Array, groups: Array | None) -> bool:
    """Return whether the examples behind ``[S, m]`` can stand for others: several (groups of them), and all finite."""
    several = table.shape[1] > 1 and (groups is None or len(np.unique(groups)) > 1)
    return several and bool(np.isfinite(table).all())
