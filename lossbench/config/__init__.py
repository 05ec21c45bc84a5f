"""The typed configuration: its schema, its choices from the registry, and its meaning."""

from lossbench.config.experiment import Experiment
from lossbench.config.resolve import Combinations, combinations, resolve

__all__ = ["Combinations", "Experiment", "combinations", "resolve"]
