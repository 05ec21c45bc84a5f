"""The forest plot: each loss's paired difference from the baseline, a panel for each corruption rate."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossbench.analysis.comparison import Comparison, Level, Row
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

MOST = 25
"""Losses that have a line."""
ACROSS = 2
LINE, WIDTH, WORDS, LETTER = 0.24, 2.7, 2.3, 0.075
"""Inches: a loss's line, a panel, the words at its right, and a letter of a name."""
NAME_LETTERS = 34
USUAL, BEYOND = 3.0, 1.0
"""The axis goes no farther than so many times the third quartile of all differences, and for intervals beyond that by a
share of its length."""


def plot_differences(comparison: Comparison) -> "Figure":
    """Draw the difference of each loss from the baseline with its interval, over the region of equivalence.

    One panel per corruption rate. At the right of each line stand the verdict and the numbers. What lies far outside
    is drawn as an arrow at the edge.
    """
    always = set.intersection(*({level.baseline} for level in comparison.levels))  # no rate has a difference of it
    names = [name for name in rank_losses(comparison) if name not in always]
    shown, styles = names[:MOST], style_losses(comparison)
    levels = comparison.levels
    titles = [f"rate {level.corruption_rate:g}, against {level.baseline}" for level in levels]
    names_width = LETTER * min(max(map(len, shown), default=0), NAME_LETTERS)
    panel = (WIDTH + WORDS, 1.0 + LINE * max(len(shown), 2))
    heading = compose_title("Difference from the baseline", comparison.first)
    figure, panels = create_panels(titles, heading, panel, names_width, ACROSS)
    for place, (axes, level) in enumerate(zip(panels, levels, strict=True)):
        _draw_level(axes, level, shown, styles)
        axes.set_yticks(range(len(shown)), [_short(name) for name in shown] if place % ACROSS == 0 else [])
        axes.tick_params(axis="y", length=0, pad=7)
    add_caption(figure, _explain(comparison, len(names) - len(shown)))
    return figure


def _draw_level(axes: "Axes", level: Level, names: Sequence[str], styles: dict[str, Style]) -> None:
    from matplotlib.transforms import blended_transform_factory

    scale, rows = level.scale, {row.name: row for row in level.rows}
    region = sorted((scale.to_display(-scale.rope), scale.to_display(scale.rope)))
    low, high = _reach([row for name, row in rows.items() if name in names], region)
    axes.axvspan(*region, color=PALE, linewidth=0, zorder=0)
    axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for place, name in enumerate(names):
        row = rows.get(name)
        found = row.against if row else None
        if found:
            ends = [end if np.isfinite(end) else found.value for end in (found.low, found.high)]
            colour, marker = styles[name].colour, styles[name].marker
            axes.plot(np.clip(ends, low, high), [place, place], color=colour, linewidth=1.8, solid_capstyle="butt")
            for edge, arrow, leaves in ((low, "<", ends[0] < low), (high, ">", ends[1] > high)):
                if leaves:
                    axes.plot([edge], [place], color=colour, marker=arrow, markersize=6, clip_on=False)
            if low <= found.value <= high:
                axes.plot([found.value], [place], color=colour, marker=marker, markersize=5.5)
        text = _tell(row, level)
        axes.text(1.03, place, text, transform=beside, va="center", fontsize=8, fontfamily="DejaVu Sans")
    axes.set_xlim(low, high)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    unit, better = ("points", "right") if scale.higher_is_better else ("%", "left")
    metric = level.rows[0].summary.metric
    axes.set_xlabel(f"difference in test {metric} [{unit}]; {better} is better", fontsize=9)


def _reach(rows: Sequence[Row], region: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: with 0, the region of equivalence, and most differences well inside."""
    found = [row.against for row in rows if row.against]
    values: Array = np.array([0.0, *(one.value for one in found)])
    usual = max(USUAL * float(np.quantile(np.abs(values), 0.75)), *map(abs, region))
    values = np.clip(values, -usual, usual)
    beyond = BEYOND * float(np.ptp(values))
    ends = np.array([[one.low, one.high] for one in found] or [[np.nan, np.nan]])
    ends = np.where(np.isfinite(ends), ends, 0.0)
    low = min(values.min(), max(ends.min(), values.min() - beyond), 1.6 * region[0])
    high = max(values.max(), min(ends.max(), values.max() + beyond), 1.6 * region[1])
    margin = 0.04 * (high - low)
    return float(low - margin), float(high + margin)


def _tell(row: Row | None, level: Level) -> str:
    if row is None:
        return "not on record"
    if row.name == level.baseline:
        return "baseline"
    if row.against is None:
        return "diverged" if row.summary.n_diverged else "no result"
    lost = ", some diverged" if row.summary.n_diverged else ""
    return f"{row.against.verdict}{lost}  {format_difference(row.against, level.scale)}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}…"


def _explain(comparison: Comparison, n_more: int) -> Iterator[str]:
    level, percent = comparison.levels[0], f"{100 * comparison.confidence:g}%"
    over = "seeds and test examples" if level.sample.n_rows else "seeds"
    found = [row.against for level in comparison.levels for row in level.rows if row.against]
    if any(np.isfinite(one.low) for one in found):
        yield f"Point and line: mean paired difference and its {percent} interval over {over}."
    else:
        yield "Point: difference on a single seed, which tells nothing of others: there is no interval."
    yield f"Shaded: practically equivalent, within {format_rope(level.scale)}."
    yield "Arrow: the interval goes on. The word is the verdict after Holm's correction for all pairs."
    if n_more > 0:
        yield f"{n_more} more losses are not shown."
