"""The picture of the shapes of losses: value and gradient side by side.

Matplotlib is imported where something is drawn, and only its object-oriented part: no window, no global state.
"""

from collections.abc import Mapping, Sequence
from statistics import median_low
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.report.figures.shape_curves import Curve, Curves
from lossbench.report.figures.style import COLOURS, DPI, GREY, draw_grid
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# the first is drawn first, and no two have their gaps in the same places: of equal curves both are seen
DASHES: tuple[Any, ...] = (
    "-", (0, (6, 1.8)), (0, (1.2, 1.2)), (0, (7, 1.8, 1.2, 1.8)),
    (0, (11, 2.5)), (0, (3, 3)), (0, (4, 1.5, 1.2, 1.5, 1.2, 1.5)), (0, (1.2, 3)),
)  # fmt: skip
THICK, THIN = 1.9, 0.9
SIZE = (10.2, 4.3)
LEGEND_LETTERS, CAPTION_LETTERS = 26, 180
ROOF = 4.0  # curves are cut off at so many times the usual peak, so that the others can be seen
SPARED = 1.6  # unless the highest is no more than so many times higher than that


def draw_shapes(curves: Curves, title: str = "") -> "Figure":
    """Draw the values (left) and slopes (right) of curves that share an axis, with a legend and what is held fixed."""
    from matplotlib.figure import Figure

    figure = Figure(SIZE, dpi=DPI, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    cut_off = {name: _draw_panel(axes, curves, name) for axes, name in zip(panels, ("value", "slope"), strict=True)}
    panels[0].set_title("value", fontsize=10, loc="left", color=GREY)
    panels[1].set_title(f"gradient: change per unit of {curves.axis.slope}", fontsize=10, loc="left", color=GREY)
    low, high = curves.range
    if curves.axis.name == "margin" and low < 0 < high:
        panels[0].plot([low, 0, 0, high], [1, 1, 0, 0], color="#BDBDBD", linewidth=3.5, zorder=1.5, label="0/1 error")
    handles = {text: line for line, text in zip(*panels[0].get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside right upper", frameon=False, fontsize=9, handlelength=3.2)
    heading = title or f"Loss and gradient against {curves.axis.title}"
    figure.suptitle(heading, x=0.008, ha="left", fontsize=12, fontweight="bold")
    caption = fill(write_caption(curves, cut_off), CAPTION_LETTERS)
    figure.supxlabel(caption, x=0.008, ha="left", fontsize=8, color=GREY)
    return figure


def write_caption(curves: Curves, cut_off: Mapping[str, Sequence[str]]) -> str:
    """Return what is held fixed, and what the picture does not show as it is.

    cut_off: the losses that leave a panel, by its name.
    """
    n = len(curves.labels)
    fixed = [fact if len(labels) == n else f"{fact} ({', '.join(labels)})" for fact, labels in curves.fixed.items()]
    variants = {(c.is_first, c.variant) for c in curves.curves if c.variant}
    thin = sorted(v for is_first, v in variants if not is_first)
    thick = sorted(v for is_first, v in variants if is_first)
    leaving = [f"{name} of {', '.join(labels)}" for name, labels in cut_off.items() if labels]
    sentences = [
        f"Held fixed: {'; '.join(fixed)}." if fixed else "",
        f"Thick: {' or '.join(thick)}; thin: {' or '.join(thin)}." if thin else "",
        "Axes are linear within 1 of zero and logarithmic beyond." if curves.is_huge else "",
        "Each loss is scaled to a steepest slope of 1." if curves.normalised else "",
        f"Cut off, far from the others: {'; '.join(leaving)}." if leaving else "",
        *describe_gaps(curves),
    ]
    return " ".join(filter(None, sentences))


def describe_gaps(curves: Curves) -> list[str]:
    """Return a sentence for each curve that is not finite somewhere."""
    return [
        f"{curve.loss} is not finite at {curve.n_gaps} of {int(curve.inside.sum())} points: a gap."
        for curve in curves.curves
        if curve.n_gaps
    ]


def _draw_panel(axes: "Axes", curves: Curves, name: str) -> list[str]:
    """Draw the `value` or the `slope` of all curves, and return the losses that are cut off."""
    from matplotlib.ticker import LogLocator, NullFormatter

    # 1. curves: the second round of colours is out of step with the dashes, so that no pair of both comes twice
    styles = {}
    for index, label in enumerate(curves.labels):
        cycle, colour = divmod(index, len(COLOURS))
        dash = (colour + cycle) % len(DASHES)
        styles[label] = {"color": COLOURS[colour], "linestyle": DASHES[dash], "zorder": 2 + dash / 10}
    for curve in curves.curves:
        text = fill(curve.loss, LEGEND_LETTERS, subsequent_indent="  ") if curve.is_first else None
        width = THICK if curve.is_first else THIN
        axes.plot(curve.x, getattr(curve, name), label=text, linewidth=width, **styles[curve.loss])

    # 2. the horizontal axis, zero, and places that have a name
    axis, (start, end) = curves.axis, curves.range
    if axis.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(start, end)
    axes.set_xlabel(axis.label, fontsize=9)
    draw_grid(axes)
    axes.axhline(0, color="#B0B0B0", linewidth=0.8, zorder=1)
    for x, text in axis.marks:
        if start < x < end:
            axes.axvline(x, color="#B0B0B0", linewidth=0.8, zorder=1)
            top = axes.get_xaxis_transform()  # y as a share of the panel's height
            axes.text(x, 0.985, f" {text}", transform=top, fontsize=8, color=GREY, va="top")

    # 3. the vertical axis
    if curves.is_huge:
        values = np.concatenate([getattr(curve, name) for curve in curves.curves])
        low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(1.5 * float(low) - 0.2, 1.5 * float(high) + 0.2)  # a little more than all values
        return []
    low, high, cut_off = compute_limits(curves.curves, name)
    axes.set_ylim(low, high)
    return cut_off


def compute_limits(curves: Sequence[Curve], name: str) -> tuple[float, float, list[str]]:
    """Return bottom and top of a panel of the curves' `value` or `slope`, and the losses that leave it."""
    high = _choose_height([_find_peak(getattr(curve, name)) for curve in curves])
    low = -_choose_height([_find_peak(-getattr(curve, name)) for curve in curves])
    edge = 0.04 * ((high - low) or 1.0)
    # only losses that visibly leave it, not those that a rounding takes over the edge
    leaving = [
        c.loss for c in curves
        if np.nanmax(getattr(c, name), initial=low) > high + edge
        or np.nanmin(getattr(c, name), initial=high) < low - edge
    ]  # fmt: skip
    return low - edge, high + edge, list(dict.fromkeys(leaving))


def _find_peak(values: Array) -> float:
    """Return the highest value, or the 99% quantile if a few points stand far above that; at least 0."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0
    most, highest = float(np.quantile(finite, 0.99)), float(finite.max())
    return max(0.0, most if highest > ROOF * most > 0 else highest)


def _choose_height(peaks: Sequence[float]) -> float:
    """Return the highest peak, or a multiple of the usual one if the highest is far above that."""
    usual = [peak for peak in peaks if peak > 0]
    if not usual:
        return 0.0
    roof = ROOF * median_low(usual)
    return roof if max(usual) > SPARED * roof else max(usual)
