"""Run experiments: what is missing, who trains it, where, and what is told meanwhile. No terminal, no Hydra."""

from lossbench.runner.reporter import Level, Progress, Reporter, Reporters, SilentReporter
from lossbench.runner.runner import run, train
from lossbench.runner.trained import Trained

__all__ = ["Level", "Progress", "Reporter", "Reporters", "SilentReporter", "Trained", "run", "train"]
