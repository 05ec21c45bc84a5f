"""The result of a run: the experiments that are reported, and those that settings were chosen by."""

from dataclasses import dataclass

from lossbench.config.choices import Experiment


@dataclass(frozen=True)
class PlanResult:
    """The trained experiments of one plan."""

    experiments: tuple[Experiment, ...]  # reported
    tuning: tuple[Experiment, ...] = ()  # chose the settings of the reported ones
