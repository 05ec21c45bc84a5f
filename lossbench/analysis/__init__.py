"""Analysis: numbers and intervals from records, as pure functions on arrays and tables."""

from lossbench.analysis.intervals import Estimate, estimate_interval, estimate_over_seeds
from lossbench.analysis.summary import (
    Degradation,
    Reach,
    Summary,
    area_under_curve,
    measure_degradation,
    measure_reach,
    steps_to_target,
    summarise,
)

__all__ = [
    "Degradation",
    "Estimate",
    "Reach",
    "Summary",
    "area_under_curve",
    "estimate_interval",
    "estimate_over_seeds",
    "measure_degradation",
    "measure_reach",
    "steps_to_target",
    "summarise",
]
