"""Data with a known truth, for `scripts/calibrate.py`: a plug-in file with data sets, metrics and losses.

`draw` numbers the draws of one population. Training and validation rows have noise, as a user's do; test rows have the
value that is to be learned (a mean, a rate, a quantile), so that what is measured on them is the distance from the
truth. The pool of 1,250 rows is split anew for each seed: 1,000 to train on, 250 to validate.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import lossbench
from lossbench.interfaces.metric import ExampleMetric
from lossbench.types import Encoding, Examples, Space
from lossbench.validation import check_count, check_nonnegative

Array = NDArray[np.float64]
POOL = 1250
QUANTILE = 0.9
OUTPUTS = 8


def generator(name: str, draw: int) -> np.random.Generator:
    """Independent for each population and draw."""
    return np.random.default_rng([draw, *name.encode()])


def surface(x: Array) -> Array:
    """A function of two inputs in [-1, 1], with mean 0 and standard deviation 1; `[N, 2]` to `[N]`."""
    return np.sin(3 * x[:, 0]) + 1.2 * x[:, 0] * x[:, 1] + x[:, 1]


NOISE = {
    "gaussian": lambda g, x: g.normal(size=len(x)),
    "laplace": lambda g, x: g.laplace(scale=np.sqrt(0.5), size=len(x)),
    "student_t2": lambda g, x: 0.5 * g.standard_t(2, len(x)),
    "small": lambda g, x: 0.3 * g.normal(size=len(x)),
}
"""By name: of standard deviation 1, 1, infinite and 0.3."""


def split_off(inputs: Array, targets: Array, n_test: int) -> Examples:
    """The last `n_test` rows are the test split."""
    rows = np.arange(len(inputs))
    return Examples(inputs.astype(np.float32), targets[:, None], test=rows[len(rows) - n_test :])


@dataclass(frozen=True)
class _Drawn(lossbench.Dataset):
    """What the drawn data sets share."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    draw: int = 0
    n_test: int = 500

    def __post_init__(self) -> None:
        check_nonnegative(self, draw=self.draw)
        check_count(self, n_test=self.n_test)

    def _inputs(self, name: str, width: int = 2) -> tuple[np.random.Generator, Array]:
        own = generator(name, self.draw)
        return own, own.uniform(-1, 1, (POOL + self.n_test, width))


@dataclass(frozen=True)
class Noisy(_Drawn):
    """`surface`, with noise on the pool; the truth is its mean, which for noise that is symmetric is its median."""

    noise: str = "gaussian"

    def load(self) -> Examples:
        own, x = self._inputs(self.noise)
        targets = surface(x)
        targets[:POOL] += NOISE[self.noise](own, x[:POOL])
        return split_off(x, targets, self.n_test)


@dataclass(frozen=True)
class Uneven(_Drawn):
    """`surface`, with noise of a standard deviation from 0.05 to 3, evenly in its logarithm, by a third input."""

    def load(self) -> Examples:
        own, x = self._inputs("uneven", 3)
        targets = surface(x)
        targets[:POOL] += (0.05 * 60 ** ((x[:, 2] + 1) / 2) * own.normal(size=len(x)))[:POOL]
        return split_off(x, targets, self.n_test)


@dataclass(frozen=True)
class Counts(_Drawn):
    """Poisson counts whose rates lie between 1 and 100, mostly; the truth is the rate."""

    def load(self) -> Examples:
        own, x = self._inputs("counts")
        rates = 10 ** (1 + surface(x) / 2.5)
        return split_off(x, np.append(own.poisson(rates[:POOL]), rates[POOL:]).astype(float), self.n_test)


@dataclass(frozen=True)
class UpperEdge(_Drawn):
    """`surface` and uniform noise, wider at one end than at the other; the truth is the 0.9-quantile."""

    def load(self) -> Examples:
        own, x = self._inputs("upper_edge")
        share = np.append(own.random(POOL), np.full(self.n_test, QUANTILE))
        return split_off(x, surface(x) + (2 + x[:, 1]) * share, self.n_test)


@dataclass(frozen=True)
class Exchangeable(_Drawn):
    """Eight outputs, output k being `surface` of the inputs k, k+1, ... of eight (in a circle), with noise everywhere.

    Inputs are independent and alike, so what is true of one output is true of each.
    """

    def load(self) -> Examples:
        own, x = self._inputs("exchangeable", OUTPUTS)
        targets = np.stack([surface(np.roll(x, -k, axis=1)[:, :2]) for k in range(OUTPUTS)], axis=1)
        targets += 0.3 * own.normal(size=targets.shape)
        return Examples(x.astype(np.float32), targets, test=np.arange(POOL, len(x)))


@dataclass(frozen=True)
class DrawnDigits(lossbench.Dataset):
    """scikit-learn's digits in an order of its own for each draw: 1,250 rows as the pool, 547 to test."""

    tasks: ClassVar[tuple[str, ...]] = ("multiclass",)
    draw: int = 0

    def load(self) -> Examples:
        images, labels = digits()
        order = generator("digits", self.draw).permutation(len(labels))
        return Examples(images[order], labels[order], test=np.arange(POOL, len(order)))


@dataclass(frozen=True)
class LongTail(lossbench.Dataset):
    """The same, 50 of each digit to test; of the rest 124 zeros, and fewer of each later digit, down to 2 nines."""

    tasks: ClassVar[tuple[str, ...]] = ("multiclass",)
    draw: int = 0

    def load(self) -> Examples:
        images, labels = digits()
        order = generator("long_tail", self.draw).permutation(len(labels))
        rows = [order[labels[order] == digit] for digit in range(10)]
        pool = np.concatenate([own[50 : 50 + round(124 * 50 ** (-digit / 9))] for digit, own in enumerate(rows)])
        picked = np.concatenate([pool, *(own[:50] for own in rows)])
        return Examples(images[picked], labels[picked], test=np.arange(len(pool), len(picked)))


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32), labels.astype(np.int64)


@dataclass(frozen=True)
class UpperPinball(ExampleMetric):
    """The pinball loss at 0.9. On true quantiles: the distance from them, too low counting nine times too high."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        short = (target - prediction).mean(-1)
        return torch.maximum(QUANTILE * short, (QUANTILE - 1) * short)


@dataclass(frozen=True)
class PoissonDeviance(ExampleMetric):
    """Twice the log likelihood that counts lose by the predicted rates, taken for at least 0.01."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        rate = prediction.clamp_min(0.01)
        # a mean over non-finite predictions stays not finite: clamp keeps NaN, and infinite rates lose infinitely
        return 2 * (torch.xlogy(target, target / rate) - target + rate).mean(-1)


@dataclass(frozen=True)
class AllBut(lossbench.Loss):
    r"""Half the squared error, one output being taught nothing but its mean.

    .. math:: \ell = \frac{1}{2 D} \Big(\hat y_k^2 + \sum_{d \ne k} (\hat y_d - y_d)^2\Big)
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    without: float = 0.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        taught = torch.arange(prediction.shape[-1], device=prediction.device) != self.without
        return (prediction - target * taught).square().mean(-1) / 2
