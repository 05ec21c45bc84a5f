"""Losses over several data sets and rates: mean ranks, and how often each is about as fast as the fastest."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lossbench.analysis.comparison import Comparison, Level, Row
from lossbench.analysis.verdicts import holm
from lossbench.types import Array

FACTORS = (1.0, 1.5, 2.0, 4.0)
"""By how much slower than the fastest a loss may be, in a profile's columns."""


@dataclass(frozen=True)
class Ranking:
    """Losses over the data sets that were compared alike, the best first.

    ranks: mean ranks over the data sets; a loss that diverged is last.
    friedman: p of the hypothesis that all losses are equal; NaN for fewer than three.
    shown: pairs of which the first is better over data sets, with Holm's p.
    least: the least p of a pair that so many data sets and losses can give.
    left_out: losses that some of the data sets lack.
    """

    task: str
    metric: str
    corruption: str
    corruption_rate: float
    data: tuple[str, ...]
    names: tuple[str, ...]
    ranks: tuple[float, ...]
    friedman: float
    shown: tuple[tuple[str, str, float], ...]
    least: float
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """On what share of the subjects (data sets, corruptions, rates) a loss needs at most so many times the least steps.

    shares: by loss, of `FACTORS`. left_out: losses that some of the subjects lack.

    Reference: Dolan, Moré, Benchmarking Optimization Software with Performance Profiles, 2002,
    https://arxiv.org/abs/cs/0102001
    """

    task: str
    metric: str
    n_subjects: int
    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    left_out: tuple[str, ...]


def rank_losses(comparisons: Sequence[Comparison], alpha: float = 0.05) -> list[Ranking]:
    """One for each task, metric, corruption and rate that several data sets have; seeds are no data sets."""
    groups: dict[Any, dict[str, Level]] = defaultdict(dict)
    for one in comparisons:
        shared = tuple((k, v) for k, v in one.settings.items() if k != "data")
        for level in one.levels:
            groups[shared, one.corruption, level.corruption_rate][str(one.settings.get("data"))] = level
    found = (_ranking(key, levels, alpha) for key, levels in groups.items() if len(levels) > 1)
    return [one for one in found if one]


def compute_profiles(comparisons: Sequence[Comparison]) -> list[Profile]:
    """One for each task and metric with several subjects on which some loss arrives at the target."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for one in comparisons:
        for level in one.levels:
            steps = {row.name: row.steps.median for row in level.rows if row.steps}
            if len(steps) > 1 and np.isfinite(min(steps.values())):
                groups[str(one.settings.get("task")), one.first.metric].append(steps)
    found = (_profile(*key, subjects) for key, subjects in groups.items() if len(subjects) > 1)
    return [one for one in found if one]


def _profile(task: str, metric: str, subjects: Sequence[Mapping[str, float]]) -> Profile | None:
    names, left_out = _common(subjects)
    if len(names) < 2:
        return None
    steps = np.array([[subject[name] for name in names] for subject in subjects])
    ratio = steps / np.maximum(steps.min(axis=1, keepdims=True), 1)  # at step 0 already: counted as step 1
    ratio = np.maximum(ratio, 1)
    shares = np.stack([(ratio <= factor).mean(axis=0) for factor in FACTORS], axis=1)
    order = sorted(range(len(names)), key=lambda i: (*(-shares[i]), names[i]))
    rows = tuple(tuple(map(float, shares[i])) for i in order)
    return Profile(task, metric, len(subjects), tuple(names[i] for i in order), rows, left_out)


def _ranking(key: Any, levels: Mapping[str, Level], alpha: float) -> Ranking | None:
    from scipy.stats import rankdata  # takes a second to import, and several data sets are rare

    settings, corruption, rate = key
    rows = [{row.name: row for row in level.rows} for level in levels.values()]
    names, left_out = _common(rows)
    if len(names) < 2:
        return None
    harm = np.array(
        [[_harm(own[name], level) for name in names] for own, level in zip(rows, levels.values(), strict=True)]
    )
    ranks = rankdata(harm, axis=1).mean(axis=0)
    order = sorted(range(len(names)), key=lambda i: (ranks[i], names[i]))
    pairs = [*combinations(order, 2)]
    adjusted = holm(np.array([_wilcoxon(harm[:, i], harm[:, j]) for i, j in pairs]))
    told = dict(settings)
    return Ranking(
        task=str(told.get("task")),
        metric=str(told.get("metric")),
        corruption=corruption,
        corruption_rate=rate,
        data=tuple(levels),
        names=tuple(names[i] for i in order),
        ranks=tuple(float(ranks[i]) for i in order),
        friedman=_friedman(harm),
        shown=tuple(_shown(pairs, adjusted, harm, names, alpha)),
        least=min(1.0, 2.0 ** (1 - len(levels)) * len(pairs)),
        left_out=left_out,
    )


def _common(subjects: Sequence[Mapping[str, Any]]) -> tuple[list[str], tuple[str, ...]]:
    """Names that all subjects have, and those that some lack."""
    every = {name for subject in subjects for name in subject}
    names = sorted(set.intersection(*(set(subject) for subject in subjects)))
    return names, tuple(sorted(every - {*names}))


def _harm(row: Row, level: Level) -> float:
    """Infinite for a loss that diverged, or has no result."""
    last = row.summary.last
    return np.inf if row.summary.n_diverged or not last else float(level.scale.of_values(np.array(last.value)))


def _friedman(harm: Array) -> float:
    """NaN for fewer than three losses, or where all tie."""
    from scipy.stats import friedmanchisquare, rankdata

    if harm.shape[1] < 3 or (np.ptp(rankdata(harm, axis=1), axis=1) == 0).all():
        return np.nan
    return float(friedmanchisquare(*harm.T).pvalue)


def _wilcoxon(one: Array, other: Array) -> float:
    """P of the signed-rank test over data sets; 1 where there is no difference in any."""
    with np.errstate(invalid="ignore"):
        difference = np.where(one == other, 0.0, one - other)
    if not difference.any():
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(difference).pvalue)


def _shown(
    pairs: Sequence[tuple[int, int]], p: Array, harm: Array, names: Sequence[str], alpha: float
) -> Iterator[tuple[str, str, float]]:
    for (i, j), value in zip(pairs, p, strict=True):
        if value < alpha:
            first, second = (i, j) if np.median(harm[:, i] - harm[:, j]) < 0 else (j, i)
            yield names[first], names[second], float(value)
