"""The scale on which metrics are compared, and the region of practical equivalence (ROPE) on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.intervals import linearise_root
from lossbench.types import Array

ROPE_PERCENT, ROPE_POINTS = 2.0, 1.0
"""The default ROPE: smaller differences, in errors and in accuracy or overlap, do not matter in practice."""


@dataclass(frozen=True)
class Scale:
    """The scale of differences. Harm is a number that grows as a metric gets worse, and differences are taken on it.

    log: harm is the logarithm of an error, and a difference a ratio. Otherwise it is the metric as a share of
        `reference`.
    rope: the region of practical equivalence, as a difference in harm.
    """

    log: bool
    higher_is_better: bool
    reference: float
    rope: float

    @property
    def unit(self) -> str:
        """The unit in which differences are shown."""
        return " points" if self.higher_is_better else "%"

    def to_display(self, harm: float) -> float:
        """Convert a difference in harm to one in the metric, in `unit`. For accuracy, more is better."""
        if self.log:
            return float(100 * np.expm1(harm))  # log(b / a) to the percentage by which b exceeds a
        return -100 * harm if self.higher_is_better else 100 * harm

    def compute_harm(self, values: Array) -> Array:
        """Convert values of a metric to harm, elementwise."""
        values = np.asarray(values, np.float64)
        harm: Array = np.log(values) if self.log else values * (-1 if self.higher_is_better else 1) / self.reference
        return harm

    def compute_harm_per_example(self, scores: Array, transform: str) -> Array:
        """Convert scores per example to harm per example, linear about each seed's metric.

        The mean over the examples of a seed is then the harm of that seed's metric, to first order.

        scores: ``[S, m]``. transform: ``mean``, or ``root`` of it.
        """
        if not self.log:
            return self.compute_harm(linearise_root(scores) if transform == "root" else scores)
        # log M is log mean + (x - mean) / mean to first order; of a root, half of that
        means = scores.mean(axis=1, keepdims=True)  # [S, 1]
        harm: Array = (np.log(means) + (scores - means) / means) / (2 if transform == "root" else 1)
        return harm


def choose_scale(values: Sequence[float], higher_is_better: bool, perfect: float, rope: float | None = None) -> Scale:
    """Choose the scale for a metric with these values: the logarithm for positive errors, else the metric itself.

    rope: in percent of an error, or in points (hundredths of a perfect value).
    """
    if higher_is_better:
        reference = perfect if np.isfinite(perfect) and perfect > 0 else 1.0
        return Scale(False, True, reference, (ROPE_POINTS if rope is None else rope) / 100)
    share = (ROPE_PERCENT if rope is None else rope) / 100
    if min(values, default=1.0) > 0:
        return Scale(True, False, 1.0, float(np.log1p(share)))
    return Scale(False, False, float(np.abs(values).mean()) or 1.0, share)
