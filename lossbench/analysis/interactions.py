"""Whether a weighting helps one loss more than another: differences of differences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lossbench.analysis.differences import contrast
from lossbench.analysis.rivals import Rivals
from lossbench.analysis.scale import Scale
from lossbench.analysis.tuning import Tuned


@dataclass(frozen=True)
class Interaction:
    """What `weighting` does to `loss`, less what it does to `other_loss`; both against `other_weighting`.

    In the scale's unit and the metric's direction; of errors, the ratio of two ratios.
    """

    loss: str
    weighting: str
    other_loss: str
    other_weighting: str
    value: float
    low: float
    high: float
    n_seeds: int


def interactions(
    tuned: Mapping[str, Tuned], rivals: Rivals, baseline: str, scale: Scale, confidence: float
) -> tuple[Interaction, ...]:
    """Of each other loss and weighting with the baseline's, where all four combinations have finished trials."""
    names = {(t.loss, t.summary.weighting): n for n, t in tuned.items() if n in rivals.names}
    base = tuned[baseline]
    return tuple(_found(names, (base.loss, base.summary.weighting), rivals, scale, confidence))


def _found(
    names: Mapping[tuple[str, str], str], base: tuple[str, str], rivals: Rivals, scale: Scale, confidence: float
) -> Iterator[Interaction]:
    for loss, weighting in names:
        corners = [(loss, weighting), (loss, base[1]), (base[0], weighting), base]
        if len(set(corners)) < 4 or not names.keys() >= set(corners):
            continue
        at = [rivals.names.index(names[corner]) for corner in corners]
        parts = [rivals.harm[i] for i in at], [rivals.seeds[i] for i in at]
        found = contrast(*parts, signs=(1, -1, -1, 1), crossed=rivals.crossed)
        if found is None:
            continue
        ends = [float(limit[0, 1]) for limit in found.limits(confidence)]
        value, *limits = map(scale.to_display, (float(found.value[0, 1]), *ends))
        yield Interaction(loss, weighting, *base, value, min(limits), max(limits), int(found.n_seeds[0, 1]))
