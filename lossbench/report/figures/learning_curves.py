"""Learning curves: the test metric over the steps of training, a panel for each corruption rate."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from lossbench.analysis.comparison import Comparison
from lossbench.analysis.intervals import estimate_over_seeds
from lossbench.analysis.summary import Evidence, Summary
from lossbench.analysis.tuning import get_contender
from lossbench.errors import InvalidValue
from lossbench.report.figures.style import (
    add_caption,
    add_legend,
    assign_styles,
    compose_title,
    create_key,
    create_panels,
    describe_direction,
    draw_baseline,
    draw_lines,
    fit_scale,
    label_left,
    style_losses,
)
from lossbench.report.tables.sentences import join_names
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNLIKE = 3.0
"""Panels of which one spans so many times what another does have vertical axes of their own."""
FEW = 5
"""Losses whose intervals are shaded well; those of more are paler."""
MOST_SHADED = 0.6
"""Intervals that take more of a panel's height are not shaded."""


@dataclass(frozen=True)
class LearningCurve:
    """A loss's mean over seeds at each step, with the interval of that mean; NaN where one seed tells of no other."""

    name: str
    corruption_rate: float
    steps: Array  # [E], as are the others
    mean: Array
    low: Array
    high: Array
    n_seeds: int


def plot_curves(shown: Comparison | Sequence[Summary], evidence: Evidence, confidence: float = 0.95) -> "Figure":
    """Draw the test metric over training for each loss, a panel per corruption rate.

    Lines are means over the seeds that did not diverge. Shaded is the interval of that mean, by Student's t over seeds,
    and dotted the baseline predictor.

    shown: a comparison, or summaries that share all but loss, weighting and rate, such as those of a single loss.
    evidence: of the study that they are from.

    Raises InvalidValue where there are no curves on record.
    """
    cells = _named(shown)
    curves = [curve for name, cell in cells if (curve := average_curves(name, cell, evidence, confidence))]
    if not curves:
        raise InvalidValue("There are no learning curves on record: no trial was trained to its end.")
    first, rates = cells[0][1], sorted({curve.corruption_rate for curve in curves})
    by_rate = {rate: [curve for curve in curves if curve.corruption_rate == rate] for rate in rates}
    styles = style_losses(shown) if isinstance(shown, Comparison) else assign_styles(name for name, _ in cells)
    titles = [f"corruption rate {rate:g}" if len(rates) > 1 or rate else "" for rate in rates]
    figure, panels = create_panels(titles, compose_title("Learning curves", first))

    baseline, equal, ranges, unshaded = None, False, list[Array](), list[str]()
    for axes, (rate, here) in zip(panels, by_rate.items(), strict=True):
        equal |= draw_lines(axes, {curve.name: (curve.steps, curve.mean) for curve in here}, styles)
        known = [
            cell.baseline_predictor
            for _, cell in cells
            if cell.corruption_rate == rate and np.isfinite(cell.baseline_predictor)
        ]
        trivial = float(np.mean(known or [np.nan]))
        baseline = draw_baseline(axes, trivial) or baseline
        ranges.append(np.concatenate([[trivial], *(curve.mean for curve in here)]))
        axes.set_xlabel("training step", fontsize=9)
    own_axes = _differ(ranges)
    for axes, values, here in zip(panels, ranges, by_rate.values(), strict=True):
        fit_scale(axes, values if own_axes else np.concatenate(ranges), first.higher_is_better)
        for curve in here:
            if not styles[curve.name].is_strong:
                continue
            if _covers(axes, curve):  # would hide all others, and tell no more than that
                unshaded.append(f"{curve.name} at {curve.corruption_rate:g}")
                continue
            colour, alpha = styles[curve.name].colour, 0.14 if len(here) <= FEW else 0.07
            axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=alpha, linewidth=0)

    label_left(panels, f"test {first.metric} ({describe_direction(first.higher_is_better)})")
    sign = -1 if first.higher_is_better else 1
    ordered = sorted(by_rate[rates[-1]], key=lambda curve: (sign * curve.mean[-1], curve.name))
    names = dict.fromkeys([curve.name for curve in [*ordered, *curves]])  # as the lines of the last panel end
    keys = [create_key(name, styles[name], "") for name in names if styles[name].is_strong]
    add_legend(figure, [*keys, *([baseline] if baseline else [])])
    grey = [name for name, style in styles.items() if not style.is_strong]
    told = {
        "Of equal lines one has gaps.": equal,
        "Panels have vertical axes of their own.": own_axes,
        f"Not shaded, as wider than the panel: {join_names(unshaded)}.": unshaded,
        f"Grey: {len(grey)} more losses.": grey,
    }
    add_caption(figure, [*_explain(curves, cells, confidence), *(text for text, holds in told.items() if holds)])
    return figure


def average_curves(name: str, cell: Summary, evidence: Evidence, confidence: float = 0.95) -> LearningCurve | None:
    """Return the mean over a cell's finished trials at the steps that all have; None where there are no curves."""
    drawn = [evidence.curves[trial] for trial in cell.trials if trial in evidence.curves]
    if not drawn:
        return None
    steps = reduce(np.intersect1d, (np.asarray(steps) for steps, _ in drawn))
    # [S, E]; steps rise
    values = np.stack([np.asarray(curve, np.float64)[np.isin(own, steps)] for own, curve in drawn])
    found = [estimate_over_seeds(column, cell.higher_is_better, confidence, cell.perfect) for column in values.T]
    mean, low, high = (np.array([getattr(one, end) for one in found]) for end in ("value", "low", "high"))
    return LearningCurve(name, cell.corruption_rate, steps, mean, low, high, len(drawn))


def _named(shown: Comparison | Sequence[Summary]) -> list[tuple[str, Summary]]:
    if isinstance(shown, Comparison):
        return [(row.name, row.summary) for level in shown.levels for row in level.rows]
    return [(cell.name.replace(cell.loss, get_contender(cell), 1), cell) for cell in shown]


def _differ(ranges: Sequence[Array]) -> bool:
    """Tell whether panels span so different ranges that a common axis would flatten some."""
    spans = [float(np.nanmax(values) - np.nanmin(values)) for values in ranges]
    return max(spans) > UNLIKE * min(spans)


def _covers(axes: "Axes", curve: LearningCurve) -> bool:
    """Tell whether the interval takes most of a panel's height at most of the steps."""
    low, high = axes.get_ylim()
    ends = np.clip([curve.low, curve.high], low, high)
    if axes.get_yscale() == "log":
        low, high, ends = np.log(low), np.log(high), np.log(ends)
    return bool(np.median(ends[1] - ends[0]) > MOST_SHADED * (high - low))


def _explain(curves: Sequence[LearningCurve], cells: Iterable[tuple[str, Summary]], confidence: float) -> Iterator[str]:
    counts = sorted({curve.n_seeds for curve in curves})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    yield f"Line: mean over {seeds} seed{'' if counts == [1] else 's'}."
    if counts[-1] > 1:
        yield f"Shaded: {100 * confidence:g}% interval of that mean for new seeds, by Student's t over seeds."
    lost = [
        f"{cell.n_diverged} of {cell.n_trials} of {name} at {cell.corruption_rate:g}"
        for name, cell in cells
        if cell.diverged
    ]
    if lost:
        yield f"Trials that diverged are left out: {join_names(lost)}."
