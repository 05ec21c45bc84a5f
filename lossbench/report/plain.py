"""A summary as plain values, for programs."""

import math
from dataclasses import asdict
from typing import Any

from lossbench.analysis import Estimate, Summary

COUNTS = (
    *("seeds", "trials", "diverged", "n_trials", "n_diverged", "n_failed", "n_skipped"),
    *("reasons", "notes", "wall_seconds"),
)
LEVELS = ("higher_is_better", "perfect", "trivial", "target")


def plain(summary: Summary) -> dict[str, Any]:
    """Names and settings, estimates with their intervals, counts and reasons. What is not finite is None."""
    names = ("loss", "weighting", "corruption", "rate", "realised_rate")
    made = {
        **{name: getattr(summary, name) for name in names},
        **summary.settings,
        "metric": summary.metric,
        **{name: getattr(summary, name) for name in LEVELS},
        "last": _estimate(summary.last),
        "best": _estimate(summary.best),
        "steps_to_target": summary.steps and asdict(summary.steps),
        "area": summary.area,
        "gap": summary.gap,
        "degradation": summary.degradation and asdict(summary.degradation),
        **{name: getattr(summary, name) for name in COUNTS},
    }
    return {name: finite(value) for name, value in made.items()}


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "n_seeds", "n_examples")}


def finite(value: Any) -> Any:
    """`value` with None for every number in it that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
