"""What several data sets and rates say together: mean ranks and performance profiles, as tables and as plain values."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from lossbench.analysis.across import FACTORS, Profile, Ranking, compute_profiles, rank_losses
from lossbench.analysis.comparison import Comparison
from lossbench.report.json_values import replace_nonfinite
from lossbench.report.tables.grid import Grid
from lossbench.report.tables.sentences import join_names

NAMED = 6
"""How many pairs one line names."""


def render_rankings(comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    """Yield tables and what they mean; nothing where there is one subject only."""
    alpha = 1 - comparisons[0].confidence if comparisons else 0.05
    ranked = rank_losses(comparisons, alpha)
    for task, metric in dict.fromkeys((r.task, r.metric) for r in ranked):
        own = [r for r in ranked if (r.task, r.metric) == (task, metric)]
        yield Text(
            f"{task} over {len({name for r in own for name in r.data})} data sets: mean rank by {metric}", "bold"
        )
        yield Grid(_rank_columns(own))
        yield from (Text(line) for line in _ranks_explained(own, alpha))
        yield Text("")
    for profile in compute_profiles(comparisons):
        yield from _profile(profile)


def convert_rankings(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the same as plain values, for programs."""
    alpha = 1 - comparisons[0].confidence if comparisons else 0.05
    made = {
        "rankings": [asdict(one) for one in rank_losses(comparisons, alpha)],
        "profiles": [{"factors": list(FACTORS), **asdict(one)} for one in compute_profiles(comparisons)],
    }
    plain: dict[str, Any] = replace_nonfinite(made)
    return plain


def _rank_columns(ranked: Sequence[Ranking]) -> dict[str, list[str]]:
    """A column for each corruption and rate, rows by the mean over them."""
    names = list(dict.fromkeys(name for r in ranked for name in r.names))
    by = {_where(r, ranked): dict(zip(r.names, r.ranks, strict=True)) for r in ranked}
    names.sort(key=lambda name: (np.mean([own.get(name, np.inf) for own in by.values()]), name))
    return {"loss": names} | {w: [f"{own[n]:.2f}" if n in own else "–" for n in names] for w, own in by.items()}


def _where(one: Ranking, ranked: Sequence[Ranking]) -> str:
    kinds = {r.corruption for r in ranked}
    return f"{one.corruption}\nrate {one.corruption_rate:g}" if len(kinds) > 1 else f"rate {one.corruption_rate:g}"


def _ranks_explained(ranked: Sequence[Ranking], alpha: float) -> Iterator[str]:
    data = list(dict.fromkeys(name for r in ranked for name in r.data))
    over = join_names(data, NAMED)
    yield f"mean rank: 1 is the best; over {over}. Seeds are no data sets: each of these counts once."
    hopeless = [r for r in ranked if r.least >= alpha]
    if hopeless:
        n, least = len(hopeless[0].data), min(r.least for r in hopeless)
        yield (
            f"{n} data sets cannot show that any of so many losses is better than another over data sets: the least p "
            f"that Wilcoxon's test with Holm's correction can give is {least:.2g}."
        )
    for one in ranked:
        if one.shown:
            pairs = [f"{better} before {worse} (p {p:.2g})" for better, worse, p in one.shown]
            yield f"Shown over data sets at rate {one.corruption_rate:g} (Wilcoxon, Holm): {join_names(pairs, NAMED)}."
        elif one.least < alpha:
            friedman = f"; Friedman's p is {one.friedman:.2g}" if np.isfinite(one.friedman) else ""
            yield (
                f"At rate {one.corruption_rate:g} no pair is shown to differ over data sets (Wilcoxon, Holm){friedman}."
            )
    yield from _left_out(sorted({name for r in ranked for name in r.left_out}))


def _profile(profile: Profile) -> Iterator[RenderableType]:
    yield Text(f"{profile.task} over {profile.n_subjects} subjects: steps to target against the fastest loss", "bold")
    cells = {
        f"within\n{factor:g}x": [f"{100 * shares[i]:.0f}%" for shares in profile.shares]
        for i, factor in enumerate(FACTORS)
    }
    yield Grid({"loss": list(profile.names)} | cells)
    yield Text(
        "within 2x: on what share of the subjects (data sets, corruptions, rates) the loss is at the target after at "
        "most twice the steps of the fastest. Subjects on which no loss arrives are not counted, and steps "
        "are as fine as the evaluations."
    )
    yield from (Text(line) for line in _left_out(profile.left_out))
    yield Text("")


def _left_out(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"Left out, as some subjects lack them: {join_names(names, NAMED)}."
