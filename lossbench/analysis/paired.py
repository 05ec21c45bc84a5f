"""What is known of each pair of losses at one rate, by name and in the units that people read."""

from dataclasses import dataclass

import numpy as np

from lossbench.analysis.rivals import Rivals
from lossbench.analysis.scale import Scale
from lossbench.analysis.verdicts import Judgement, Verdict, more_seeds


@dataclass(frozen=True)
class Difference:
    """Of one loss from another, in the scale's unit and in the metric's direction: of accuracy, + is better.

    better: the probability that the first is better at all.
    more_seeds: what would settle an inconclusive verdict; infinite where no number would, NaN where none can be told.
    n_seeds: that both have.
    seed_share: of the variance: near 1, more seeds narrow the interval; near 0, only more test rows do.
    """

    other: str
    value: float
    low: float
    high: float
    verdict: Verdict
    better: float
    more_seeds: float
    n_seeds: int
    seed_share: float = np.nan


class Paired:
    """All pairs of the losses at one rate."""

    def __init__(self, rivals: Rivals, judged: Judgement, scale: Scale, confidence: float) -> None:
        self.rivals, self.judged, self.scale, self.alpha = rivals, judged, scale, 1 - confidence
        self._low, self._high = rivals.found.limits(confidence)
        self._better = rivals.found.better()

    def difference(self, one: str, other: str) -> Difference | None:
        """None of a loss from itself, and where one has no finished trial or they have no seed in common."""
        names, found = self.rivals.names, self.rivals.found
        if one not in names or other not in names or one == other:
            return None
        at = names.index(one), names.index(other)
        if not found.n_seeds[at]:
            return None
        value, *limits = (self.scale.to_display(float(harm[at])) for harm in (found.value, self._low, self._high))
        verdict, same = Verdict(self.judged.verdicts[at]), self.rivals.same[at]
        unsettled = verdict is Verdict.INCONCLUSIVE and not self.judged.flattered[at]
        return Difference(
            other=other,
            value=value,
            low=min(limits),
            high=max(limits),
            verdict=verdict,
            better=0.5 if same else float(self._better[at]),
            more_seeds=more_seeds(found, at, self.scale.rope, self.alpha) if unsettled else np.nan,
            n_seeds=int(found.n_seeds[at]),
            seed_share=_share(float(found.seeds[at]), float(found.examples[at])),
        )

    def beaten(self, name: str) -> Difference | None:
        """The difference from the rival that most surely beats it by more than the ROPE, at best a recommended one."""
        if name not in self.rivals.names:
            return None
        surely = self.judged.beaten[self.rivals.names.index(name)]
        recommended = np.where(self.judged.recommended, surely, 0)
        surely = recommended if recommended.any() else surely
        return self.difference(name, self.rivals.names[int(surely.argmax())]) if surely.max() > 0 else None

    def recommended(self, name: str) -> bool:
        """Whether no other is shown to beat it by more than the ROPE."""
        names = self.rivals.names
        return name in names and bool(self.judged.recommended[names.index(name)])


def _share(part: float, other: float) -> float:
    return part / (part + other) if part + other > 0 else np.nan
