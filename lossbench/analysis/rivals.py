"""Rivals: the losses that are compared at one corruption rate, their harm as arrays, and their differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.differences import ROUNDING, DifferenceMatrix, compute_differences
from lossbench.analysis.intervals import EXAMPLE_TRANSFORMS, align_scores, is_sample, sum_by_group
from lossbench.analysis.scale import Scale
from lossbench.analysis.summary import Measurements, Summary
from lossbench.types import Array


@dataclass(frozen=True)
class Sample:
    """The numbers of test examples behind differences and of groups of them; 0 where they are no sample."""

    n_examples: int = 0
    n_groups: int = 0


@dataclass(frozen=True)
class Rivals:
    """L losses with finished trials, and the differences of all pairs.

    seeds: the seeds of the finished trials, per loss.
    harm: ``[S, m]`` per loss, of m test examples or groups of them; m is 1 where these are no sample.
    identical: ``[L, L]``, pairs whose trainings went through the same numbers.
    """

    names: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...]
    harm: tuple[Array, ...]
    sample: Sample
    differences: DifferenceMatrix
    identical: Array

    @property
    def crossed(self) -> bool:
        """True where test examples are a sample of their own beside the seeds."""
        return self.sample.n_examples > 0

    def find_identical_groups(self) -> tuple[tuple[str, ...], ...]:
        """Return groups of names whose trainings went through the same numbers."""
        alike = self.identical | np.eye(len(self.names), dtype=bool)
        groups = {tuple(self.names[j] for j in np.flatnonzero(row)): None for row in alike if row.sum() > 1}
        return tuple(groups)


def collect_rivals(
    names: Sequence[str], summaries: Sequence[Summary], scale: Scale, measurements: Measurements
) -> Rivals:
    """Collect those of `summaries`, called `names`, that have finished trials, with their differences."""
    pairs = [(name, summary) for name, summary in zip(names, summaries, strict=True) if summary.trials]
    kept = [summary for _, summary in pairs]
    seeds = tuple(tuple(summary.values) for summary in kept)
    harm, sample = _compute_harm(kept, scale, measurements)
    differences = compute_differences(harm, seeds, sample.n_examples > 0)
    # pairs without a difference at the end are identical only if they had none on the way either
    identical: Array = differences.is_identical & ~np.eye(len(kept), dtype=bool)
    for i, j in np.argwhere(np.triu(identical)):
        identical[i, j] = identical[j, i] = _have_same_curves(kept[i], kept[j], measurements)
    return Rivals(tuple(name for name, _ in pairs), seeds, harm, sample, differences, identical)


def _compute_harm(
    summaries: Sequence[Summary], scale: Scale, measurements: Measurements
) -> tuple[tuple[Array, ...], Sample]:
    """Return ``[S, m]`` per loss over the examples that all trials have; ``[S, 1]`` where these are no sample."""
    keys = [[(trial, "last") for trial in summary.trials] for summary in summaries]
    is_scored = all(s.transform in EXAMPLE_TRANSFORMS for s in summaries)
    is_scored = is_scored and all(key in measurements.scores for trials in keys for key in trials)
    if is_scored and keys:
        tables, groups = align_scores([[measurements.scores[key] for key in trials] for trials in keys])
        if all(is_sample(table, groups) for table in tables):
            harm = [scale.compute_harm_per_example(t, s.transform) for t, s in zip(tables, summaries, strict=True)]
            if groups is None:
                return tuple(harm), Sample(tables[0].shape[1])
            grouped = tuple(sum_by_group(table, groups) for table in harm)  # [S, G]
            return grouped, Sample(tables[0].shape[1], len(np.unique(groups)))
    return tuple(scale.compute_harm(np.array([*s.values.values()]))[:, None] for s in summaries), Sample()


def _have_same_curves(first: Summary, second: Summary, measurements: Measurements) -> bool:
    """Return whether the test curves of two losses agree at every evaluation, on all seeds that both have."""
    mine, theirs = (dict(zip(summary.values, summary.trials, strict=True)) for summary in (first, second))
    for seed in mine.keys() & theirs.keys():
        one, other = measurements.curves.get(mine[seed]), measurements.curves.get(theirs[seed])
        if one is None or other is None or len(one[1]) != len(other[1]):
            return False
        if not np.allclose(one[1], other[1], rtol=ROUNDING, atol=ROUNDING**2, equal_nan=True):
            return False
    return True
