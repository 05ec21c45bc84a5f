"""The typed configuration: its schema, its choices from the registry, and its meaning."""

from lossbench.config.experiment import Experiment
from lossbench.config.resolve import Combinations, combinations, resolve
from lossbench.config.store import register_choices

__all__ = ["Combinations", "Experiment", "combinations", "register_choices", "resolve"]
