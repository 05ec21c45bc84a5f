"""Analysis: from records to summaries, comparisons, robustness and rankings. All are values; nothing is drawn here.

`read_study` reads records, `Study.summarise` averages trials over seeds, `compare` gives differences with verdicts at
each corruption rate, `measure_robustness` follows losses over corruption rates, `rank_losses` and `compute_profiles`
over data sets.
"""

from lossbench.analysis.comparison import Comparison, ComparisonOptions, RateComparison, Row, compare
from lossbench.analysis.intervals import Estimate
from lossbench.analysis.pairwise import Difference
from lossbench.analysis.rankings import PerformanceProfile, Ranking, compute_profiles, rank_losses
from lossbench.analysis.robustness import Robustness, measure_robustness
from lossbench.analysis.study import Study, read_study
from lossbench.analysis.summary import Degradation, StepsToTarget, Summary, summarise
from lossbench.analysis.verdicts import Verdict

__all__ = [
    "Comparison",
    "ComparisonOptions",
    "Degradation",
    "Difference",
    "Estimate",
    "PerformanceProfile",
    "Ranking",
    "RateComparison",
    "Robustness",
    "Row",
    "StepsToTarget",
    "Study",
    "Summary",
    "Verdict",
    "compare",
    "compute_profiles",
    "measure_robustness",
    "rank_losses",
    "read_study",
    "summarise",
]
