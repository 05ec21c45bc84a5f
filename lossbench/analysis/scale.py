"""On what scale metrics are compared, and how large a difference has to be for anyone to mind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.intervals import linearised
from lossbench.types import Array

ROPE_PERCENT, ROPE_POINTS = 2.0, 1.0
"""Differences in errors, and in accuracy or overlap, that make none in practice."""


@dataclass(frozen=True)
class Scale:
    """Harm: a number that is the higher the worse a metric is, and on which differences are taken.

    log: the logarithm of an error, whose differences are shares; else the metric itself as a share of `reference`.
    rope: the region of practical equivalence, as a difference in harm.
    """

    log: bool
    higher_is_better: bool
    reference: float
    rope: float

    @property
    def unit(self) -> str:
        """What differences are told in."""
        return " points" if self.higher_is_better else "%"

    def to_display(self, harm: float) -> float:
        """A difference in harm as one in the metric, in `unit`: of accuracy, more is better."""
        if self.log:
            return float(100 * np.expm1(harm))
        return -100 * harm if self.higher_is_better else 100 * harm

    def of_values(self, values: Array) -> Array:
        """Harm of a metric's values."""
        values = np.asarray(values, np.float64)
        harm: Array = np.log(values) if self.log else values * (-1 if self.higher_is_better else 1) / self.reference
        return harm

    def of_scores(self, scores: Array, transform: str) -> Array:
        """Harm per example, linearised about each seed's metric, so that its row means are the metric's harm.

        scores: ``[S, m]``. transform: ``mean``, or ``root`` of it.
        """
        if not self.log:
            return self.of_values(linearised(scores) if transform == "root" else scores)
        means = scores.mean(axis=1, keepdims=True)
        harm: Array = (np.log(means) + (scores - means) / means) / (2 if transform == "root" else 1)
        return harm


def scale(values: Sequence[float], higher_is_better: bool, perfect: float, rope: float | None = None) -> Scale:
    """The scale for a metric with these values: of positive errors the logarithm, and of all else the metric itself.

    rope: in percent of an error, or in points (hundredths of a perfect value).
    """
    if higher_is_better:
        reference = perfect if np.isfinite(perfect) and perfect > 0 else 1.0
        return Scale(False, True, reference, (ROPE_POINTS if rope is None else rope) / 100)
    share = (ROPE_PERCENT if rope is None else rope) / 100
    if min(values, default=1.0) > 0:
        return Scale(True, False, 1.0, float(np.log1p(share)))
    return Scale(False, False, float(np.abs(values).mean()) or 1.0, share)
