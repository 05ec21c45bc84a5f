"""The typed configuration: its schema, its choices from the registry, and its meaning."""

from lossbench.config.experiment import Experiment
from lossbench.config.resolve import resolve
from lossbench.config.store import register_choices

__all__ = ["Experiment", "register_choices", "resolve"]
