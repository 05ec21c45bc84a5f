"""Numbers read off curves and rates: how soon, how well on the way, how much is lost to corruption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.types import Array


@dataclass(frozen=True)
class Reach:
    """Steps to the target over seeds."""

    median: float  # infinite where half of the trials or more did not reach it
    n_reached: int
    n_trials: int


@dataclass(frozen=True)
class Degradation:
    """What corruption costs; positive is worse than rate 0."""

    value: float
    unit: str  # "points" (hundredths of a perfect value) | "%"
    n_pairs: int  # seeds that are there at both rates


def steps_to_target(steps: Array, curve: Array, target: float, higher_is_better: bool) -> float:
    """The step of the first evaluation at which `curve` is at least as good as `target`; infinite if none is.

    steps, curve: ``[E]``. Values that are not finite reach nothing.
    """
    curve = np.asarray(curve, np.float64)
    good = np.isfinite(curve) & ((curve >= target) if higher_is_better else (curve <= target))
    return float(np.asarray(steps)[good.argmax()]) if good.any() else np.inf


def reach(steps: Sequence[float]) -> Reach:
    """The median over trials, those that never arrived being infinite (censored)."""
    values = np.sort(np.asarray(steps, np.float64))
    lower, upper = values[(len(values) - 1) // 2], values[len(values) // 2]
    return Reach(float((lower + upper) / 2), int(np.isfinite(values).sum()), len(values))


def area(steps: Array, curve: Array) -> float:
    r"""The mean height of `curve` over the training, by the trapezoid rule; NaN if a value is not finite.

    .. math:: \frac{1}{x_E - x_1} \sum_i (x_{i+1} - x_i) (y_i + y_{i+1}) / 2

    steps: ``[E]``, rising. curve: ``[E]``. Returns the curve's unit: low is good for errors, high for scores.
    """
    steps, curve = np.asarray(steps, np.float64), np.asarray(curve, np.float64)
    if len(curve) < 2:
        return float(curve[0]) if len(curve) else np.nan
    return float(np.diff(steps) @ (curve[1:] + curve[:-1]) / 2 / (steps[-1] - steps[0]))


def degradation(
    at_rate: Mapping[int, float], at_zero: Mapping[int, float], higher_is_better: bool, perfect: float
) -> Degradation | None:
    r"""What the metric loses against rate 0, paired by seed; positive is worse. None without a pair.

    Where higher is better, in points: the mean of :math:`100 (y_0 - y) / y_\mathrm{perfect}`. For errors, in percent:
    :math:`100 (\exp \mathrm{mean} \log (y / y_0) - 1)`, the scale on which errors are compared; None where one is
    not positive.

    at_rate, at_zero: the metric by seed.
    """
    seeds = [seed for seed, value in at_rate.items() if np.isfinite(value) and np.isfinite(at_zero.get(seed, np.nan))]
    if not seeds:
        return None
    here = np.array([at_rate[seed] for seed in seeds])
    there = np.array([at_zero[seed] for seed in seeds])
    if higher_is_better:
        scale = perfect if np.isfinite(perfect) and perfect > 0 else 1.0
        return Degradation(float(100 * (there - here).mean() / scale), "points", len(seeds))
    if min(here.min(), there.min()) <= 0:
        return None
    return Degradation(float(100 * np.expm1(np.log(here / there).mean())), "%", len(seeds))
