"""The public Python API: run experiments, read records, compare, plot, recommend. The command line is a thin user."""

from lossbench.study.api import load, run
from lossbench.study.comparison import Comparison
from lossbench.study.recommendation import Recommendation
from lossbench.study.results import Results

__all__ = ["Comparison", "Recommendation", "Results", "load", "run"]
