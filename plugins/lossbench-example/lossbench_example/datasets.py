"""A data set: a frozen dataclass that gives the same examples at every call."""

from dataclasses import dataclass

import numpy as np

from lossbench import Dataset
from lossbench.types import Examples
from lossbench.validation import check_count


@dataclass(frozen=True)
class PoissonCounts(Dataset):
    r"""Poisson counts whose rate depends smoothly on three of five uniform inputs.

    .. math:: y \sim \text{Poisson}(\mu), \quad \log\mu = 2 x_1 - x_2 + \sin(\pi x_3)

    inputs ``[n, 5]`` in [0, 1]; targets ``[n, 1]``, whole numbers from 0.
    """

    tasks = ("counts", "regression")
    source = "computed by NumPy"
    n: int = 1000
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, n=self.n)
        check_count(self, least=0, random_state=self.random_state)

    def load(self) -> Examples:
        """The same `n` examples at every call."""
        generator = np.random.default_rng(self.random_state)
        x = generator.uniform(size=(self.n, 5))
        rate = np.exp(2 * x[:, 0] - x[:, 1] + np.sin(np.pi * x[:, 2]))
        return Examples(x.astype(np.float32), generator.poisson(rate)[:, None].astype(np.float64))
