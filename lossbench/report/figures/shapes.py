"""The picture of what losses look like: value and gradient side by side.

Matplotlib is imported where something is drawn, and only its object-oriented part: no window, no global state.
"""

from collections.abc import Mapping, Sequence
from statistics import median_low
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.report.figures.shape_curves import Curve, Curves
from lossbench.report.figures.style import COLOURS, DPI, GREY, frame
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
ROOF = 4.0
"""Curves are cut off at so many times the usual peak, so that the others can be seen."""
SPARED = 1.6
"""Unless the highest is no more than so many times higher."""


def draw_shapes(curves: Curves, title: str = "") -> "Figure":
    """Draw values (left) and slopes (right) of curves that share an axis, with a legend and what is held fixed."""
    from matplotlib.figure import Figure

    made = Figure(SIZE, dpi=DPI, facecolor="white", layout="constrained")
    panels = made.subplots(1, 2, sharex=True)
    cut = {name: _panel(axes, curves, name) for axes, name in zip(panels, ("value", "slope"), strict=True)}
    panels[0].set_title("value", fontsize=10, loc="left", color=GREY)
    panels[1].set_title(f"gradient: change per unit of {curves.axis.slope}", fontsize=10, loc="left", color=GREY)
    if curves.axis.name == "margin":
        _zero_one(panels[0], curves)
    handles = {text: line for line, text in zip(*panels[0].get_legend_handles_labels(), strict=True)}
    made.legend(handles.values(), handles, loc="outside right upper", frameon=False, fontsize=9, handlelength=3.2)
    told = f"Loss and gradient against {curves.axis.title}"
    made.suptitle(title or told, x=0.008, ha="left", fontsize=12, fontweight="bold")
    made.supxlabel(fill(write_caption(curves, cut), CAPTION_LETTERS), x=0.008, ha="left", fontsize=8, color=GREY)
    return made


def write_caption(curves: Curves, cut: Mapping[str, Sequence[str]]) -> str:
    """Return what is held fixed, and what the picture does not show as it is."""
    n = len(curves.labels)
    held = [fact if len(labels) == n else f"{fact} ({', '.join(labels)})" for fact, labels in curves.held.items()]
    variants = {(c.is_first, c.variant) for c in curves.curves if c.variant}
    thin = sorted(v for first, v in variants if not first)
    thick = sorted(v for first, v in variants if first)
    left = [f"{name} of {', '.join(who)}" for name, who in cut.items() if who]
    parts = [
        f"Held fixed: {'; '.join(held)}." if held else "",
        f"Thick: {' or '.join(thick)}; thin: {' or '.join(thin)}." if thin else "",
        "Axes are linear within 1 of zero and logarithmic beyond." if curves.is_huge else "",
        "Each loss is scaled to a steepest slope of 1." if curves.normalised else "",
        f"Cut off, far from the others: {'; '.join(left)}." if left else "",
        *describe_gaps(curves),
    ]
    return " ".join(part for part in parts if part)


def describe_gaps(curves: Curves) -> list[str]:
    """Return a sentence for each curve that is not finite somewhere."""
    return [
        f"{curve.loss} is not finite at {curve.n_gaps} of {int(curve.inside.sum())} points: a gap."
        for curve in curves.curves
        if curve.n_gaps
    ]


def _panel(axes: "Axes", curves: Curves, name: str) -> list[str]:
    """Draw value or slope; the losses that are cut off."""
    styles = {label: _style(place) for place, label in enumerate(curves.labels)}
    for curve in curves.curves:
        text = fill(curve.loss, LEGEND_LETTERS, subsequent_indent="  ") if curve.is_first else None
        width = THICK if curve.is_first else THIN
        axes.plot(curve.x, getattr(curve, name), label=text, linewidth=width, **styles[curve.loss])
    _frame(axes, curves)
    if curves.is_huge:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(*_ends(curves.curves, name))
        return []
    low, high, cut = limits(curves.curves, name)
    axes.set_ylim(low, high)
    return cut


def _style(place: int) -> dict[str, Any]:
    turn, colour = divmod(place, len(COLOURS))
    dash = (colour + turn) % len(DASHES)
    return {"color": COLOURS[colour], "linestyle": DASHES[dash], "zorder": 2 + dash / 10}


def _frame(axes: "Axes", curves: Curves) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axis = curves.axis
    if axis.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(*curves.range)
    axes.set_xlabel(axis.label, fontsize=9)
    frame(axes)
    axes.axhline(0, color="#B0B0B0", linewidth=0.8, zorder=1)
    for place, name in axis.marks:
        if curves.range[0] < place < curves.range[1]:
            axes.axvline(place, color="#B0B0B0", linewidth=0.8, zorder=1)
            at = (place, 0.985)
            axes.text(*at, f" {name}", transform=axes.get_xaxis_transform(), fontsize=8, color=GREY, va="top")


def _zero_one(axes: "Axes", curves: Curves) -> None:
    low, high = curves.range
    if low < 0 < high:
        axes.plot([low, 0, 0, high], [1, 1, 0, 0], color="#BDBDBD", linewidth=3.5, zorder=1.5, label="0/1 error")


def limits(curves: Sequence[Curve], name: str) -> tuple[float, float, list[str]]:
    """Return bottom and top of a panel, and the losses that leave it."""
    peaks = [_peak(getattr(curve, name)) for curve in curves]
    troughs = [_peak(-getattr(curve, name)) for curve in curves]
    high, low = _roof(peaks), -_roof(troughs)
    edge = 0.04 * ((high - low) or 1.0)
    # told only of what visibly leaves, not of a rounding at the edge
    left = [
        c.loss for c in curves
        if np.nanmax(getattr(c, name), initial=low) > high + edge
        or np.nanmin(getattr(c, name), initial=high) < low - edge
    ]  # fmt: skip
    return low - edge, high + edge, list(dict.fromkeys(left))


def _ends(curves: Sequence[Curve], name: str) -> tuple[float, float]:
    """A little more than all values, on an axis that is logarithmic far from zero."""
    values = np.concatenate([getattr(curve, name) for curve in curves])
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    return 1.5 * float(low) - 0.2, 1.5 * float(high) + 0.2


def _peak(values: Array) -> float:
    """The highest value, or where nearly all are below if a few points stand far above them."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0
    most, highest = float(np.quantile(known, 0.99)), float(known.max())
    return max(0.0, most if highest > ROOF * most > 0 else highest)


def _roof(peaks: Sequence[float]) -> float:
    """As high as the highest, unless that is far above the usual."""
    usual = [peak for peak in peaks if peak > 0]
    if not usual:
        return 0.0
    roof = ROOF * median_low(usual)
    return roof if max(usual) > SPARED * roof else max(usual)
