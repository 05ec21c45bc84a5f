"""Learning curves: the test metric over the steps of training, a panel for each corruption rate."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from lossbench.analysis.comparison import Comparison
from lossbench.analysis.intervals import estimate_over_seeds
from lossbench.analysis.summary import Measurements, Summary
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
    format_range,
    label_left_panels,
    style_losses,
)
from lossbench.report.tables.sentences import join_names
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNLIKE = 3.0  # panels have vertical axes of their own if one spans so many times as much as another
FEW = 5  # losses whose intervals are shaded strongly; those of more are paler
MOST_SHADED = 0.6  # intervals that take more than this share of a panel's height are not shaded


@dataclass(frozen=True)
class LearningCurve:
    """A loss's mean over seeds at each step, with the CI of that mean; its ends are NaN for a single seed."""

    name: str
    corruption_rate: float
    steps: Array  # [E], as are the others
    mean: Array
    low: Array
    high: Array
    n_seeds: int


def plot_curves(
    results: Comparison | Sequence[Summary], measurements: Measurements, confidence: float = 0.95
) -> "Figure":
    """Draw the test metric over training for each loss, a panel per corruption rate.

    Lines are means over the seeds that did not diverge. The CI of that mean, by Student's t over seeds, is shaded; the
    baseline predictor is dotted.

    results: a comparison, or summaries that share all but loss, weighting and corruption rate, such as those of a
    single loss. measurements: of the study that they are from.

    Raises InvalidValue where there are no curves on record.
    """
    # 1. the curves, by corruption rate
    if isinstance(results, Comparison):
        cells = [(row.name, row.summary) for level in results.levels for row in level.rows]
    else:
        cells = [(summary.name.replace(summary.loss, get_contender(summary), 1), summary) for summary in results]
    curves = [curve for name, summary in cells if (curve := average_curves(name, summary, measurements, confidence))]
    if not curves:
        raise InvalidValue("There are no learning curves on record: no trial was trained to its end.")
    first, rates = cells[0][1], sorted({curve.corruption_rate for curve in curves})
    by_rate = {rate: [curve for curve in curves if curve.corruption_rate == rate] for rate in rates}
    styles = style_losses(results) if isinstance(results, Comparison) else assign_styles(name for name, _ in cells)
    titles = [f"corruption rate {rate:g}" if len(rates) > 1 or rate else "" for rate in rates]
    figure, panels = create_panels(titles, compose_title("Learning curves", first))

    # 2. lines
    baseline, some_equal, ranges = None, False, list[Array]()
    for axes, (rate, panel_curves) in zip(panels, by_rate.items(), strict=True):
        some_equal |= draw_lines(axes, {curve.name: (curve.steps, curve.mean) for curve in panel_curves}, styles)
        predictors = [summary.baseline_predictor for _, summary in cells if summary.corruption_rate == rate]
        level = float(np.mean([value for value in predictors if np.isfinite(value)] or [np.nan]))
        baseline = draw_baseline(axes, level) or baseline
        ranges.append(np.concatenate([[level], *(curve.mean for curve in panel_curves)]))
        axes.set_xlabel("training step", fontsize=9)

    # 3. vertical axes: the same for all panels unless that would flatten some
    spans = [float(np.nanmax(values) - np.nanmin(values)) for values in ranges]
    separate_axes = max(spans) > UNLIKE * min(spans)
    for axes, values in zip(panels, ranges, strict=True):
        fit_scale(axes, values if separate_axes else np.concatenate(ranges), first.higher_is_better)
    label_left_panels(panels, f"test {first.metric} ({describe_direction(first.higher_is_better)})")

    # 4. intervals, which depend on how high a panel is
    unshaded = list[str]()
    for axes, panel_curves in zip(panels, by_rate.values(), strict=True):
        for curve in (curve for curve in panel_curves if styles[curve.name].is_distinct):
            if _fills_panel(axes, curve):  # it would hide all others, and say no more than that
                unshaded.append(f"{curve.name} at {curve.corruption_rate:g}")
                continue
            colour, alpha = styles[curve.name].colour, 0.14 if len(panel_curves) <= FEW else 0.07
            axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=alpha, linewidth=0)

    # 5. legend, in the order in which the lines of the last panel end, and caption
    sign = -1 if first.higher_is_better else 1
    ranked = sorted(by_rate[rates[-1]], key=lambda curve: (sign * curve.mean[-1], curve.name))
    names = dict.fromkeys([curve.name for curve in [*ranked, *curves]])
    keys = [create_key(name, styles[name], "") for name in names if styles[name].is_distinct]
    add_legend(figure, [*keys, *([baseline] if baseline else [])])
    grey = [name for name, style in styles.items() if not style.is_distinct]
    notes = {
        "Of equal lines, one has gaps.": some_equal,
        "Panels have vertical axes of their own.": separate_axes,
        f"Not shaded, as wider than the panel: {join_names(unshaded)}.": unshaded,
        f"Grey: {len(grey)} more losses.": grey,
    }
    add_caption(figure, [*_write_caption(curves, cells, confidence), *(text for text, holds in notes.items() if holds)])
    return figure


def average_curves(
    name: str, summary: Summary, measurements: Measurements, confidence: float = 0.95
) -> LearningCurve | None:
    """Return the mean over the finished trials at the steps that all share; None where there are no curves."""
    curves = [measurements.curves[trial] for trial in summary.trials if trial in measurements.curves]
    if not curves:
        return None
    steps = reduce(np.intersect1d, (np.asarray(steps) for steps, _ in curves))  # [E], rising
    values = np.stack([np.asarray(curve, np.float64)[np.isin(own, steps)] for own, curve in curves])  # [S, E]
    estimates = [
        estimate_over_seeds(column, summary.higher_is_better, confidence, summary.perfect) for column in values.T
    ]
    mean, low, high = (np.array([getattr(e, end) for e in estimates]) for end in ("value", "low", "high"))
    return LearningCurve(name, summary.corruption_rate, steps, mean, low, high, len(curves))


def _fills_panel(axes: "Axes", curve: LearningCurve) -> bool:
    """Return True if the interval takes most of a panel's height at most of the steps."""
    low, high = axes.get_ylim()
    ends = np.clip([curve.low, curve.high], low, high)  # [2, E]
    if axes.get_yscale() == "log":
        low, high, ends = np.log(low), np.log(high), np.log(ends)
    return bool(np.median(ends[1] - ends[0]) > MOST_SHADED * (high - low))


def _write_caption(
    curves: Sequence[LearningCurve], cells: Iterable[tuple[str, Summary]], confidence: float
) -> Iterator[str]:
    counts = sorted({curve.n_seeds for curve in curves})
    yield f"Line: mean over {format_range(counts)} seed{'' if counts == [1] else 's'}."
    if counts[-1] > 1:
        yield f"Shaded: {100 * confidence:g}% CI of that mean for new seeds, by Student's t over seeds."
    diverged = [
        f"{summary.n_diverged} of {summary.n_trials} of {name} at {summary.corruption_rate:g}"
        for name, summary in cells
        if summary.diverged
    ]
    if diverged:
        yield f"Trials that diverged are left out: {join_names(diverged)}."
