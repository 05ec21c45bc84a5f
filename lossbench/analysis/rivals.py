"""The losses that may be compared at one corruption rate, as arrays that can be subtracted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from lossbench.analysis.differences import SAME, Differences, differences
from lossbench.analysis.scale import Scale
from lossbench.analysis.summary import Evidence, Summary
from lossbench.types import Array


@dataclass(frozen=True)
class Rivals:
    """Losses with finished trials.

    seeds: per loss, those of its finished trials. harm: per loss ``[S, m]``; m is 1 where test rows are no sample.
    crossed: whether they are.
    same: ``[L, L]``, pairs whose trainings went through the same numbers.
    """

    names: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...]
    harm: tuple[Array, ...]
    crossed: bool
    found: Differences
    same: Array

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
    scores = _scores(kept, evidence)
    crossed = bool(scores)
    if crossed:
        harm = tuple(scale.of_scores(own, s.transform) for own, s in zip(scores, kept, strict=True))
    else:
        harm = tuple(scale.of_values(np.array([*s.values.values()]))[:, None] for s in kept)
    found = differences(harm, seeds, crossed)
    return Rivals(tuple(name for name, _ in pairs), seeds, harm, crossed, found, _same(kept, found, evidence))


def _scores(summaries: Sequence[Summary], evidence: Evidence) -> list[Array]:
    """Per loss ``[S, m]``, of the test rows that all trials have; nothing where they cannot be a sample."""
    keys = [[(trial, "last") for trial in s.trials] for s in summaries]
    if not all(s.transform in ("mean", "root") for s in summaries):
        return []
    if not all(key in evidence.scores for own in keys for key in own):
        return []
    first = evidence.scores[keys[0][0]][0]
    if all(np.array_equal(evidence.scores[key][0], first) for own in keys for key in own):
        tables = [np.stack([evidence.scores[key][1] for key in own]) for own in keys]
    else:
        common = reduce(np.intersect1d, (evidence.scores[key][0] for own in keys for key in own))
        tables = [np.stack([_of_rows(*evidence.scores[key], common) for key in own]) for own in keys]
    usable = tables[0].shape[1] > 1 and all(np.isfinite(table).all() for table in tables)
    return tables if usable else []


def _of_rows(examples: Array, scores: Array, wanted: Array) -> Array:
    order = np.argsort(examples, kind="stable")
    picked: Array = scores[order[np.searchsorted(examples[order], wanted)]]
    return picked


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
