"""Comparisons as plain values, for programs: nested for JSON, or a row per loss and rate for tables elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lossbench.analysis import Estimate, Summary
from lossbench.analysis.comparison import Comparison, Level, Row
from lossbench.analysis.paired import Difference
from lossbench.analysis.robustness import measure_robustness
from lossbench.report.json_values import replace_nonfinite
from lossbench.report.tables.comparison import sort_rows, title
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.scope import narrowed_by, speaks_for
from lossbench.report.tables.sentences import write_sentences

NAMES = ("loss", "weighting", "corruption")
COUNTS = (
    *("seeds", "trials", "diverged", "n_trials", "n_diverged", "n_failed", "n_skipped"),
    *("reasons", "notes", "wall_seconds"),
)
LEVELS = ("higher_is_better", "perfect", "baseline_predictor", "target")


def convert_comparisons(comparisons: Sequence[Comparison], sort: str = "metric") -> list[dict[str, Any]]:
    """Return one mapping per comparison, with all that its tables show and more."""
    return [_nested(comparison, sort) for comparison in comparisons]


def flatten(comparisons: Sequence[Comparison], sort: str = "metric") -> list[dict[str, Any]]:
    """Return one mapping per comparison, rate and loss, of scalars: rows for a data frame."""
    return [
        {**comparison.settings, **_plain(row, level)}
        for comparison in comparisons
        for level in comparison.levels
        for row in sort_rows(level, sort)
    ]


def shorten(comparisons: Sequence[Comparison], sort: str = "metric") -> list[dict[str, Any]]:
    """Return the columns of `flatten` that fit on a page; settings only where they differ."""
    rows = flatten(comparisons, sort)
    kept = ["task", "data", "model", "corruption", "lr"]
    differing = [n for n in kept if len({str(row.get(n)) for row in rows}) > 1]
    shown = ["corruption_rate", "value", "low", "high", "difference", "difference_low", "difference_high", "verdict"]
    wanted = ["name", *differing, *shown, "better", "recommended"]
    return [{name: row[name] for name in wanted} for row in rows]


def convert_summary(summary: Summary) -> dict[str, Any]:
    """Return a summary's names, settings, estimates with intervals, counts and reasons; None for what is not finite."""
    names = ("loss", "weighting", "corruption", "corruption_rate", "realised_rate")
    made = {
        **{name: getattr(summary, name) for name in names},
        **summary.settings,
        "metric": summary.metric,
        **{name: getattr(summary, name) for name in LEVELS},
        "last": _plain_estimate(summary.last),
        "best": _plain_estimate(summary.best),
        "steps_to_target": summary.steps and asdict(summary.steps),
        "aulc": summary.aulc,
        "overfitting_gap": summary.overfitting_gap,
        "degradation": summary.degradation and asdict(summary.degradation),
        **{name: getattr(summary, name) for name in COUNTS},
    }
    return {name: replace_nonfinite(value) for name, value in made.items()}


def _plain_estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "n_seeds", "n_examples")}


def _nested(comparison: Comparison, sort: str) -> dict[str, Any]:
    said = write_sentences(comparison)
    levels = [
        {
            "corruption_rate": level.corruption_rate,
            "verdict": text,
            "recommended": list(level.recommended),
            "baseline": level.baseline,
            "rope": abs(level.scale.to_display(level.scale.rope)),
            "unit": level.scale.unit.strip(),
            "n_test_rows": level.sample.n_examples,
            "n_test_groups": level.sample.n_groups,
            "speaks_for": speaks_for(level),
            "narrowed_by": narrowed_by(level),
            "identical": [list(pair) for pair in level.identical],
            "losses": [_plain(row, level) for row in sort_rows(level, sort)],
            "interactions": [asdict(one) for one in level.interactions],
        }
        for level, text in zip(comparison.levels, said, strict=True)
    ]
    made = {
        "title": title(comparison),
        "settings": {**comparison.settings, "corruption": comparison.corruption},
        "metric": comparison.first.metric,
        "higher_is_better": comparison.first.higher_is_better,
        "confidence": comparison.confidence,
        "baseline_predictor": comparison.baseline_predictor,
        "target": comparison.target,
        "rates": levels,
        "robustness": [
            {**asdict(one), "values": {f"{r:g}": v for r, v in one.values.items()}}
            for one in measure_robustness(comparison)
        ],
        "notes": explain_comparison(comparison),
    }
    plain: dict[str, Any] = replace_nonfinite(made)
    return plain


def _plain(row: Row, level: Level) -> dict[str, Any]:
    summary, last = row.summary, row.summary.last
    return {
        "name": row.name,
        **{name: getattr(summary, name) for name in NAMES},
        **{name: summary.settings.get(name) for name in ("head", "lr")},
        "corruption_rate": level.corruption_rate,
        "metric": summary.metric,
        "value": last.value if last else math.nan,
        "low": last.low if last else math.nan,
        "high": last.high if last else math.nan,
        "speaks_for": last.speaks_for if last else "nothing",
        "best_epoch": summary.best.value if summary.best else math.nan,
        **_difference(row.against, level),
        "recommended": row.recommended,
        "beaten_by": row.beaten.other if row.beaten else None,
        "steps_to_target": row.steps.median if row.steps else math.nan,
        "seeds_at_target": row.steps.n_reached if row.steps else None,
        "seconds_to_target": row.seconds,
        "aulc": summary.aulc,
        "overfitting_gap": summary.overfitting_gap,
        "wall_seconds": summary.wall_seconds,
        "ease_of_tuning": row.tuned.ease,
        "n_settings": row.tuned.n_tried,
        "n_learning_rates": len(row.tuned.tried),
        "n_tuning_seeds": row.tuned.n_seeds,
        "tuned_fields": row.tuned.fields,
        "gradient_norm": summary.gradient_norm,
        **{name: getattr(summary, name) for name in ("n_trials", "n_diverged", "n_failed", "n_skipped")},
    }


def _difference(found: Difference | None, level: Level) -> dict[str, Any]:
    names = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    names |= {name: name for name in ("better", "more_seeds")}
    told = {name: getattr(found, field) if found else math.nan for name, field in names.items()}
    verdict = str(found.verdict) if found else None
    return {"baseline": level.baseline, **told, "unit": level.scale.unit.strip(), "verdict": verdict}
