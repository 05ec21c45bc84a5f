"""Small regression data sets with several targets, which come with scikit-learn or are computed."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Dataset
from lossbench.types import Examples
from lossbench.validation import check_at_least, check_count, check_nonnegative


@dataclass(frozen=True)
class Linnerud(Dataset):
    """Weight, waist and pulse of 20 men from how many chin-ups, sit-ups and jumps they could do.

    inputs `[20, 3]`; targets `[20, 3]` in pounds, inches and beats per minute. Twenty examples show how a command is
    written, but say nothing about losses.
    Reference: Tenenhaus, La régression PLS: théorie et pratique, 1998.
    """

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    source: ClassVar[str] = "A. C. Linnerud, NC State University, as shipped with scikit-learn; no licence is stated"

    def load(self) -> Examples:
        """Return all 20 men."""
        from sklearn.datasets import load_linnerud

        bunch = load_linnerud()
        names = tuple(name.lower() for name in bunch.target_names)
        return Examples(bunch.data.astype(np.float32), bunch.target.astype(np.float64), names)


@dataclass(frozen=True)
class FriedmanOutputs(Dataset):
    r"""Friedman's first function of rotated inputs: several related targets, each noisier than the one before.

    .. math:: y_k = f(x_{1+k}, x_{2+k}, \dots) + \text{noise} \cdot \text{growth}^k \cdot N(0, 1)

    inputs `[n, 10]` in [0, 1], rotated by k places (mod 10) for output k, from 0; targets `[n, outputs]`, called y0, y1
    and so on. f is the function of `friedman1`. A loss has to weigh the noisy targets, as all share the layers.
    Reference: Friedman, Multivariate Adaptive Regression Splines, 1991, https://doi.org/10.1214/aos/1176347963
    """

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    source: ClassVar[str] = "computed with sklearn.datasets.make_friedman1's function"
    n: int = 1000
    outputs: int = 3
    noise: float = 0.5
    growth: float = 4.0
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, n=self.n, outputs=self.outputs)
        check_count(self, least=0, random_state=self.random_state)
        check_nonnegative(self, noise=self.noise)
        check_at_least(self, 1, growth=self.growth)

    def load(self) -> Examples:
        """Return `n` examples; every call returns the same."""
        generator = np.random.default_rng(self.random_state)
        inputs = generator.random((self.n, 10))
        noise = generator.standard_normal((self.n, self.outputs))
        clean = np.stack([friedman1(np.roll(inputs, -k, axis=1)) for k in range(self.outputs)], 1)
        targets = clean + self.noise * self.growth ** np.arange(self.outputs) * noise
        return Examples(inputs.astype(np.float32), targets, tuple(f"y{k}" for k in range(self.outputs)))


def friedman1(x: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return Friedman's first function of inputs `[n, 10]`, without noise."""
    return 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
