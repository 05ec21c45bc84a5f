"""Robustness to corruption: the metric over the corruption rates, as lines with intervals and as numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.analysis.comparison import Comparison, Row
from lossbench.analysis.robustness import Robustness, measure_robustness
from lossbench.errors import InvalidValue
from lossbench.report.figures.style import (
    GREY,
    Style,
    add_caption,
    compose_title,
    describe_direction,
    draw_baseline,
    draw_grid,
    fit_scale,
    style_losses,
)
from lossbench.report.tables.grid import format_number
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LISTED = 45  # losses whose numbers are written
# inches: a line of numbers, all above and below them, the panel of lines, the least height, a column of numbers
LINE_HEIGHT, MARGINS, LINES_WIDTH, LEAST_HEIGHT, COLUMN_WIDTH = 0.21, 1.1, 8.4, 3.6, 0.62
DPI = 100
APART = 0.16  # losses are spread over this share of the least step between two corruption rates


def plot_robustness(comparison: Comparison) -> "Figure":
    """Draw all losses over the corruption rates, with intervals, and list their numbers.

    The losses are in the order of their metric at the highest corruption rate, the best first.

    Raises InvalidValue where there are not several corruption rates with results.
    """
    from matplotlib.figure import Figure

    # 1. the losses with results, the best at the highest corruption rate first; those without one there come last
    rates = [level.corruption_rate for level in comparison.levels]
    losses = [loss for loss in measure_robustness(comparison) if loss.values]
    if not losses:
        raise InvalidValue("Results at several corruption rates are needed; use rates=[0,0.2,0.4].")
    sign = -1 if comparison.first.higher_is_better else 1
    losses.sort(key=lambda loss: (np.nan_to_num(sign * loss.values.get(rates[-1], np.nan), nan=np.inf), loss.name))
    listed, styles = losses[:MAX_LISTED], style_losses(comparison)

    # 2. lines at the left, numbers at the right
    height = max(LEAST_HEIGHT, MARGINS + LINE_HEIGHT * len(listed))
    size = (LINES_WIDTH + COLUMN_WIDTH * len(rates), height)
    figure = Figure(size, dpi=DPI, facecolor="white", layout="constrained")
    lines, numbers = figure.subplots(1, 2, width_ratios=(5.0, 2.6 + COLUMN_WIDTH * len(rates)))
    _draw_lines(lines, losses, comparison, styles)
    _draw_numbers(numbers, listed, rates, comparison, styles)

    # 3. words
    heading = compose_title("Robustness", comparison.first)
    figure.suptitle(heading, x=0.008, ha="left", fontsize=11, fontweight="bold")
    over = "seeds and test examples" if comparison.levels[0].sample.n_examples else "seeds"
    n_more = len(losses) - len(listed)
    caption = [
        f"Mean over seeds at the last epoch, with its {100 * comparison.confidence:g}% CI over {over}.",
        "Darker: better than the baseline predictor by more.",
        f"{n_more} more losses are not listed." if n_more else "",
    ]
    add_caption(figure, caption)
    return figure


def _draw_lines(
    axes: "Axes", losses: Sequence[Robustness], comparison: Comparison, styles: Mapping[str, Style]
) -> None:
    rates = np.array([level.corruption_rate for level in comparison.levels])
    rows: dict[tuple[str, float], Row] = {
        (row.name, level.corruption_rate): row for level in comparison.levels for row in level.rows
    }
    distinct = [loss.name for loss in losses if styles[loss.name].is_distinct]
    step = APART * float(np.diff(rates).min()) / max(len(distinct), 1)
    for loss in sorted(losses, key=lambda loss: styles[loss.name].is_distinct):  # grey ones below the others
        style, known_rates = styles[loss.name], sorted(loss.values)
        x = np.array(known_rates)
        values = np.array([loss.values[rate] for rate in known_rates])
        if not style.is_distinct:
            axes.plot(x, values, color=style.colour, linewidth=0.9)
            continue
        # moved a little to the side, so that intervals at one corruption rate do not hide each other
        x = x + step * (distinct.index(loss.name) - (len(distinct) - 1) / 2)
        estimates = [rows[loss.name, rate].summary.last for rate in known_rates]
        limits = np.array([[e.low, e.high] if e else [np.nan, np.nan] for e in estimates]).T  # [2, n]
        lengths = np.nan_to_num(np.abs(limits - values))  # 0, nothing to draw, where there is no interval
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "marker": style.marker}
        axes.errorbar(x, values, lengths, linewidth=1.6, markersize=3.5, elinewidth=0.9, capsize=1.5, **look)
    if draw_baseline(axes, comparison.baseline_predictor):
        axes.legend(frameon=False, fontsize=8)
    first = comparison.first
    extent = np.array([comparison.baseline_predictor, *(value for loss in losses for value in loss.values.values())])
    fit_scale(axes, extent, first.higher_is_better)
    axes.set_ylabel(f"test {first.metric} ({describe_direction(first.higher_is_better)})", fontsize=9)
    axes.set_xlabel(f"corruption rate: share of training examples with {comparison.corruption}", fontsize=9)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    draw_grid(axes)


def _draw_numbers(
    axes: "Axes",
    losses: Sequence[Robustness],
    rates: Sequence[float],
    comparison: Comparison,
    styles: Mapping[str, Style],
) -> None:
    table = np.array([[loss.values.get(rate, np.nan) for rate in rates] for loss in losses])  # [n losses, n rates]
    # the palest blue is not white, and the darkest is pale enough for black numbers
    axes.imshow(_compute_shades(table, comparison), cmap="Blues", vmin=-0.1, vmax=2.2, aspect="auto")
    for (y, x), value in np.ndenumerate(table):
        text = format_number(float(value)) if np.isfinite(value) else "diverged"
        axes.text(x, y, text, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_xlabel("corruption rate", fontsize=8)
    axes.set_yticks(range(len(losses)), [loss.name for loss in losses])
    for loss, label in zip(losses, axes.get_yticklabels(), strict=True):
        label.set_color(styles[loss.name].colour if styles[loss.name].is_distinct else GREY)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylim(len(losses) - 0.5, -0.5)  # the best loss on top


def _compute_shades(table: Array, comparison: Comparison) -> Array:
    """Return 1 for the best value of a table, down to 0 for the worst or no better than the baseline predictor."""
    sign = 1 if comparison.first.higher_is_better else -1
    heights, baseline = sign * table, sign * comparison.baseline_predictor
    best, worst = np.nanmax(heights), np.nanmin(heights)
    floor = max(worst, baseline) if np.isfinite(baseline) and baseline < best else worst
    shades: Array = np.clip((heights - floor) / ((best - floor) or 1.0), 0.0, 1.0)
    return shades
