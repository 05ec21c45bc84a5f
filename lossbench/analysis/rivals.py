"""The losses that may be compared at one corruption rate, as arrays that can be subtracted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.differences import SAME, Differences, differences
from lossbench.analysis.intervals import SCORED, by_group, crossed, is_sample
from lossbench.analysis.scale import Scale
from lossbench.analysis.summary import Evidence, Summary
from lossbench.types import Array


@dataclass(frozen=True)
class Sample:
    """How many test rows the differences are taken over, and how many groups of them; 0 where they are no sample."""

    n_rows: int = 0
    n_groups: int = 0


@dataclass(frozen=True)
class Rivals:
    """Losses with finished trials.

    seeds: per loss, those of its finished trials.
    harm: per loss ``[S, m]``, of test rows, or of groups of them where they have groups; m is 1 where they are no
        sample.
    same: ``[L, L]``, pairs whose trainings went through the same numbers.
    """

    names: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...]
    harm: tuple[Array, ...]
    sample: Sample
    found: Differences
    same: Array

    @property
    def crossed(self) -> bool:
        """Whether test rows are a sample of their own."""
        return self.sample.n_rows > 0

    def identical(self) -> tuple[tuple[str, ...], ...]:
        """Groups of names whose trainings went through the same numbers."""
        alike = self.same | np.eye(len(self.names), dtype=bool)
        groups = {tuple(self.names[j] for j in np.flatnonzero(row)): None for row in alike if row.sum() > 1}
        return tuple(groups)


def rivals(names: Sequence[str], summaries: Sequence[Summary], scale: Scale, evidence: Evidence) -> Rivals:
    """Those of `summaries`, called `names`, that have finished trials."""
    pairs = [(name, summary) for name, summary in zip(names, summaries, strict=True) if summary.trials]
    kept = [summary for _, summary in pairs]
    seeds = tuple(tuple(s.values) for s in kept)
    harm, sample = _harm(kept, scale, evidence)
    found = differences(harm, seeds, sample.n_rows > 0)
    return Rivals(tuple(name for name, _ in pairs), seeds, harm, sample, found, _same(kept, found, evidence))


def _harm(summaries: Sequence[Summary], scale: Scale, evidence: Evidence) -> tuple[tuple[Array, ...], Sample]:
    """Per loss ``[S, m]``, of what all trials have and can be a sample; else ``[S, 1]``."""
    keys = [[(trial, "last") for trial in s.trials] for s in summaries]
    scored = all(s.transform in SCORED for s in summaries) and all(k in evidence.scores for own in keys for k in own)
    tables, groups = crossed([[evidence.scores[key] for key in own] for own in keys]) if scored and keys else ([], None)
    if not tables or not all(is_sample(table, groups) for table in tables):
        return tuple(scale.of_values(np.array([*s.values.values()]))[:, None] for s in summaries), Sample()
    harm = [scale.of_scores(own, s.transform) for own, s in zip(tables, summaries, strict=True)]
    n_groups = 0 if groups is None else len(np.unique(groups))
    harm = harm if groups is None else [by_group(own, groups) for own in harm]
    return tuple(harm), Sample(tables[0].shape[1], n_groups)


def _same(summaries: Sequence[Summary], found: Differences, evidence: Evidence) -> Array:
    """Those of the pairs without a difference at the end that had none on the way either."""
    same: Array = found.same & ~np.eye(len(summaries), dtype=bool)
    for i, j in np.argwhere(np.triu(same)):
        same[i, j] = same[j, i] = _went_alike(summaries[i], summaries[j], evidence)
    return same


def _went_alike(one: Summary, other: Summary, evidence: Evidence) -> bool:
    mine, theirs = (dict(zip(s.values, s.trials, strict=True)) for s in (one, other))
    pairs = [(mine[seed], theirs[seed]) for seed in mine.keys() & theirs.keys()]
    curves = [(evidence.curves.get(a), evidence.curves.get(b)) for a, b in pairs]
    return all(
        a is not None
        and b is not None
        and len(a[1]) == len(b[1])
        and np.allclose(a[1], b[1], rtol=SAME, atol=SAME**2, equal_nan=True)
        for a, b in curves
    )
