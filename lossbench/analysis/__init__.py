"""Analysis: numbers and intervals from records, as pure functions on arrays and tables."""

from lossbench.analysis.intervals import Estimate, estimate_over_seeds, interval
from lossbench.analysis.summary import Degradation, Reach, Summary, area, degradation, reach, steps_to_target, summarise

__all__ = [
    "Degradation",
    "Estimate",
    "Reach",
    "Summary",
    "area",
    "degradation",
    "estimate_over_seeds",
    "interval",
    "reach",
    "steps_to_target",
    "summarise",
]
