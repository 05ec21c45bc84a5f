"""The forest plot: each loss's paired difference from the baseline, a panel for each corruption rate."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossbench.analysis.comparison import Comparison, RateComparison, Row
from lossbench.report.figures.style import (
    GREY,
    PALE,
    Style,
    add_caption,
    compose_title,
    create_panels,
    rank_losses,
    style_losses,
)
from lossbench.report.tables.grid import format_difference, format_rope
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LOSSES = 25
PANELS_PER_ROW = 2
# inches: the line of a loss, a panel's axis, the words at its right, a letter of a name
LINE_HEIGHT, AXIS_WIDTH, WORDS_WIDTH, LETTER_WIDTH = 0.24, 2.7, 2.3, 0.075
NAME_LETTERS = 34
USUAL = 3.0  # values beyond so many times the third quartile of all differences are off the axis
BEYOND = 1.0  # intervals are on the axis as far as this share of its length beyond the values


def plot_differences(comparison: Comparison) -> "Figure":
    """Draw the difference of each loss from the baseline with its interval, over the region of equivalence.

    One panel per corruption rate. The verdict and the numbers stand at the right of each line. An arrow at the edge
    marks what lies far outside.
    """
    # 1. all losses but the baseline, which has no difference from itself; another corruption rate may have another one
    levels = comparison.levels
    baselines = set.intersection(*({level.baseline} for level in levels))
    ranked = [name for name in rank_losses(comparison) if name not in baselines]
    names, styles = ranked[:MAX_LOSSES], style_losses(comparison)

    # 2. a panel per corruption rate, as high as its lines and as wide as axis and words
    titles = [f"corruption rate {level.corruption_rate:g}, against {level.baseline}" for level in levels]
    names_width = LETTER_WIDTH * min(max(map(len, names), default=0), NAME_LETTERS)
    panel_size = (AXIS_WIDTH + WORDS_WIDTH, 1.0 + LINE_HEIGHT * max(len(names), 2))
    heading = compose_title("Difference from the baseline", comparison.first)
    figure, panels = create_panels(titles, heading, panel_size, names_width, PANELS_PER_ROW)

    # 3. differences, and names at the left of each line of panels
    short = [name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}…" for name in names]
    for index, (axes, level) in enumerate(zip(panels, levels, strict=True)):
        _draw_level(axes, level, names, styles)
        axes.set_yticks(range(len(names)), short if index % PANELS_PER_ROW == 0 else [])
        axes.tick_params(axis="y", length=0, pad=7)
    add_caption(figure, _write_caption(comparison, len(ranked) - len(names)))
    return figure


def _draw_level(axes: "Axes", level: RateComparison, names: Sequence[str], styles: dict[str, Style]) -> None:
    from matplotlib.transforms import blended_transform_factory

    scale, rows = level.scale, {row.name: row for row in level.rows}
    region = sorted((scale.to_display(-scale.rope), scale.to_display(scale.rope)))
    low, high = _compute_limits([row for name, row in rows.items() if name in names], region)
    axes.axvspan(*region, color=PALE, linewidth=0, zorder=0)
    axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    right_of_axis = blended_transform_factory(axes.transAxes, axes.transData)  # x as a share of the axis, y as data
    for place, name in enumerate(names):
        row = rows.get(name)
        difference = row.vs_baseline if row else None
        if difference:
            # without an interval both ends are the value: a point alone
            ends = [end if np.isfinite(end) else difference.value for end in (difference.low, difference.high)]
            colour, marker = styles[name].colour, styles[name].marker
            axes.plot(np.clip(ends, low, high), [place, place], color=colour, linewidth=1.8, solid_capstyle="butt")
            for edge, arrow, is_outside in ((low, "<", ends[0] < low), (high, ">", ends[1] > high)):
                if is_outside:
                    axes.plot([edge], [place], color=colour, marker=arrow, markersize=6, clip_on=False)
            if low <= difference.value <= high:
                axes.plot([difference.value], [place], color=colour, marker=marker, markersize=5.5)
        text = _format_verdict(row, level)
        axes.text(1.03, place, text, transform=right_of_axis, va="center", fontsize=8, fontfamily="DejaVu Sans")
    axes.set_xlim(low, high)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)  # the best loss on top
    axes.grid(visible=False, axis="y")
    unit, better = ("points", "right") if scale.higher_is_better else ("%", "left")
    metric = level.rows[0].summary.metric
    axes.set_xlabel(f"difference in test {metric} [{unit}]; {better} is better", fontsize=9)


def _compute_limits(rows: Sequence[Row], region: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: with 0, the region of equivalence, and most differences well inside."""
    differences = [row.vs_baseline for row in rows if row.vs_baseline]
    values: Array = np.array([0.0, *(difference.value for difference in differences)])  # [1 + n]
    # 1. values, without those that are far beyond most of the others
    usual = max(USUAL * float(np.quantile(np.abs(values), 0.75)), *map(abs, region))
    values = np.clip(values, -usual, usual)
    # 2. intervals, unless they would squeeze the values; one that is infinite or not known asks for nothing
    beyond = BEYOND * float(np.ptp(values))
    ends = np.array([[difference.low, difference.high] for difference in differences] or [[np.nan, np.nan]])  # [n, 2]
    ends = np.where(np.isfinite(ends), ends, 0.0)
    low = min(values.min(), max(ends.min(), values.min() - beyond), 1.6 * region[0])
    high = max(values.max(), min(ends.max(), values.max() + beyond), 1.6 * region[1])
    margin = 0.04 * (high - low)
    return float(low - margin), float(high + margin)


def _format_verdict(row: Row | None, level: RateComparison) -> str:
    if row is None:
        return "not on record"
    if row.name == level.baseline:
        return "baseline"
    if row.vs_baseline is None:
        return "diverged" if row.summary.n_diverged else "no result"
    diverged = ", some diverged" if row.summary.n_diverged else ""
    return f"{row.vs_baseline.verdict}{diverged}  {format_difference(row.vs_baseline, level.scale)}"


def _write_caption(comparison: Comparison, n_more: int) -> Iterator[str]:
    level, percent = comparison.levels[0], f"{100 * comparison.confidence:g}%"
    over = "seeds and test examples" if level.sample.n_examples else "seeds"
    differences = [row.vs_baseline for level in comparison.levels for row in level.rows if row.vs_baseline]
    if any(np.isfinite(difference.low) for difference in differences):
        yield f"Point and line: mean paired difference and its {percent} CI over {over}."
    else:
        yield "Point: difference on a single seed, which says nothing about other seeds: there is no interval."
    yield f"Shaded: practically equivalent, within {format_rope(level.scale)}."
    yield "Arrow: the interval goes on. The word is the verdict after Holm's correction for all pairs."
    if n_more > 0:
        yield f"{n_more} more losses are not shown."
