"""Selection of the setting (learning rate, tuned fields) at which each loss is compared, and how much hangs on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.scale import Scale
from lossbench.analysis.summary import Summary


@dataclass(frozen=True)
class Tuned:
    """A loss at the setting that was selected for it: its learning rate, and its fields where these are tuned.

    candidates: the settings it was selected from, each with all its trials.
    tried: their learning rates, rising.
    n_tried: the number of settings.
    n_seeds: the number of tuning seeds; 0 where it was selected on the reported ones.
    clean: selected at corruption rate 0, for all rates.
    ease: the share of the settings whose test metric is within the ROPE of the best one's; NaN of a single setting.
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
        """The loss without its tuned fields."""
        return get_contender(self.summary)

    @property
    def fields(self) -> str:
        """The tuned fields as selected, `delta=2.0`; empty where there are none."""
        contender = self.summary.settings.get("contender")
        return self.summary.loss.removeprefix(str(contender)).strip("()") if contender else ""

    @property
    def at_edge(self) -> bool:
        """True where the selected learning rate is at an end of the grid: a better one may lie beyond."""
        return len(self.tried) > 1 and get_learning_rate(self.summary) in (self.tried[0], self.tried[-1])


def select_setting(
    reported: Sequence[Summary], candidates: Sequence[Summary], scale: Scale, clean: bool = False
) -> Tuned:
    """Select the setting of a loss that is best by validation, and return its reported trials.

    candidates: the same loss on tuning seeds; without any the reported trials decide. clean: these are at rate 0.
    """
    pool = candidates or reported
    by_setting = {(get_learning_rate(summary), summary.loss): summary for summary in reported}
    ranked = [by_setting.get((get_learning_rate(s), s.loss)) for s in rank_settings(pool)]
    selected = next((summary for summary in ranked if summary), rank_settings(reported)[0])
    # the share of settings within the ROPE of the best, on test
    ease = np.nan
    if len(pool) > 1:
        harm = scale.compute_harm(np.array([s.last.value if s.last and not s.n_diverged else np.nan for s in pool]))
        ease = float((harm <= np.nanmin(harm) + scale.rope).mean()) if np.isfinite(harm).any() else 0.0
    return Tuned(
        summary=selected,
        candidates=tuple(pool),
        tried=tuple(sorted({get_learning_rate(summary) for summary in pool})),
        n_tried=len(pool),
        n_seeds=len({seed for summary in candidates for seed in summary.seeds}),
        clean=clean and bool(candidates),
        ease=ease,
    )


def rank_settings(summaries: Sequence[Summary]) -> list[Summary]:
    """Sort the summaries of one loss at several settings, the best mean validation metric at the last epoch first.

    Settings with a larger share of diverged trials come behind; of equal ones the lower learning rate comes first.
    """

    def rank(summary: Summary) -> tuple[float, float, float]:
        lost = 1 - len(summary.trials) / max(summary.n_trials, 1)
        harm = -summary.validation if summary.higher_is_better else summary.validation
        return lost, harm if np.isfinite(harm) else np.inf, get_learning_rate(summary)

    return sorted(summaries, key=rank)


def get_contender(summary: Summary) -> str:
    """Return the name under which variants of a loss compete as one: the loss without its tuned fields."""
    return str(summary.settings.get("contender") or summary.loss)


def get_learning_rate(summary: Summary) -> float:
    """Return the learning rate of a summary's trials; 0 where the records do not hold it."""
    return float(summary.settings.get("lr") or 0)
