"""A comparison as a person reads it: verdicts in words, then tables, then what the terms mean."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from lossbench.analysis.comparison import Comparison, Level, Row
from lossbench.analysis.differences import SAME
from lossbench.analysis.robustness import Robustness, measure_robustness
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.grid import NOTHING, Grid, format_difference, format_estimates, format_number, format_reach
from lossbench.report.tables.rankings import render_rankings
from lossbench.report.tables.scope import describe_scope
from lossbench.report.tables.sentences import settled_by, write_sentences
from lossbench.report.tables.summaries import FEWEST, MANY

SORTS = ("metric", "loss", "difference", "steps", "seconds", "area")
"""What rows can be sorted by, best first within each rate."""
SPARED = ("area", "best\nepoch", "P of\nbetter")
"""Columns that are left out first where the table is too wide."""
Entry = tuple[Level, Row]


def render_comparisons(comparisons: Sequence[Comparison], sort: str = "metric") -> RenderableType:
    """Return all of them, one after the other, and what several data sets say together."""
    each = (part for comparison in comparisons for part in _parts(comparison, sort))
    return Group(*each, *render_rankings(comparisons))


def sort_rows(level: Level, sort: str) -> list[Row]:
    """Return the rows by what is asked for; those of which it is not known come last."""
    up = level.scale.higher_is_better
    keys = {
        "metric": lambda row: (-1 if up else 1) * (row.summary.last.value if row.summary.last else np.nan),
        "loss": lambda row: 0.0,
        "difference": lambda row: (-1 if up else 1) * (row.against.value if row.against else 0.0),
        "steps": lambda row: row.steps.median if row.steps else np.nan,
        "seconds": lambda row: row.summary.wall_seconds,
        "area": lambda row: (-1 if up else 1) * row.summary.aulc,
    }
    return sorted(level.rows, key=lambda row: (np.nan_to_num(keys[sort](row), nan=np.inf), row.name))


def title(comparison: Comparison) -> str:
    """Return what is compared: `regression · diabetes · mlp · corruption outliers`."""
    parts = [str(comparison.settings[name]) for name in ("task", "data", "model") if comparison.settings.get(name)]
    corruption = [] if comparison.corruption == "none" else [f"corruption {comparison.corruption}"]
    return " · ".join(parts + corruption)


def describe_subject(comparison: Comparison) -> str:
    """Return what is compared by what: the metric, its direction, how many losses and seeds, the baseline."""
    first, rows = comparison.first, [row for level in comparison.levels for row in level.rows]
    arrow = "↑, higher is better" if first.higher_is_better else "↓, lower is better"
    names, seeds = {row.name for row in rows}, {seed for row in rows for seed in row.summary.seeds}
    size = f"{len(names)} losses, {len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    return f"test {first.metric} {arrow}; {size}; baseline {comparison.levels[0].baseline}"


def group_verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the rates, as text, that have a sentence in common, and that sentence."""
    said = zip((level.corruption_rate for level in comparison.levels), write_sentences(comparison), strict=True)
    return [(", ".join(f"{rate:g}" for rate, _ in group), text) for text, group in groupby(said, lambda pair: pair[1])]


def list_verdicts(comparison: Comparison, sort: str = "metric") -> tuple[dict[str, list[str]], set[int]]:
    """Return the columns of the table of verdicts, and the numbers of the rows with which a rate ends."""
    entries = _shown(comparison, sort)
    return _without_empty(_verdict_columns(entries)), _ends(entries)


def _parts(comparison: Comparison, sort: str) -> Iterator[RenderableType]:
    entries = _shown(comparison, sort)
    total = sum(len(level.rows) for level in comparison.levels)
    yield Text(title(comparison), style="bold")
    yield Text(describe_subject(comparison))
    yield from (Text.assemble((f"Rate {rates}: ", "bold"), text) for rates, text in group_verdicts(comparison))
    yield from (Text(line) for line in describe_scope(comparison))
    yield Text("")
    yield _grid(_verdict_columns(entries), entries)
    yield Text("")
    if len(entries) < total:
        yield Text(f"{len(entries)} of {total} rows: the first of each rate. All rows: --format csv or json.")
    yield _grid(_way_columns(entries, comparison), entries)
    yield Text("")
    if found := measure_robustness(comparison):
        yield Grid(_robust_columns(found[:MANY], comparison))
        yield Text("")
    yield from _interactions(comparison)
    yield from (Text(line) for line in explain_comparison(comparison))
    yield Text("")


