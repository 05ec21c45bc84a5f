"""The pairs of losses at one corruption rate, by name and in the units that people read."""

from dataclasses import dataclass

import numpy as np

from lossbench.analysis.rivals import Rivals
from lossbench.analysis.scale import Scale
from lossbench.analysis.verdicts import Verdict, VerdictTable, estimate_more_seeds


@dataclass(frozen=True)
class Difference:
    """The difference of one loss from another, in the scale's unit and the metric's direction: + is more accuracy.

    probability_better: the probability that the first is better at all.
    more_seeds: the number that would settle an inconclusive verdict; infinite where none would, NaN where that cannot
        be known.
    n_seeds: the seeds that both have.
    seed_share: the seeds' share of the variance. Near 1 more seeds narrow the interval, near 0 only more test examples.
    """

    other: str
    value: float
    low: float
    high: float
    verdict: Verdict
    probability_better: float
    more_seeds: float
    n_seeds: int
    seed_share: float = np.nan


class PairwiseDifferences:
    """All pairs of the losses at one corruption rate."""

    def __init__(self, rivals: Rivals, judgement: VerdictTable, scale: Scale, confidence: float) -> None:
        self.rivals, self.judgement, self.scale, self.alpha = rivals, judgement, scale, 1 - confidence
        self._low, self._high = rivals.differences.compute_limits(confidence)
        self._better = rivals.differences.compute_probability_better()

    def get_difference(self, name: str, other: str) -> Difference | None:
        """Return a loss's difference from another.

        None from itself, where one has no finished trial, and where they have no seed in common.
        """
        names, differences = self.rivals.names, self.rivals.differences
        if name not in names or other not in names or name == other:
            return None
        pair = names.index(name), names.index(other)
        if not differences.n_seeds[pair]:
            return None
        value, *limits = (
            self.scale.to_display(float(harm[pair])) for harm in (differences.value, self._low, self._high)
        )
        verdict = Verdict(self.judgement.verdicts[pair])
        is_open = verdict is Verdict.INCONCLUSIVE and not self.judgement.withheld[pair]
        variance = float(differences.seed_variance[pair] + differences.example_variance[pair])
        return Difference(
            other=other,
            value=value,
            low=min(limits),
            high=max(limits),
            verdict=verdict,
            probability_better=0.5 if self.rivals.identical[pair] else float(self._better[pair]),
            more_seeds=estimate_more_seeds(differences, pair, self.scale.rope, self.alpha) if is_open else np.nan,
            n_seeds=int(differences.n_seeds[pair]),
            seed_share=float(differences.seed_variance[pair]) / variance if variance > 0 else np.nan,
        )

    def find_surest_defeat(self, name: str) -> Difference | None:
        """Return the difference from the rival that most surely beats a loss by more than the ROPE, None if none does.

        A recommended rival is preferred.
        """
        if name not in self.rivals.names:
            return None
        t = self.judgement.defeat_t[self.rivals.names.index(name)]  # [L], 0 where it is not beaten
        recommended = np.where(self.judgement.recommended, t, 0)
        t = recommended if recommended.any() else t
        return self.get_difference(name, self.rivals.names[int(t.argmax())]) if t.max() > 0 else None

    def is_recommended(self, name: str) -> bool:
        """Return whether no other loss is shown to beat it by more than the ROPE."""
        names = self.rivals.names
        return name in names and bool(self.judgement.recommended[names.index(name)])
