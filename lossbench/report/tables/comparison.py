"""A comparison as a person reads it: verdicts in sentences, then tables, then footnotes."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from lossbench.analysis.comparison import Comparison, RateComparison, Row
from lossbench.analysis.differences import ROUNDING
from lossbench.analysis.robustness import Robustness, measure_robustness
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.grid import (
    NOTHING,
    Column,
    Grid,
    Pointer,
    drop_empty,
    format_difference,
    format_estimates,
    format_number,
    format_steps_to_target,
)
from lossbench.report.tables.rankings import render_rankings
from lossbench.report.tables.scope import describe_scope
from lossbench.report.tables.sentences import describe_still_needed, write_sentences
from lossbench.report.tables.summaries import FEWEST, MANY

SORTS = ("metric", "loss", "difference", "steps", "seconds", "aulc")
"""The keys that rows can be sorted by, best first within each corruption rate."""
SPARED = ("AULC", "best epoch", "P(better)")
"""Terms whose columns are left out first where the table is too wide."""
Entry = tuple[RateComparison, Row]


def render_comparisons(comparisons: Sequence[Comparison], sort: str = "metric") -> RenderableType:
    """Return all comparisons, one after the other, and what several data sets show together."""
    parts = (part for comparison in comparisons for part in _render_comparison(comparison, sort))
    return Group(*parts, *render_rankings(comparisons))


def sort_rows(level: RateComparison, sort: str) -> list[Row]:
    """Return the rows sorted by one of `SORTS`; those whose value is not known come last."""
    sign = -1 if level.scale.higher_is_better else 1
    keys = {
        "metric": lambda row: sign * (row.summary.last.value if row.summary.last else np.nan),
        "loss": lambda row: 0.0,
        "difference": lambda row: sign * (row.vs_baseline.value if row.vs_baseline else 0.0),
        "steps": lambda row: row.steps.median if row.steps else np.nan,
        "seconds": lambda row: row.summary.wall_seconds,
        "aulc": lambda row: sign * row.summary.aulc,
    }
    return sorted(level.rows, key=lambda row: (np.nan_to_num(keys[sort](row), nan=np.inf), row.name))


def compose_heading(comparison: Comparison) -> str:
    """Return what is compared: `regression · diabetes · mlp · corruption outliers`."""
    parts = [str(comparison.settings[name]) for name in ("task", "data", "model") if comparison.settings.get(name)]
    corruption = [] if comparison.corruption == "none" else [f"corruption {comparison.corruption}"]
    return " · ".join(parts + corruption)


def describe_subject(comparison: Comparison) -> str:
    """Return the metric and its direction, how many losses and seeds there are, the baseline and the target."""
    first, rows = comparison.first, [row for level in comparison.levels for row in level.rows]
    arrow = "↑, higher is better" if first.higher_is_better else "↓, lower is better"
    names, seeds = {row.name for row in rows}, {seed for row in rows for seed in row.summary.seeds}
    size = f"{len(names)} losses, {len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    text = f"test {first.metric} {arrow}; {size}; baseline {comparison.levels[0].baseline}"
    if np.isfinite(comparison.target):
        target = f"target {'≥' if first.higher_is_better else '≤'} {comparison.target:.3g}"
        reached = any(row.steps and row.steps.n_reached for row in rows)
        text += f"; {target}" if reached else f"; no trial reached the {target}"
    return text


def group_verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the corruption rates, as text, that have a sentence in common, and that sentence."""
    sentences = zip((level.corruption_rate for level in comparison.levels), write_sentences(comparison), strict=True)
    groups = groupby(sentences, lambda pair: pair[1])
    return [(", ".join(f"{rate:g}" for rate, _ in group), text) for text, group in groups]


def build_verdicts(comparison: Comparison, sort: str = "metric") -> Grid:
    """Return the table of verdicts, with a gap after each corruption rate."""
    entries = _select_entries(comparison, sort)
    return _build_grid(_build_verdict_columns(entries), entries)


