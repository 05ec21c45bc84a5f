"""Comparisons as plain values, for programs: nested for JSON, or a row per loss and corruption rate."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lossbench.analysis import Estimate, Summary
from lossbench.analysis.comparison import Comparison, RateComparison, Row
from lossbench.analysis.robustness import measure_robustness
from lossbench.report.json_values import replace_nonfinite
from lossbench.report.tables.comparison import compose_heading, sort_rows
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.scope import describe_narrowing, describe_samples
from lossbench.report.tables.sentences import write_sentences
from lossbench.report.tables.summaries import describe_estimate

NAMES = ("loss", "weighting", "corruption")
COUNTS = (
    *("seeds", "trials", "diverged", "n_trials", "n_diverged", "n_failed", "n_skipped"),
    *("reasons", "notes", "wall_seconds"),
)
LEVELS = ("higher_is_better", "perfect", "baseline_predictor", "target")


def convert_comparisons(comparisons: Sequence[Comparison], sort: str = "metric") -> list[dict[str, Any]]:
    """Return one mapping per comparison, with all that its tables show and more."""
    return [_convert_comparison(comparison, sort) for comparison in comparisons]


def flatten(comparisons: Sequence[Comparison], sort: str = "metric") -> list[dict[str, Any]]:
    """Return one mapping per comparison, corruption rate and loss, of scalars: rows for a data frame."""
    return [
        {**comparison.settings, **_convert_row(row, level)}
        for comparison in comparisons
        for level in comparison.levels
        for row in sort_rows(level, sort)
    ]


def select_main_columns(comparisons: Sequence[Comparison], sort: str = "metric") -> list[dict[str, Any]]:
    """Return the columns of `flatten` that fit on a page; settings only where they differ."""
    rows = flatten(comparisons, sort)
    settings = ["task", "data", "model", "corruption", "lr"]
    differing = [n for n in settings if len({str(row.get(n)) for row in rows}) > 1]
    values = ["corruption_rate", "value", "low", "high", "difference", "difference_low", "difference_high", "verdict"]
    columns = ["name", *differing, *values, "p_better", "recommended"]
    return [{name: row[name] for name in columns} for row in rows]


def convert_summary(summary: Summary) -> dict[str, Any]:
    """Return a summary's names, settings, estimates with intervals, counts and reasons; None for what is not finite."""
    names = ("loss", "weighting", "corruption", "corruption_rate", "realised_rate")
    values = {
        **{name: getattr(summary, name) for name in names},
        **summary.settings,
        "metric": summary.metric,
        **{name: getattr(summary, name) for name in LEVELS},
        "last": _convert_estimate(summary.last),
        "best": _convert_estimate(summary.best),
        "steps_to_target": summary.steps and asdict(summary.steps),
        "aulc": summary.aulc,
        "overfitting_gap": summary.overfitting_gap,
        "degradation": summary.degradation and asdict(summary.degradation),
        **{name: getattr(summary, name) for name in COUNTS},
    }
    return {name: replace_nonfinite(value) for name, value in values.items()}


def _convert_estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "n_seeds", "n_examples")}


def _convert_comparison(comparison: Comparison, sort: str) -> dict[str, Any]:
    levels = [
        {
            "corruption_rate": level.corruption_rate,
            "verdict": text,
            "recommended": list(level.recommended),
            "baseline": level.baseline,
            "rope": abs(level.scale.to_display(level.scale.rope)),
            "unit": level.scale.unit.strip(),
            "n_test_examples": level.sample.n_examples,
            "n_test_groups": level.sample.n_groups,
            "interval_over": describe_samples(level),
            "narrowed_by": describe_narrowing(level),
            "identical": [list(pair) for pair in level.identical],
            "losses": [_convert_row(row, level) for row in sort_rows(level, sort)],
            "interactions": [asdict(interaction) for interaction in level.interactions],
        }
        for level, text in zip(comparison.levels, write_sentences(comparison), strict=True)
    ]
    robustness = [
        {
            "name": loss.name,
            "values": {f"{rate:g}": value for rate, value in loss.values.items()},
            "mean_degradation": loss.mean_degradation,
            "clean_difference": loss.clean_difference and asdict(loss.clean_difference),
            "overfitting_gap": loss.overfitting_gap,
            "breakdown_rate": loss.breakdown_rate,
        }
        for loss in measure_robustness(comparison)
    ]
    plain: dict[str, Any] = replace_nonfinite(
        {
            "title": compose_heading(comparison),
            "settings": {**comparison.settings, "corruption": comparison.corruption},
            "metric": comparison.first.metric,
            "higher_is_better": comparison.first.higher_is_better,
            "confidence": comparison.confidence,
            "baseline_predictor": comparison.baseline_predictor,
            "target": comparison.target,
            "rates": levels,
            "robustness": robustness,
            "notes": explain_comparison(comparison),
        }
    )
    return plain


def _convert_row(row: Row, level: RateComparison) -> dict[str, Any]:
    summary, last, difference = row.summary, row.summary.last, row.vs_baseline
    return {
        "name": row.name,
        **{name: getattr(summary, name) for name in NAMES},
        **{name: summary.settings.get(name) for name in ("head", "lr")},
        "corruption_rate": level.corruption_rate,
        # the metric at the last epoch, and at the epoch that validation calls best
        "metric": summary.metric,
        "value": last.value if last else math.nan,
        "low": last.low if last else math.nan,
        "high": last.high if last else math.nan,
        "interval_over": describe_estimate(last) if last else "nothing",
        "best_epoch": summary.best.value if summary.best else math.nan,
        # against the baseline, in percent or points
        "baseline": level.baseline,
        "difference": difference.value if difference else math.nan,
        "difference_low": difference.low if difference else math.nan,
        "difference_high": difference.high if difference else math.nan,
        "p_better": difference.probability_better if difference else math.nan,
        "more_seeds": difference.more_seeds if difference else math.nan,
        "unit": level.scale.unit.strip(),
        "verdict": str(difference.verdict) if difference else None,
        "recommended": row.recommended,
        "beaten_by": row.beaten_by.other if row.beaten_by else None,
        # how training went
        "steps_to_target": row.steps.median if row.steps else math.nan,
        "seeds_at_target": row.steps.n_reached if row.steps else None,
        "seconds_to_target": row.seconds,
        "aulc": summary.aulc,
        "overfitting_gap": summary.overfitting_gap,
        "wall_seconds": summary.wall_seconds,
        # how the setting was chosen
        "ease_of_tuning": row.tuned.ease_of_tuning,
        "n_settings": row.tuned.n_settings,
        "n_learning_rates": len(row.tuned.learning_rates),
        "n_tuning_seeds": row.tuned.n_seeds,
        "tuned_fields": row.tuned.fields,
        "gradient_norm": summary.gradient_norm,
        **{name: getattr(summary, name) for name in ("n_trials", "n_diverged", "n_failed", "n_skipped")},
    }
