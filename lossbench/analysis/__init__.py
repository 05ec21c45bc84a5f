"""Analysis: numbers and intervals from records, as pure functions on arrays and tables."""

from lossbench.analysis.intervals import Estimate, interval, interval_over_seeds
from lossbench.analysis.summary import Degradation, Reach, Summary, area, degradation, reach, steps_to_target, summarise

__all__ = [
    "Degradation",
    "Estimate",
    "Reach",
    "Summary",
    "area",
    "degradation",
    "interval",
    "interval_over_seeds",
    "reach",
    "steps_to_target",
    "summarise",
]
