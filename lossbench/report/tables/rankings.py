"""Several data sets and corruption rates together: mean ranks and performance profiles, as tables and values."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from lossbench.analysis.comparison import Comparison
from lossbench.analysis.rankings import FACTORS, PerformanceProfile, Ranking, compute_profiles, rank_losses
from lossbench.report.json_values import replace_nonfinite
from lossbench.report.tables.grid import NOTHING, Column, Grid, Pointer
from lossbench.report.tables.sentences import join_names
from lossbench.report.tables.summaries import join_notes

NAMED = 6
"""The number of pairs that one footnote names."""


def render_rankings(comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    """Yield tables and their footnotes; nothing where there is one subject only."""
    alpha = 1 - comparisons[0].confidence if comparisons else 0.05
    rankings = rank_losses(comparisons, alpha)
    for task, metric in dict.fromkeys((r.task, r.metric) for r in rankings):
        alike = [r for r in rankings if (r.task, r.metric) == (task, metric)]
        n_data = len({name for r in alike for name in r.data})
        yield Text(f"{task} over {n_data} data sets: mean rank by {metric} at each corruption rate (1: best)", "bold")
        grid = Grid(_build_rank_columns(alike))
        yield grid
        yield from (Text(line) for line in explain_rankings(alike, alpha))
        yield Pointer([grid])
        yield Text("")
    for profile in compute_profiles(comparisons):
        yield from _render_profile(profile)


def convert_rankings(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the same as plain values, for programs."""
    alpha = 1 - comparisons[0].confidence if comparisons else 0.05
    values: dict[str, Any] = replace_nonfinite(
        {
            "rankings": [asdict(ranking) for ranking in rank_losses(comparisons, alpha)],
            "profiles": [{"factors": list(FACTORS), **asdict(profile)} for profile in compute_profiles(comparisons)],
        }
    )
    return values


def _build_rank_columns(rankings: Sequence[Ranking]) -> list[Column]:
    """Return a column for each corruption and rate, with rows by the mean over them."""
    several = len({r.corruption for r in rankings}) > 1
    ranks = {  # by heading, then by loss
        f"{r.corruption}\nat {r.corruption_rate:g}" if several else f"at {r.corruption_rate:g}": dict(
            zip(r.names, r.ranks, strict=True)
        )
        for r in rankings
    }
    names = list(dict.fromkeys(name for r in rankings for name in r.names))
    names.sort(key=lambda name: (np.mean([by_loss.get(name, np.inf) for by_loss in ranks.values()]), name))
    columns = [
        Column("mean rank", [f"{by_loss[name]:.2f}" if name in by_loss else NOTHING for name in names], heading)
        for heading, by_loss in ranks.items()
    ]
    return [Column("loss", names), *columns]


def explain_rankings(rankings: Sequence[Ranking], alpha: float) -> list[str]:
    """Return the footnotes of a table of mean ranks: at most four."""
    data = list(dict.fromkeys(name for r in rankings for name in r.data))
    lines = [f"Over {join_names(data, NAMED)}; seeds are not data sets: each of these counts once."]
    # 1. so few data sets that no pair can be significant
    if hopeless := [r for r in rankings if r.least_p >= alpha]:
        n, least = len(hopeless[0].data), min(r.least_p for r in hopeless)
        lines.append(
            f"{n} data sets cannot show that one loss is better than another: with so many losses the smallest p that "
            f"Wilcoxon's test with Holm's correction can give is {least:.2g}."
        )
    # 2. pairs that differ, and corruption rates at which none does
    results = []
    for ranking in rankings:
        at = f"at corruption rate {ranking.corruption_rate:g}"
        if ranking.significant_pairs:
            pairs = [f"{better} before {worse} (p {p:.2g})" for better, worse, p in ranking.significant_pairs]
            results.append(f"{at} {join_names(pairs, NAMED)}")
        elif ranking.least_p < alpha:
            friedman = f" (Friedman's p {ranking.friedman_p:.2g})" if np.isfinite(ranking.friedman_p) else ""
            results.append(f"{at} no pair{friedman}")
    if results:
        lines.append(join_notes("Shown to differ over data sets (Wilcoxon, Holm)", results))
    return lines + _list_left_out(sorted({name for r in rankings for name in r.incomplete}))


def _render_profile(profile: PerformanceProfile) -> Iterator[RenderableType]:
    subjects = f"{profile.n_subjects} subjects (data sets, corruptions, corruption rates)"
    yield Text(f"{profile.task}: share of {subjects} at the target within so many times the fewest steps", "bold")
    columns = [
        Column("performance profile", [f"{100 * shares[i]:.0f}%" for shares in profile.shares], f"within\n{factor:g}x")
        for i, factor in enumerate(FACTORS)
    ]
    grid = Grid([Column("loss", list(profile.names)), *columns])
    yield grid
    yield from (Text(line) for line in _list_left_out(profile.incomplete))
    yield Pointer([grid])
    yield Text("")


def _list_left_out(names: Sequence[str]) -> list[str]:
    return [f"Left out, as some subjects lack them: {join_names(names, NAMED)}."] if names else []
