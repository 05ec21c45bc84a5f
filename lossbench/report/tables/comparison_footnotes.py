"""What the terms of a comparison's tables mean, and what is missing from it, in plain words."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lossbench.analysis.comparison import Comparison, Level
from lossbench.analysis.rivals import Sample
from lossbench.report.tables.grid import format_rope
from lossbench.report.tables.sentences import join_names
from lossbench.report.tables.summaries import list_gaps

SMALL = 0.2
"""Residuals of less than this, or more than its inverse, do not agree with a delta or width of about 1."""


def explain_comparison(comparison: Comparison) -> list[str]:
    """Return the lines that belong below a comparison's tables."""
    lines = [
        _speaks(comparison),
        _verdict(comparison),
        _recommended(comparison),
        _chance(comparison),
        _epochs(comparison),
        _way(comparison),
        _scale(comparison),
        _robust(comparison),
        _interaction(comparison),
        _tuning(comparison),
    ]
    # a loss whose fields are tuned is one loss, whichever are chosen at a rate
    rows = [replace(row.summary, loss=row.tuned.loss) for level in comparison.levels for row in level.rows]
    return [line for line in lines if line] + [*_unequal(comparison), *_baselines(comparison), *list_gaps(rows)]


def _speaks(comparison: Comparison) -> str:
    level, percent = comparison.levels[-1], f"{100 * comparison.confidence:g}%"
    if level.sample.n_examples:
        return (
            f"[low, high]: {percent} interval, for new seeds and {_new_rows(level.sample)}, not for other data sets. "
            "Differences are paired by seed and test row."
        )
    return (
        f"[low, high]: {percent} interval, for new seeds on these very test rows only: what other rows would do to "
        f"{comparison.first.metric} is not on record. Equal losses are then called different far too often."
    )


def _new_rows(sample: Sample) -> str:
    if not sample.n_groups:
        return f"new test rows of this data ({sample.n_examples} here)"
    return (
        f"new groups of test rows of this data (here {sample.n_groups} of {sample.n_examples} rows: those of one "
        "group are alike, and count as one)"
    )


def _verdict(comparison: Comparison) -> str:
    level = max(comparison.levels, key=lambda one: len(one.rows))
    n = len([row for row in level.rows if row.summary.trials])
    rope, alpha = format_rope(level.scale), 1 - comparison.confidence
    return (
        f"verdict: on the last epoch. better, worse: different, if perhaps by less than {rope}; equivalent: by less "
        f"than {rope}; p < {alpha:.2g} by t tests with Holm's correction for the {n * (n - 1) // 2} pairs at each rate "
        "(the interval is for one pair by itself). inconclusive: neither. wants more: what would settle it if the "
        "difference stayed as it is; test rows: no number of seeds would, only more of them."
    )


def _recommended(comparison: Comparison) -> str:
    level, n = comparison.levels[-1], max(len(level.rows) for level in comparison.levels)
    alpha = 1 - comparison.confidence
    return (
        f"✓ recommended: no other loss is shown to be better by more than {format_rope(level.scale)} (one-sided t at "
        f"{alpha:.2g}/{max(n - 1, 1)}), and no trial diverged. The first in a table flatters itself: its lead is no "
        "verdict."
    )


def _chance(comparison: Comparison) -> str:
    return (
        "P of better: the probability that the loss is better than the baseline at all, by the t distribution of the "
        "difference (a flat prior), not corrected for many pairs."
    )


def _epochs(comparison: Comparison) -> str:
    if comparison.settings.get("validation") == "clean":
        return "best epoch: by clean validation data, an oracle. memorised: last against best epoch, + is worse."
    return "best epoch: by validation, corrupted like training. memorised: last against best epoch, + is worse."


def _way(comparison: Comparison) -> str:
    if not np.isfinite(comparison.target):
        return ""
    sign = "≥" if comparison.first.higher_is_better else "≤"
    return (
        f"steps to {comparison.target:.3g}: first evaluation with test {comparison.first.metric} {sign} that, 90% of "
        f"the way from the baseline predictor ({comparison.baseline_predictor:.3g}) to the best clean result; "
        "median over seeds, 2/5: only 2 of 5 seeds got there. area: mean height of the test curve. "
        "seconds: a trial's share of the stack it trained in."
    )


