"""Losses that were trained at several settings: which each is compared at, and how much hangs on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.scale import Scale
from lossbench.analysis.summary import Summary


@dataclass(frozen=True)
class Tuned:
    """A loss at the learning rate, and with the fields, that it is compared at.

    candidates: the settings that it was chosen from, each with all its trials.
    tried: their learning rates, rising.
    n_tried: how many settings these made, with the loss's own fields where they are tuned.
    n_seeds: on how many seeds of its own it was chosen; 0: on those that are reported.
    clean: it was chosen at rate 0, for all rates.
    ease: the share of the settings whose test metric is, in practice, as good as the best one's; NaN of a single one.
    """

    summary: Summary
    candidates: tuple[Summary, ...]
    tried: tuple[float, ...]
    n_tried: int
    n_seeds: int
    clean: bool
    ease: float

    @property
    def loss(self) -> str:
        """The loss, without the fields that were tuned."""
        return get_contender(self.summary)

    @property
    def fields(self) -> str:
        """The fields that were tuned, as chosen: `delta=2.0`. Empty where there are none."""
        given = self.summary.settings.get("contender")
        return self.summary.loss.removeprefix(str(given)).strip("()") if given else ""

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the lowest or the highest of several: a better one may lie beyond."""
        return len(self.tried) > 1 and get_learning_rate(self.summary) in (self.tried[0], self.tried[-1])


def tune(reported: Sequence[Summary], candidates: Sequence[Summary], scale: Scale, clean: bool = False) -> Tuned:
    """The reported trials of a loss with the best setting on record.

    candidates: the same loss on seeds for tuning; without any it is chosen on the reported ones. clean: at rate 0.
    """
    pool = candidates or reported
    at = {_setting(summary): summary for summary in reported}
    chosen = next((at[_setting(s)] for s in rank_settings(pool) if _setting(s) in at), rank_settings(reported)[0])
    seeds = {seed for summary in candidates for seed in summary.seeds}
    rates = tuple(sorted({get_learning_rate(s) for s in pool}))
    return Tuned(chosen, tuple(pool), rates, len(pool), len(seeds), clean and bool(candidates), _ease(pool, scale))


def rank_settings(found: Sequence[Summary]) -> list[Summary]:
    """Best mean validation metric at the last epoch first; settings with more trials that diverged come behind.

    found: the same loss and all else, at one setting each.
    """
    return sorted(found, key=lambda s: (_share_lost(s), _badness(s), get_learning_rate(s)))


def get_contender(summary: Summary) -> str:
    """The loss, under the name for which its variants compete where fields of it are tuned."""
    return str(summary.settings.get("contender") or summary.loss)


def get_learning_rate(summary: Summary) -> float:
    """Of its trials; 0 where records do not tell."""
    return float(summary.settings.get("lr") or 0)


def _setting(summary: Summary) -> tuple[float, str]:
    return get_learning_rate(summary), summary.loss


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