def _render_comparison(comparison: Comparison, sort: str) -> Iterator[RenderableType]:
    entries = _select_entries(comparison, sort)
    total = sum(len(level.rows) for level in comparison.levels)
    # 1. verdicts in sentences, and their scope
    yield Text(compose_heading(comparison), style="bold")
    yield Text(describe_subject(comparison))
    for rates, text in group_verdicts(comparison):
        yield Text.assemble((f"Corruption rate {rates}: ", "bold"), text)
    yield from (Text(line) for line in describe_scope(comparison))
    yield Text("")
    # 2. differences and verdicts
    grids = [_build_grid(_build_verdict_columns(entries), entries)]
    yield grids[0]
    yield Text("")
    if len(entries) < total:
        yield Text(f"{len(entries)} of {total} rows: the first of each corruption rate. All: --format csv or json.\n")
    # 3. how training went
    grids.append(_build_grid(_build_training_columns(entries), entries))
    yield grids[-1]
    yield Text("")
    # 4. over corruption rates
    if robustness := measure_robustness(comparison)[:MANY]:
        columns = drop_empty(_build_robustness_columns(robustness, comparison))
        caption = f"test {comparison.first.metric} by corruption rate"
        if any(column.term == "breakdown rate" for column in columns):
            predictor = f"baseline predictor ({comparison.baseline_predictor:.3g})"
            caption += f"; breakdown: no better than the {predictor} from this corruption rate on"
        yield Text(caption)
        grids.append(Grid(columns))
        yield grids[-1]
        yield Text("")
    # 5. weightings
    if columns := _build_interaction_columns(comparison):
        grids.append(Grid(columns))
        yield _describe_interactions(comparison)
        yield grids[-1]
        yield Text("")
    # 6. footnotes
    yield from (Text(line) for line in explain_comparison(comparison))
    yield Pointer(grids)
    yield Text("")


