"""What a run leaves: the experiments that are reported, and those that settings were chosen by."""

from dataclasses import dataclass

from lossbench.config.choices import Experiment


@dataclass(frozen=True)
class Trained:
    """What became of one configuration."""

    experiments: tuple[Experiment, ...]
    tuning: tuple[Experiment, ...] = ()
