"""The picture of what corruption does: the metric over the rates, as lines and as numbers, for all losses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossbench.analysis.comparison import Comparison
from lossbench.analysis.robustness import Robustness, robustness
from lossbench.report.tables.numbers import format_number
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 45
"""Losses that are listed."""
COLOURED = 7
"""Losses whose lines are told apart, in the colours of pictures of losses; the others are grey."""
OTHERS, PALE, GREY = "#B9B9B9", "#E4E4E4", "#555555"
ROW, HEAD = 0.21, 1.1
"""Inches: of a line of numbers, and of what is above and below all of them."""
WIDTH, LEAST, COLUMN = 8.4, 3.6, 0.62
DPI = 100


def figure(comparison: Comparison, title: str) -> "Figure | None":
    """Draw all losses over the rates, best at the highest first; None where there is one rate only."""
    from matplotlib.figure import Figure

    rates = [level.rate for level in comparison.levels]
    found = [one for one in robustness(comparison) if one.values]
    if len(rates) < 2 or not found:
        return None
    found = _ordered(found, rates[-1], comparison.first.higher_is_better)
    listed = found[:MOST]
    height = max(LEAST, HEAD + ROW * len(listed))
    made = Figure((WIDTH + COLUMN * len(rates), height), dpi=DPI, facecolor="white", layout="constrained")
    lines, numbers = made.subplots(1, 2, width_ratios=(5.0, 2.6 + COLUMN * len(rates)))
    _draw_lines(lines, found, rates, comparison)
    _draw_numbers(numbers, listed, rates, comparison)
    made.suptitle(title, x=0.008, ha="left", fontsize=11, fontweight="bold")
    more = f" {len(found) - MOST} more losses are not listed." if len(found) > MOST else ""
    text = f"Mean over seeds at the last epoch; rate: share of training rows corrupted.{more}"
    made.supxlabel(text, x=0.008, ha="left", fontsize=8, color=GREY)
    return made


def _ordered(found: Sequence[Robustness], rate: float, higher_is_better: bool) -> list[Robustness]:
    sign = -1 if higher_is_better else 1
    return sorted(found, key=lambda one: (np.nan_to_num(sign * one.values.get(rate, np.nan), nan=np.inf), one.name))


def _colour(place: int) -> str:
    from lossbench.report.figures.shapes import COLOURS  # imports torch

    return COLOURS[place] if place < COLOURED else OTHERS


def _draw_lines(axes: "Axes", found: Sequence[Robustness], rates: Sequence[float], comparison: Comparison) -> None:
    for place, one in reversed(list(enumerate(found))):
        known = [(rate, one.values[rate]) for rate in rates if rate in one.values]
        width = 1.8 if place < COLOURED else 0.9
        axes.plot(*zip(*known, strict=True), color=_colour(place), linewidth=width, marker="o", markersize=3)
    if np.isfinite(comparison.trivial):
        axes.axhline(comparison.trivial, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="trivial predictor")
        axes.legend(frameon=False, fontsize=8)
    first = comparison.first
    _scale(axes, [value for one in found for value in one.values.values()], first.higher_is_better)
    arrow = "↑" if first.higher_is_better else "↓"
    axes.set_title(f"test {first.metric} {arrow}", fontsize=9, loc="left", color=GREY)
    axes.set_xlabel(f"rate of {comparison.corruption}", fontsize=9)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _scale(axes: "Axes", values: Sequence[float], higher_is_better: bool) -> None:
    """Logarithmic where errors span more than a decade, lest one loss flatten all others."""
    if not higher_is_better and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")


def _draw_numbers(axes: "Axes", found: Sequence[Robustness], rates: Sequence[float], comparison: Comparison) -> None:
    table = np.array([[one.values.get(rate, np.nan) for rate in rates] for one in found])
    axes.imshow(_goodness(table, comparison), cmap="RdYlGn", vmin=-0.35, vmax=1.35, aspect="auto")
    for (down, across), value in np.ndenumerate(table):
        text = format_number(float(value)) if np.isfinite(value) else "diverged"
        axes.text(across, down, text, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(rates)), [f"rate {rate:g}" for rate in rates])
    axes.set_yticks(range(len(found)), [one.name for one in found])
    for place, label in enumerate(axes.get_yticklabels()):
        label.set_color(_colour(place) if place < COLOURED else GREY)
    axes.xaxis.tick_top()
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylim(len(found) - 0.5, -0.5)


def _goodness(table: Array, comparison: Comparison) -> Array:
    """From 0, the worst or no better than the trivial predictor, to 1, the best."""
    up = comparison.first.higher_is_better
    signed = table if up else -table
    best, worst = np.nanmax(signed), np.nanmin(signed)
    trivial = comparison.trivial if up else -comparison.trivial
    floor = max(worst, trivial) if np.isfinite(trivial) and trivial < best else worst
    share: Array = np.clip((signed - floor) / ((best - floor) or 1.0), 0.0, 1.0)
    return share