def _shown(comparison: Comparison, sort: str) -> list[Entry]:
    """All rows of a small comparison; of a large one the first of each rate, and the baseline."""
    n = sum(len(level.rows) for level in comparison.levels)
    most = n if n <= MANY else max(FEWEST, MANY // len(comparison.levels))
    return [
        (level, row)
        for level in comparison.levels
        for place, row in enumerate(sort_rows(level, sort))
        if place < most or row.name == level.baseline
    ]


def _grid(columns: dict[str, list[str]], entries: Sequence[Entry]) -> Grid:
    return Grid(_without_empty(columns), _ends(entries), SPARED)


def _without_empty(columns: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: cells for name, cells in columns.items() if any(cell != NOTHING for cell in cells)}


def _ends(entries: Sequence[Entry]) -> set[int]:
    rates = [level.corruption_rate for level, _ in entries]
    return {i - 1 for i in range(1, len(rates)) if rates[i] != rates[i - 1]}


def _verdict_columns(entries: Sequence[Entry]) -> dict[str, list[str]]:
    rows = [row for _, row in entries]
    first = rows[0].summary
    arrow = "↑" if first.higher_is_better else "↓"
    baselines = list(dict.fromkeys(level.baseline for level, _ in entries))
    bests = [format_number(row.summary.best.value) if row.summary.best else NOTHING for row in rows]
    return {
        "✓": ["✓" if row.recommended else "" for row in rows],
        "loss": [row.name for row in rows],
        **_settings(rows),
        "rate": [f"{level.corruption_rate:g}" for level, _ in entries],
        f"{first.metric} {arrow}": format_estimates([row.summary.last for row in rows]),
        "best\nepoch": bests,
        f"vs\n{baselines[0] if len(baselines) == 1 else 'baseline'}": [_against(*entry) for entry in entries],
        "verdict": [_verdict(*entry) for entry in entries],
        "P of\nbetter": [_chance(row) for row in rows],
        "wants\nmore": [settled_by(row, level) or NOTHING for level, row in entries],
    }


def _settings(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return what was chosen for each, where there was a choice."""
    rates = [row.summary.settings.get("lr") for row in rows]
    several = any(len(row.tuned.tried) > 1 for row in rows) or len(set(rates)) > 1
    lrs = {"lr": [f"{rate:g}" if rate else NOTHING for rate in rates]} if several else {}
    return {**lrs, "fields": [row.tuned.fields or NOTHING for row in rows]}


def _gradients(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Of losses that were not tuned: whose scale may be all that tells them apart."""
    if any(row.tuned.n_tried > 1 for row in rows):
        return {}
    return {"gradient\nnorm": [format_number(row.summary.gradient_norm) for row in rows]}


def _against(level: Level, row: Row) -> str:
    return format_difference(row.against, level.scale) if row.against else NOTHING


def _verdict(level: Level, row: Row) -> str:
    if row.name == level.baseline:
        return "baseline"
    if not row.summary.trials:
        return "diverged" if row.summary.n_diverged else "no result"
    verdict = str(row.against.verdict) if row.against else "unpaired"
    return f"{verdict}, {row.summary.n_diverged} diverged" if row.summary.n_diverged else verdict


def _chance(row: Row) -> str:
    if row.against is None or not np.isfinite(row.against.better):
        return NOTHING
    return f"{min(max(row.against.better, 0.001), 0.999):.3f}"


def _way_columns(entries: Sequence[Entry], comparison: Comparison) -> dict[str, list[str]]:
    rows = [row for _, row in entries]
    eases = [row.tuned.ease for row in rows]
    return {
        "loss": [row.name for row in rows],
        "rate": [f"{level.corruption_rate:g}" for level, _ in entries],
        f"steps to\n{comparison.target:.3g}": [format_reach(row.steps) for row in rows],
        "seconds\nto that": [format_number(row.seconds) for row in rows],
        "area": [format_number(row.summary.aulc) for row in rows],
        "memorised": [_gap(row) for row in rows],
        "seconds\nper trial": [format_number(row.summary.wall_seconds) for row in rows],
        "settings\nas good": [f"{100 * ease:.0f}%" if np.isfinite(ease) else NOTHING for ease in eases],
        **_gradients(rows),
        "diverged": [_lost(row) for row in rows],
    }


def _gap(row: Row) -> str:
    gap, last = row.summary.overfitting_gap, row.summary.last
    if not np.isfinite(gap):
        return NOTHING
    rounding = last is not None and abs(gap) < SAME * abs(last.value)  # metrics are computed in single precision
    return "0" if rounding else ("-" if gap < 0 else "+") + format_number(abs(gap))


def _lost(row: Row) -> str:
    return f"{row.summary.n_diverged}/{row.summary.n_trials}" if row.summary.n_diverged else NOTHING


def _robust_columns(found: Sequence[Robustness], comparison: Comparison) -> dict[str, list[str]]:
    first = comparison.levels[0]
    unit = "%" if not first.scale.higher_is_better else " pt"
    by_rate = {
        f"rate {level.corruption_rate:g}": [format_number(r.values.get(level.corruption_rate, np.nan)) for r in found]
        for level in comparison.levels
    }
    columns = {
        "loss": [r.name for r in found],
        **by_rate,
        "lost to\ncorruption": [
            f"{r.mean_degradation:+.1f}{unit}" if np.isfinite(r.mean_degradation) else NOTHING for r in found
        ],
        "clean price": [format_difference(r.clean, first.scale) if r.clean else NOTHING for r in found],
        "useless\nfrom rate": [_falls(r) for r in found],
    }
    return _without_empty(columns)


def _falls(found: Robustness) -> str:
    if np.isnan(found.useless_from) or not found.values:
        return NOTHING
    return f"{found.useless_from:.2g}" if np.isfinite(found.useless_from) else f"> {max(found.values):g}"


def _interactions(comparison: Comparison) -> Iterable[RenderableType]:
    found = [(level, one) for level in comparison.levels for one in level.interactions]
    if not found:
        return
    unit = "%" if not found[0][0].scale.higher_is_better else " pt"
    yield Grid(
        {
            "loss": [one.loss for _, one in found],
            "weighting": [one.weighting for _, one in found],
            "rate": [f"{level.corruption_rate:g}" for level, _ in found],
            f"effect beyond that on {found[0][1].other_loss}": [
                f"{one.value:+.1f}{unit} [{one.low:.1f}, {one.high:.1f}]" for _, one in found
            ],
        }
    )
    yield Text("")