def _select_entries(comparison: Comparison, sort: str) -> list[Entry]:
    """Return all rows of a small comparison; of a large one the first of each corruption rate, and the baseline."""
    n = sum(len(level.rows) for level in comparison.levels)
    most = n if n <= MANY else max(FEWEST, MANY // len(comparison.levels))
    return [
        (level, row)
        for level in comparison.levels
        for place, row in enumerate(sort_rows(level, sort))
        if place < most or row.name == level.baseline
    ]


def _build_grid(columns: Sequence[Column], entries: Sequence[Entry]) -> Grid:
    rates = [level.corruption_rate for level, _ in entries]
    ends = {i - 1 for i in range(1, len(rates)) if rates[i] != rates[i - 1]}
    return Grid(drop_empty(columns), ends, SPARED)


def _build_verdict_columns(entries: Sequence[Entry]) -> list[Column]:
    rows = [row for _, row in entries]
    first = rows[0].summary
    arrow = "↑" if first.higher_is_better else "↓"
    baselines = list(dict.fromkeys(level.baseline for level, _ in entries))
    bests = [format_number(row.summary.best.value) if row.summary.best else NOTHING for row in rows]
    differences = [
        format_difference(row.vs_baseline, level.scale) if row.vs_baseline else NOTHING for level, row in entries
    ]
    # settings have columns where there was a choice
    rates = [row.summary.settings.get("lr") for row in rows]
    several = any(len(row.tuned.learning_rates) > 1 for row in rows) or len(set(rates)) > 1
    rate_cells = [f"{rate:g}" if rate and several else NOTHING for rate in rates]
    return [
        Column("recommended", ["✓" if row.recommended else "" for row in rows]),
        Column("loss", [row.name for row in rows]),
        Column("learning rate", rate_cells),
        Column("tuned fields", [row.tuned.fields or NOTHING for row in rows]),
        Column("corruption rate", [f"{level.corruption_rate:g}" for level, _ in entries]),
        Column("metric", format_estimates([row.summary.last for row in rows]), f"{first.metric} {arrow}"),
        Column("best epoch", bests),
        Column("difference", differences, f"vs\n{baselines[0] if len(baselines) == 1 else 'baseline'}"),
        Column("verdict", [_format_verdict(level, row) for level, row in entries]),
        Column("P(better)", [_format_probability(row) for row in rows]),
        Column("still needed", [describe_still_needed(row, level) or NOTHING for level, row in entries]),
    ]


def _format_verdict(level: RateComparison, row: Row) -> str:
    if row.name == level.baseline:
        return "baseline"
    if not row.summary.trials:
        return "diverged" if row.summary.n_diverged else "no result"
    verdict = str(row.vs_baseline.verdict) if row.vs_baseline else "unpaired"
    return f"{verdict}, {row.summary.n_diverged} diverged" if row.summary.n_diverged else verdict


def _format_probability(row: Row) -> str:
    if row.vs_baseline is None or not np.isfinite(row.vs_baseline.probability_better):
        return NOTHING
    return f"{min(max(row.vs_baseline.probability_better, 0.001), 0.999):.3f}"  # never certain


def _build_training_columns(entries: Sequence[Entry]) -> list[Column]:
    rows = [row for _, row in entries]
    eases = [row.tuned.ease_of_tuning for row in rows]
    diverged = [f"{s.n_diverged}/{s.n_trials}" if s.n_diverged else NOTHING for s in (row.summary for row in rows)]
    columns = [
        Column("loss", [row.name for row in rows]),
        Column("corruption rate", [f"{level.corruption_rate:g}" for level, _ in entries]),
        Column("steps to target", [format_steps_to_target(row.steps) for row in rows]),
        Column("seconds to target", [format_number(row.seconds) for row in rows]),
        Column("AULC", [format_number(row.summary.aulc) for row in rows]),
        Column("overfitting gap", [_format_gap(row) for row in rows]),
        Column("seconds per trial", [format_number(row.summary.wall_seconds) for row in rows]),
        Column("ease of tuning", [f"{100 * ease:.0f}%" if np.isfinite(ease) else NOTHING for ease in eases]),
    ]
    # the scale may be all that tells losses apart that were not tuned
    if all(row.tuned.n_settings < 2 for row in rows):
        columns.append(Column("gradient norm", [format_number(row.summary.gradient_norm) for row in rows]))
    return [*columns, Column("diverged", diverged)]


def _format_gap(row: Row) -> str:
    gap, last = row.summary.overfitting_gap, row.summary.last
    if not np.isfinite(gap):
        return NOTHING
    rounding = last is not None and abs(gap) < ROUNDING * abs(last.value)  # metrics are computed in single precision
    return "0" if rounding else ("-" if gap < 0 else "+") + format_number(abs(gap))


def _build_robustness_columns(robustness: Sequence[Robustness], comparison: Comparison) -> list[Column]:
    first = comparison.levels[0]
    unit = " pt" if first.scale.higher_is_better else "%"
    breakdowns = []
    for loss in robustness:
        at, rates = loss.breakdown_rate, loss.values
        unknown = np.isnan(at) or not rates
        breakdowns.append(NOTHING if unknown else f"{at:.2g}" if np.isfinite(at) else f"> {max(rates):g}")
    return [
        Column("loss", [loss.name for loss in robustness]),
        *(
            Column("metric", [format_number(loss.values.get(rate, np.nan)) for loss in robustness], f"at {rate:g}")
            for rate in (level.corruption_rate for level in comparison.levels)
        ),
        Column(
            "mean degradation",
            [
                f"{loss.mean_degradation:+.1f}{unit}" if np.isfinite(loss.mean_degradation) else NOTHING
                for loss in robustness
            ],
        ),
        Column(
            "clean difference",
            [
                format_difference(loss.clean_difference, first.scale) if loss.clean_difference else NOTHING
                for loss in robustness
            ],
            f"vs {first.baseline}\non clean data",
        ),
        Column("breakdown rate", breakdowns),
    ]


def _describe_interactions(comparison: Comparison) -> Text:
    first = next(interaction for level in comparison.levels for interaction in level.interactions)
    helps = "+ helps it more" if comparison.first.higher_is_better else "- helps it more"
    return Text(
        f"interaction: effect on the loss of a weighting instead of {first.other_weighting}, less its effect on "
        f"{first.other_loss}; {helps}"
    )


def _build_interaction_columns(comparison: Comparison) -> list[Column]:
    pairs = [(level, interaction) for level in comparison.levels for interaction in level.interactions]
    if not pairs:
        return []
    unit = " pt" if comparison.first.higher_is_better else "%"
    return [
        Column("loss", [interaction.loss for _, interaction in pairs]),
        Column("weighting", [interaction.weighting for _, interaction in pairs]),
        Column("corruption rate", [f"{level.corruption_rate:g}" for level, _ in pairs]),
        Column("interaction", [f"{each.value:+.1f}{unit} [{each.low:.1f}, {each.high:.1f}]" for _, each in pairs]),
    ]
