"""Losses that were trained at several learning rates: which rate each is compared at, and how much hangs on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.scale import Scale
from lossbench.analysis.summary import Summary


@dataclass(frozen=True)
class Tuned:
    """A loss at its learning rate.

    tried: the learning rates on record, rising.
    ease: the share of them whose test metric is, in practice, as good as the best one's; NaN where one was tried.
    """

    summary: Summary
    tried: tuple[float, ...]
    ease: float

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the lowest or the highest of several: a better one may lie beyond."""
        return len(self.tried) > 1 and self.summary.settings["lr"] in (self.tried[0], self.tried[-1])


def tune(found: Sequence[Summary], scale: Scale) -> Tuned:
    """The loss at the learning rate with the best validation metric at the last epoch, seeds that diverged coming last.

    found: the same loss and all else, at one learning rate each.
    """
    ordered = sorted(found, key=_learning_rate)
    best = min(ordered, key=lambda s: (_share_lost(s), _badness(s)))
    return Tuned(best, tuple(_learning_rate(s) for s in ordered), _ease(ordered, scale))


def _learning_rate(summary: Summary) -> float:
    return float(summary.settings.get("lr") or 0)


def _share_lost(summary: Summary) -> float:
    return 1 - len(summary.trials) / max(summary.n_trials, 1)


def _badness(summary: Summary) -> float:
    value = -summary.validation if summary.higher_is_better else summary.validation
    return value if np.isfinite(value) else np.inf


def _ease(found: Sequence[Summary], scale: Scale) -> float:
    if len(found) < 2:
        return np.nan
    values = np.array([s.last.value if s.last and not s.n_diverged else np.nan for s in found])
    harm = scale.of_values(values)
    near = harm <= np.nanmin(harm) + scale.rope if np.isfinite(harm).any() else np.zeros(len(found), bool)
    return float(near.mean())
