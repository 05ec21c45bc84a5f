"""The footnotes of a comparison: what ✓ means here, how losses were tuned, what was left out, and warnings."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lossbench.analysis.comparison import Comparison, RateComparison
from lossbench.report.tables.grid import format_rope
from lossbench.report.tables.sentences import join_names
from lossbench.report.tables.summaries import join_notes, list_missing_runs

SMALL = 0.2
"""Residuals of less than this, or more than its inverse, do not agree with a delta or width of about 1."""


def explain_comparison(comparison: Comparison) -> list[str]:
    """Return the footnotes that belong below a comparison's tables, whichever columns they have: at most four."""
    left_out, warnings = [*_list_left_out(comparison)], [*_list_warnings(comparison)]
    notes = [join_notes(label, some) for label, some in (("Left out", left_out), ("Note", warnings)) if some]
    return [_explain_recommended(comparison), _explain_tuning(comparison), *notes]


def _explain_recommended(comparison: Comparison) -> str:
    rope = format_rope(comparison.levels[-1].scale)
    return (
        f"✓ recommended: no other loss is shown to be better by more than {rope} "
        f"({100 * comparison.confidence:g}% confidence), and no trial diverged."
    )


def _explain_tuning(comparison: Comparison) -> str:
    """Return how the losses' settings were chosen."""
    tunings = [row.tuned for level in comparison.levels for row in level.rows]
    tried = sorted({lr for tuned in tunings for lr in tuned.learning_rates})
    if all(tuned.n_settings < 2 for tuned in tunings):
        each = "for all" if len(tried) == 1 else "each, not the same for all"
        rates = ", ".join(dict.fromkeys(f"{lr:g}" for lr in tried))
        return f"Untuned: one learning rate {each} ({rates}). Others can change the order: protocol=tuned."
    where = "at corruption rate 0" if any(tuned.only_at_rate_zero for tuned in tunings) else "and corruption rate"
    # on which seeds; their number may differ between losses
    n_seeds = sorted({tuned.n_seeds for tuned in tunings})
    seeds = " to ".join(dict.fromkeys(map(str, (n_seeds[0], n_seeds[-1]))))
    on = f"on {seeds} tuning seeds" if n_seeds[0] else "on the same seeds"
    # among how many settings; an unequal budget is a warning
    n_tried = sorted({tuned.n_settings for tuned in tunings})
    of = " to ".join(dict.fromkeys(map(str, (n_tried[0], n_tried[-1]))))
    span = f"learning rates {tried[0]:g} to {tried[-1]:g}" if tried else "no learning rate on record"
    return f"Tuned: for each loss {where} the best of {of} settings ({span}) by validation {on}."


def _list_left_out(comparison: Comparison) -> Iterator[str]:
    # seeds that a loss lacks, whose differences are then over fewer
    levels_of: dict[tuple[str, str], list[RateComparison]] = {}
    for level in comparison.levels:
        seeds = {seed for row in level.rows for seed in row.summary.values}
        for row in level.rows:
            missing = ", ".join(map(str, sorted(seeds - row.summary.values.keys())))
            if missing and row.summary.trials:
                levels_of.setdefault((row.name, missing), []).append(level)
    for (name, missing), levels in levels_of.items():
        rates = ", ".join(f"{level.corruption_rate:g}" for level in levels)
        seeds_text = f"seed{'s' if ',' in missing else ''} {missing}"
        yield f"{name} at corruption rate {rates} has no result of {seeds_text}, and is compared on the others"
    # a loss whose fields are tuned is one loss, whichever are chosen at a corruption rate
    yield from list_missing_runs(
        [replace(r.summary, loss=r.tuned.loss) for level in comparison.levels for r in level.rows]
    )


def _list_warnings(comparison: Comparison) -> Iterator[str]:
    tunings = [row.tuned for level in comparison.levels for row in level.rows]
    n_tried = sorted({tuned.n_settings for tuned in tunings})
    if n_tried[-1] > 1:
        grids = {tuned.learning_rates for tuned in tunings}
        rows = [row for level in comparison.levels for row in level.rows]
        edge = list(dict.fromkeys(row.name for row in rows if row.tuned.at_edge)) if len(grids) == 1 else []
        if len(n_tried) > 1:
            yield f"an unequal tuning budget, {n_tried[0]} to {n_tried[-1]} settings per loss"
        elif len(grids) > 1:
            yield "not the same learning rates for all losses"
        if edge:
            yield f"at the edge of the learning rates, so that a better one may lie beyond: {join_names(edge)}"
    # residuals of the best loss that are of another size than the deltas and widths of losses
    sizes = {level.corruption_rate: level.rows[0].summary.residual_scale for level in comparison.levels}
    odd = {rate: size for rate, size in sizes.items() if np.isfinite(size) and not SMALL <= size <= 1 / SMALL}
    if odd:
        at = ", ".join(f"{size:.2g} at corruption rate {rate:g}" for rate, size in odd.items())
        yield (
            "deltas and widths of losses (huber, tukey, student_t_nll) are in units of the targets' robust scale, but "
            f"the best loss's test residuals are of size {at}: a delta or width of that size may do better"
        )
    if len({level.baseline for level in comparison.levels}) > 1:
        baselines = ", ".join(f"{lv.baseline} at corruption rate {lv.corruption_rate:g}" for lv in comparison.levels)
        yield f"not the same baseline at all corruption rates: {baselines}"
