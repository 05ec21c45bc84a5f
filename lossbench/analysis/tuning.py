"""Selection of the setting (learning rate, tuned fields) at which each loss is compared, and how much hangs on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.analysis.scale import Scale
from lossbench.analysis.summary import Summary


@dataclass(frozen=True)
class TunedLoss:
    """A loss at the setting that was selected for it: its learning rate, and its fields where these are tuned.

    candidates: the settings it was selected from, each with all its trials.
    learning_rates: those of the candidates, rising.
    n_settings: the number of settings.
    n_seeds: the number of tuning seeds; 0 where it was selected on the reported ones.
    only_at_rate_zero: selected at corruption rate 0 for all rates.
    ease_of_tuning: the share of the settings whose test metric is within the ROPE of the best one's; NaN for a single
        setting.
    """

    summary: Summary
    candidates: tuple[Summary, ...]
    learning_rates: tuple[float, ...]
    n_settings: int
    n_seeds: int
    only_at_rate_zero: bool
    ease_of_tuning: float

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
        ends = self.learning_rates[0], self.learning_rates[-1]
        return len(self.learning_rates) > 1 and get_learning_rate(self.summary) in ends


def select_setting(
    reported: Sequence[Summary], candidates: Sequence[Summary], scale: Scale, only_at_rate_zero: bool = False
) -> TunedLoss:
    """Select the setting of a loss that is best by validation, and return its reported trials.

    candidates: the same loss on tuning seeds; without any the reported trials decide.
    only_at_rate_zero: the candidates were trained at corruption rate 0.
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
    return TunedLoss(
        summary=selected,
        candidates=tuple(pool),
        learning_rates=tuple(sorted({get_learning_rate(summary) for summary in pool})),
        n_settings=len(pool),
        n_seeds=len({seed for summary in candidates for seed in summary.seeds}),
        only_at_rate_zero=only_at_rate_zero and bool(candidates),
        ease_of_tuning=ease,
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
