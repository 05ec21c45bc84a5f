"""What corruption does: the metric over the corruption rates, as lines with intervals and as numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.analysis.comparison import Comparison, Row
from lossbench.analysis.robustness import Robustness, measure_robustness
from lossbench.errors import InvalidValue
from lossbench.report.figures.style import (
    Style,
    add_caption,
    compose_title,
    describe_direction,
    draw_baseline,
    fit_scale,
    frame,
    style_losses,
)
from lossbench.report.tables.grid import format_number
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 45
"""Losses that are listed."""
ROW, HEAD = 0.21, 1.1
"""Inches: of a line of numbers, and of what is above and below all of them."""
WIDTH, LEAST, COLUMN = 8.4, 3.6, 0.62
DPI = 100
APART = 0.16
"""How far lines are moved apart, all together, as a share of the least step between two rates."""


def plot_robustness(comparison: Comparison) -> "Figure":
    """Draw all losses over the corruption rates, with intervals, and list their numbers, best at the highest first.

    Raises InvalidValue where there are not several rates with results.
    """
    from matplotlib.figure import Figure

    rates = [level.corruption_rate for level in comparison.levels]
    found = [one for one in measure_robustness(comparison) if one.values]
    if not found:
        raise InvalidValue("Results at several corruption rates are needed; use rates=[0,0.2,0.4].")
    found, styles = _order(found, rates[-1], comparison.first.higher_is_better), style_losses(comparison)
    listed = found[:MOST]
    height = max(LEAST, HEAD + ROW * len(listed))
    figure = Figure((WIDTH + COLUMN * len(rates), height), dpi=DPI, facecolor="white", layout="constrained")
    lines, numbers = figure.subplots(1, 2, width_ratios=(5.0, 2.6 + COLUMN * len(rates)))
    _draw_lines(lines, found, comparison, styles)
    _draw_numbers(numbers, listed, rates, comparison, styles)
    heading = compose_title("Robustness", comparison.first)
    figure.suptitle(heading, x=0.008, ha="left", fontsize=11, fontweight="bold")
    add_caption(figure, _explain(comparison, found))
    return figure


def _order(found: Sequence[Robustness], rate: float, higher_is_better: bool) -> list[Robustness]:
    sign = -1 if higher_is_better else 1
    return sorted(found, key=lambda one: (np.nan_to_num(sign * one.values.get(rate, np.nan), nan=np.inf), one.name))


def _draw_lines(axes: "Axes", found: Sequence[Robustness], comparison: Comparison, styles: Mapping[str, Style]) -> None:
    rates = np.array([level.corruption_rate for level in comparison.levels])
    rows: dict[tuple[str, float], Row] = {
        (r.name, level.corruption_rate): r for level in comparison.levels for r in level.rows
    }
    strong = [one.name for one in found if styles[one.name].is_strong]
    step = APART * float(np.diff(rates).min()) / max(len(strong), 1)
    for one in sorted(found, key=lambda one: styles[one.name].is_strong):  # grey ones below the others
        style, own = styles[one.name], np.array(sorted(one.values))
        values = np.array([one.values[rate] for rate in own])
        if not style.is_strong:
            axes.plot(own, values, color=style.colour, linewidth=0.9)
            continue
        # moved a little apart, so that intervals at one rate do not hide each other
        own = own + step * (strong.index(one.name) - (len(strong) - 1) / 2)
        ends = [rows[one.name, rate].summary.last for rate in sorted(one.values)]
        limits = np.array([[end.low, end.high] if end else [np.nan, np.nan] for end in ends]).T
        reach = np.nan_to_num(np.abs(limits - values))  # nothing to draw where there is no interval
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "marker": style.marker}
        axes.errorbar(own, values, reach, linewidth=1.6, markersize=3.5, elinewidth=0.9, capsize=1.5, **look)
    if draw_baseline(axes, comparison.baseline_predictor):
        axes.legend(frameon=False, fontsize=8)
    first = comparison.first
    extent = np.array([comparison.baseline_predictor, *(value for one in found for value in one.values.values())])
    fit_scale(axes, extent, first.higher_is_better)
    axes.set_ylabel(f"test {first.metric} ({describe_direction(first.higher_is_better)})", fontsize=9)
    axes.set_xlabel(f"corruption rate: share of training examples with {comparison.corruption}", fontsize=9)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    frame(axes)


def _draw_numbers(
    axes: "Axes",
    found: Sequence[Robustness],
    rates: Sequence[float],
    comparison: Comparison,
    styles: Mapping[str, Style],
) -> None:
    table = np.array([[one.values.get(rate, np.nan) for rate in rates] for one in found])
    axes.imshow(_goodness(table, comparison), cmap="Blues", vmin=-0.1, vmax=2.2, aspect="auto")
    for (down, across), value in np.ndenumerate(table):
        text = format_number(float(value)) if np.isfinite(value) else "diverged"
        axes.text(across, down, text, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(rates)), [f"rate {rate:g}" for rate in rates])
    axes.set_yticks(range(len(found)), [one.name for one in found])
    for one, label in zip(found, axes.get_yticklabels(), strict=True):
        label.set_color(styles[one.name].colour if styles[one.name].is_strong else "#555555")
    axes.xaxis.tick_top()
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylim(len(found) - 0.5, -0.5)


def _goodness(table: Array, comparison: Comparison) -> Array:
    """From 0, the worst or no better than the baseline predictor, to 1, the best."""
    up = comparison.first.higher_is_better
    signed = table if up else -table
    best, worst = np.nanmax(signed), np.nanmin(signed)
    trivial = comparison.baseline_predictor if up else -comparison.baseline_predictor
    floor = max(worst, trivial) if np.isfinite(trivial) and trivial < best else worst
    share: Array = np.clip((signed - floor) / ((best - floor) or 1.0), 0.0, 1.0)
    return share


def _explain(comparison: Comparison, found: Sequence[Robustness]) -> list[str]:
    level, percent = comparison.levels[0], f"{100 * comparison.confidence:g}%"
    over = "seeds and test examples" if level.sample.n_rows else "seeds"
    more = len(found) - MOST
    return [
        f"Mean over seeds at the last epoch, with its {percent} interval over {over}.",
        "Darker: better than the baseline predictor by more.",
        f"{more} more losses are not listed." if more > 0 else "",
    ]
