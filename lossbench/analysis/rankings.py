"""Rankings over several data sets: mean ranks of losses, and performance profiles of their steps to the target."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lossbench.analysis.comparison import Comparison, RateComparison
from lossbench.analysis.verdicts import adjust_p_values
from lossbench.types import Array

FACTORS = (1.0, 1.5, 2.0, 4.0)
"""The columns of a performance profile: multiples of the least number of steps."""


@dataclass(frozen=True)
class Ranking:
    """The losses of data sets that were compared alike, the best first.

    ranks: mean ranks over the data sets; a loss that diverged is last.
    friedman_p: Friedman's p of the hypothesis that all losses are equal; NaN for fewer than three.
    significant_pairs: pairs of which the first is better over data sets, with Holm's p.
    least_p: the least p that a pair can have with so many data sets and losses.
    incomplete: the losses that some of the data sets lack; they are not ranked.
    """

    task: str
    metric: str
    corruption: str
    corruption_rate: float
    data: tuple[str, ...]
    names: tuple[str, ...]
    ranks: tuple[float, ...]
    friedman_p: float
    significant_pairs: tuple[tuple[str, str, float], ...]
    least_p: float
    incomplete: tuple[str, ...]


@dataclass(frozen=True)
class PerformanceProfile:
    """A performance profile: the share of subjects on which a loss needs at most a multiple of the least steps.

    A subject is a data set with a corruption and a corruption rate.

    shares: by loss, at each of `FACTORS`. incomplete: the losses that some of the subjects lack.

    Reference: Dolan, Moré, Benchmarking Optimization Software with Performance Profiles, 2002,
    https://arxiv.org/abs/cs/0102001
    """

    task: str
    metric: str
    n_subjects: int
    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    incomplete: tuple[str, ...]


def rank_losses(comparisons: Sequence[Comparison], alpha: float = 0.05) -> list[Ranking]:
    """Rank the losses for each task, metric, corruption and rate of several data sets; seeds are no data sets."""
    groups: dict[Any, dict[str, RateComparison]] = defaultdict(dict)
    for comparison in comparisons:
        shared = tuple((name, value) for name, value in comparison.settings.items() if name != "data")
        for level in comparison.levels:
            by_data = groups[shared, comparison.corruption, level.corruption_rate]
            by_data[str(comparison.settings.get("data"))] = level
    rankings = (_rank_group(key, levels, alpha) for key, levels in groups.items() if len(levels) > 1)
    return [ranking for ranking in rankings if ranking]


def _rank_group(key: Any, levels: Mapping[str, RateComparison], alpha: float) -> Ranking | None:
    from scipy.stats import rankdata  # takes a second to import, and several data sets are rare

    shared, corruption, rate = key
    settings = dict(shared)
    rows = [{row.name: row for row in level.rows} for level in levels.values()]
    names, incomplete = _split_common_names(rows)
    if len(names) < 2:
        return None
    # 1. harm per data set and loss, infinite for a loss that diverged or has no result
    harm = np.full((len(rows), len(names)), np.inf)  # [D, L]
    for place, (by_name, level) in enumerate(zip(rows, levels.values(), strict=True)):
        for column, name in enumerate(names):
            summary = by_name[name].summary
            if summary.last and not summary.n_diverged:
                harm[place, column] = level.scale.compute_harm(np.array(summary.last.value))
    # 2. mean ranks, and Friedman's test of their equality
    ranks = rankdata(harm, axis=1)  # [D, L]
    means = ranks.mean(axis=0)
    order = sorted(range(len(names)), key=lambda i: (means[i], names[i]))
    # 3. Wilcoxon's signed-rank test of each pair over data sets, corrected by Holm
    pairs = [*combinations(order, 2)]
    adjusted = adjust_p_values(np.array([_run_wilcoxon_test(harm[:, i], harm[:, j]) for i, j in pairs]))
    significant = []
    for (i, j), p in zip(pairs, adjusted, strict=True):
        if p < alpha:
            better, worse = (i, j) if np.median(harm[:, i] - harm[:, j]) < 0 else (j, i)
            significant.append((names[better], names[worse], float(p)))
    return Ranking(
        task=str(settings.get("task")),
        metric=str(settings.get("metric")),
        corruption=corruption,
        corruption_rate=rate,
        data=tuple(levels),
        names=tuple(names[i] for i in order),
        ranks=tuple(float(means[i]) for i in order),
        friedman_p=_run_friedman_test(harm, ranks),
        significant_pairs=tuple(significant),
        least_p=min(1.0, 2.0 ** (1 - len(levels)) * len(pairs)),  # 2 / 2^D for a pair, times Holm's first factor
        incomplete=incomplete,
    )


def _split_common_names(subjects: Sequence[Mapping[str, Any]]) -> tuple[list[str], tuple[str, ...]]:
    """Return the names that all subjects have, and those that some lack."""
    every = {name for subject in subjects for name in subject}
    names = sorted(set.intersection(*(set(subject) for subject in subjects)))
    return names, tuple(sorted(every - {*names}))


def _run_friedman_test(harm: Array, ranks: Array) -> float:
    """Return Friedman's p; NaN for fewer than three losses, or where all tie."""
    from scipy.stats import friedmanchisquare

    if harm.shape[1] < 3 or (np.ptp(ranks, axis=1) == 0).all():
        return np.nan
    return float(friedmanchisquare(*harm.T).pvalue)


def _run_wilcoxon_test(first: Array, second: Array) -> float:
    """Return Wilcoxon's p over data sets; 1 where there is no difference in any."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is no difference
        difference = np.where(first == second, 0.0, first - second)
    if not difference.any():
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(difference).pvalue)


def compute_profiles(comparisons: Sequence[Comparison]) -> list[PerformanceProfile]:
    """Compute a profile for each task and metric with several subjects on which some loss arrives at the target."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for comparison in comparisons:
        for level in comparison.levels:
            steps = {row.name: row.steps.median for row in level.rows if row.steps}
            if len(steps) > 1 and np.isfinite(min(steps.values())):
                groups[str(comparison.settings.get("task")), comparison.first.metric].append(steps)
    profiles = []
    for (task, metric), subjects in groups.items():
        names, incomplete = _split_common_names(subjects)
        if len(subjects) < 2 or len(names) < 2:
            continue
        counts = np.array([[subject[name] for name in names] for subject in subjects])  # [N, L]
        # a target that is reached at step 0 counts as reached at step 1
        least = np.maximum(counts.min(axis=1, keepdims=True), 1)  # infinite where no common loss arrives
        ratios = np.where(np.isfinite(counts), np.maximum(counts / least, 1), np.inf)
        shares = np.stack([(ratios <= factor).mean(axis=0) for factor in FACTORS], axis=1)  # [L, F]
        order = sorted(range(len(names)), key=lambda i: (*(-shares[i]), names[i]))
        rows = tuple(tuple(map(float, shares[i])) for i in order)
        profiles.append(
            PerformanceProfile(task, metric, len(subjects), tuple(names[i] for i in order), rows, incomplete)
        )
    return profiles
