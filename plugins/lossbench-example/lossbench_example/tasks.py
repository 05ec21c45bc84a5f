"""A task that is a variant of a built-in one: its own metrics and defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.tasks import Regression
from lossbench.types import Array, Problem


@dataclass(frozen=True)
class Counts(Regression):
    """D counts per example: targets `[N, D]`, floats that are not negative.

    A regression but for its metrics and defaults. It takes all that is made for regression, as `like` says; of that,
    mishaps that leave no whole numbers are meant, too: Poisson's likelihood asks for none.
    """

    like = ("regression",)
    metrics = ("rmse", "mae", "within_one")
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "poisson_nll",
        "data": "poisson_counts",
        "model": "mlp",
        "corruption": "underreporting",
    }
    shortlist = ("poisson_nll", "negative_binomial", "mse", "mae")

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """The mean of each target, `[n, D]`: the best constant for the root mean squared error, the first metric."""
        return np.tile(targets.mean(0), (n, 1))
