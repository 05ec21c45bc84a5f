"""Interactions of losses and weightings: differences of differences."""

from collections.abc import Mapping
from dataclasses import dataclass

from lossbench.analysis.differences import compute_contrast
from lossbench.analysis.rivals import Rivals
from lossbench.analysis.scale import Scale
from lossbench.analysis.tuning import TunedLoss


@dataclass(frozen=True)
class WeightingInteraction:
    """The effect of `weighting` on `loss` minus its effect on `other_loss`, both against `other_weighting`.

    It is in the scale's unit and the metric's direction; for errors it is the ratio of two ratios.
    """

    loss: str
    weighting: str
    other_loss: str
    other_weighting: str
    value: float
    low: float
    high: float
    n_seeds: int


def measure_weighting_interactions(
    tuned: Mapping[str, TunedLoss], rivals: Rivals, baseline: str, scale: Scale, confidence: float
) -> tuple[WeightingInteraction, ...]:
    """Measure each loss and weighting against the baseline's, where all four combinations have finished trials."""
    names = {(t.loss, t.summary.weighting): name for name, t in tuned.items() if name in rivals.names}
    base = tuned[baseline].loss, tuned[baseline].summary.weighting
    measured = []
    for loss, weighting in names:
        corners = [(loss, weighting), (loss, base[1]), (base[0], weighting), base]
        if len(set(corners)) < 4 or not names.keys() >= set(corners):
            continue
        # (a with w - a without) - (b with w - b without), on the seeds that all four have
        at = [rivals.names.index(names[corner]) for corner in corners]
        harm, seeds = [rivals.harm[i] for i in at], [rivals.seeds[i] for i in at]
        difference = compute_contrast(harm, seeds, signs=(1, -1, -1, 1), crossed=rivals.crossed)
        if difference is None:
            continue
        harms = (difference.value, *difference.compute_limits(confidence))
        value, *limits = (scale.to_display(float(harm[0, 1])) for harm in harms)
        n_seeds = int(difference.n_seeds[0, 1])
        measured.append(WeightingInteraction(loss, weighting, *base, value, min(limits), max(limits), n_seeds))
    return tuple(measured)