def _scale(comparison: Comparison) -> str:
    """Where what the best loss leaves is of another size than the deltas and widths of losses."""
    found = {level.corruption_rate: level.rows[0].summary.residual_scale for level in comparison.levels}
    odd = {rate: size for rate, size in found.items() if np.isfinite(size) and not SMALL <= size <= 1 / SMALL}
    if not odd:
        return ""
    told = ", ".join(f"{size:.2g} at rate {rate:g}" for rate, size in odd.items())
    return (
        "scale: deltas and widths of losses (huber, tukey, student_t_nll) are in the targets' robust scale. The best "
        f"loss's test residuals are of another size, {told}: a delta or width of that size may do better."
    )


def _robust(comparison: Comparison) -> str:
    if len(comparison.levels) < 2:
        return ""
    return (
        "lost to corruption: against rate 0, as a mean over the rates up to the highest. clean price: against the "
        "baseline at rate 0. useless from rate: no better than the baseline predictor."
    )


def _interaction(comparison: Comparison) -> str:
    found = [one for level in comparison.levels for one in level.interactions]
    if not found:
        return ""
    other = f"{found[0].other_loss} by {found[0].weighting} instead of {found[0].other_weighting}"
    better = "+ helps more" if comparison.first.higher_is_better else "+ helps less"
    return f"effect beyond that on another loss: how the weighting changes it, less the change of {other}; {better}."


def _tuning(comparison: Comparison) -> str:
    rows = [row for level in comparison.levels for row in level.rows]
    grids = sorted({row.tuned.tried for row in rows})
    if all(row.tuned.n_tried < 2 for row in rows):
        tried = sorted({f"{rate:g}" for grid in grids for rate in grid})
        each = "for all" if len(tried) == 1 else "each, not the same for all"
        return (
            f"untuned: one learning rate {each} ({', '.join(tried)}). Others can turn the order round: protocol=tuned. "
            "gradient norm: median over training; a loss of another scale takes other steps with sgd, and is clipped "
            "and decayed otherwise."
        )
    edge = list(dict.fromkeys(row.name for row in rows if row.tuned.at_edge)) if len(grids) == 1 else []
    beyond = f" At the edge, so a better one may lie beyond: {join_names(edge)}." if edge else ""
    return (
        f"lr: for each loss {_chosen(comparison)}. settings as good: the share of those tried that do as well on test, "
        f"in practice.{_budget(comparison)}{beyond}"
    )


def _chosen(comparison: Comparison) -> str:
    """Where, on how many seeds and among how many a loss's settings were chosen."""
    tuned = [row.tuned for level in comparison.levels for row in level.rows]
    where = "at rate 0" if any(own.clean for own in tuned) else "and rate"
    n_seeds = sorted({own.n_seeds for own in tuned})
    seeds = " to ".join(dict.fromkeys(map(str, (n_seeds[0], n_seeds[-1]))))
    on = f"{seeds} seeds of their own, which are not reported" if n_seeds[0] else "the seeds that are reported"
    tried = sorted({lr for own in tuned for lr in own.tried})
    return f"{where} the best by validation at the last epoch, from {tried[0]:g} to {tried[-1]:g}, on {on}"


def _budget(comparison: Comparison) -> str:
    """Say whether all had the same to choose from."""
    tuned = [row.tuned for level in comparison.levels for row in level.rows]
    counts = sorted({own.n_tried for own in tuned})
    if len(counts) > 1:
        return f" Not all losses had as many settings to choose from ({counts[0]} to {counts[-1]}): an unequal budget."
    if len({own.tried for own in tuned}) > 1:
        return f" Each had {counts[0]} settings to choose from, not the same ones."
    return f" Each had {counts[0]} settings to choose from."


def _unequal(comparison: Comparison) -> Iterator[str]:
    """Seeds that a loss lacks, whose differences are then over fewer."""
    found: dict[tuple[str, str], list[Level]] = {}
    for level in comparison.levels:
        everything = {seed for row in level.rows for seed in row.summary.values}
        for row in level.rows:
            missing = ", ".join(map(str, sorted(everything - row.summary.values.keys())))
            if missing and row.summary.trials:
                found.setdefault((row.name, missing), []).append(level)
    for (name, missing), levels in found.items():
        rates = ", ".join(f"{level.corruption_rate:g}" for level in levels)
        seeds = "seeds" if "," in missing else "seed"
        yield f"{name} at rate {rates} has no result of {seeds} {missing}: compared on those that both have."


def _baselines(comparison: Comparison) -> Iterator[str]:
    names = {level.baseline: level.corruption_rate for level in comparison.levels}
    if len(names) > 1:
        told = ", ".join(f"{level.baseline} at rate {level.corruption_rate:g}" for level in comparison.levels)
        yield f"Not the same baseline at all rates, as one is not there: {told}."
