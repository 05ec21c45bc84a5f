"""The look of all figures: colours and markers of losses, panels, captions, files.

Matplotlib is imported where something is drawn, and only its object-oriented part: no window, no global state.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.types import Array

if TYPE_CHECKING:  # take 0.3 s, and pictures of losses need no statistics
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from lossbench.analysis.comparison import Comparison
    from lossbench.analysis.summary import Summary

# Okabe and Ito's colours, distinct to people with any colour vision (https://jfly.uni-koeln.de/color/); their yellow is
# faint as a line, so grey takes its place.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
N_DISTINCT = 7  # colours of a study's losses; grey is left to those beyond N_STYLES
MARKS: tuple[tuple[Any, str], ...] = (("-", "o"), ((0, (4, 1.5)), "s"))  # dash and marker: a second round of colours
N_STYLES = N_DISTINCT * len(MARKS)
OTHERS, PALE, GREY = "#B9B9B9", "#E4E4E4", "#555555"
DPI = 200
SUFFIXES = ("png", "svg")
# inches: a panel, the legend beside all panels, and the least width of a figure
PANEL, LEGEND_WIDTH, LEAST_WIDTH = (3.5, 2.9), 2.1, 6.5
PANELS_PER_ROW = 3
EQUAL = 0.01  # lines no farther apart than this share of the height of all lines look equal
GAPS: tuple[Any, ...] = ((0, (5, 5)), (0, (2, 8)))  # dashes of the second and of later equal lines
NAME_LETTERS = 26
DECADE, FAR = 10.0, 100.0


@dataclass(frozen=True)
class Style:
    """The look of a loss in every figure of a comparison."""

    colour: str
    dash: Any
    marker: str

    @property
    def is_distinct(self) -> bool:
        """True if no other loss looks the same; False for the grey ones."""
        return self.colour != OTHERS


def assign_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each loss, in alphabetical order; grey for those beyond `N_STYLES`."""
    styles = {}
    for index, name in enumerate(sorted(set(names))):
        cycle, colour = divmod(index, N_DISTINCT)
        styles[name] = Style(COLOURS[colour], *MARKS[cycle]) if cycle < len(MARKS) else Style(OTHERS, "-", "o")
    return styles


def style_losses(comparison: "Comparison") -> dict[str, Style]:
    """Return a style for each loss: the same in all figures of the comparison.

    Where there are more than `N_STYLES`, the best by mean rank over the corruption rates are distinct, others grey.
    """
    ranked = rank_losses(comparison)
    return assign_styles(ranked[:N_STYLES]) | {name: Style(OTHERS, "-", "o") for name in ranked[N_STYLES:]}


def rank_losses(comparison: "Comparison") -> list[str]:
    """Return the losses by their mean rank over the corruption rates, the best first."""
    ranks: dict[str, list[int]] = {}
    for level in comparison.levels:
        for rank, row in enumerate(level.rows):  # best first
            ranks.setdefault(row.name, []).append(rank)
    return sorted(ranks, key=lambda name: (np.mean(ranks[name]), name))


def describe_direction(higher_is_better: bool) -> str:
    """Return `higher is better` or `lower is better`."""
    return f"{'higher' if higher_is_better else 'lower'} is better"


def compose_title(subject: str, summary: "Summary") -> str:
    """Return a figure's title: its subject, then task, data, model and corruption."""
    parts = [str(summary.settings[name]) for name in ("task", "data", "model") if summary.settings.get(name)]
    corruption = [] if summary.corruption in ("", "none") else [f"corruption {summary.corruption}"]
    return " · ".join([subject, *parts, *corruption])


def create_panels(
    titles: Sequence[str],
    heading: str,
    panel_size: tuple[float, float] = PANEL,
    legend_width: float = LEGEND_WIDTH,
    panels_per_row: int = PANELS_PER_ROW,
) -> tuple["Figure", list["Axes"]]:
    """Return a figure and a panel for each of `titles`, up to `panels_per_row` in a row.

    panel_size: width and height in inches. legend_width: inches that are kept free beside all panels.
    """
    from matplotlib.figure import Figure

    n_columns = 2 if len(titles) == 4 else min(len(titles), panels_per_row)  # four make a square
    n_rows = -(-len(titles) // n_columns)
    size = (max(n_columns * panel_size[0] + legend_width, LEAST_WIDTH), n_rows * panel_size[1] + 0.8)
    figure = Figure(size, dpi=DPI, facecolor="white", layout="constrained")
    panels = [figure.add_subplot(n_rows, n_columns, number) for number in range(1, len(titles) + 1)]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9, loc="left", color=GREY)
        draw_grid(axes)
    figure.suptitle(fill(heading, int(size[0] * 10.5)), x=0.008, ha="left", fontsize=11, fontweight="bold")
    return figure, panels


def draw_grid(axes: "Axes") -> None:
    """Draw a panel's grid, and remove the spines at the top and at the right."""
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def add_caption(figure: "Figure", sentences: Iterable[str]) -> None:
    """Write sentences below a figure, as long as its width allows; empty ones are left out."""
    n_letters = int(figure.get_size_inches()[0] * 15.5)  # fewer than fit: letters are wider at few dots per inch
    text = fill(" ".join(filter(None, sentences)), n_letters)
    figure.supxlabel(text, x=0.008, ha="left", fontsize=8, color=GREY)


def format_range(counts: Sequence[int]) -> str:
    """Return `3 to 5` for rising counts; `3` if all are equal."""
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def add_legend(figure: "Figure", lines: Iterable["Line2D"]) -> None:
    """Name lines, by their labels, beside the panels."""
    handles = list(lines)
    names = [fill(str(line.get_label()), NAME_LETTERS, subsequent_indent="  ") for line in handles]
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8, handlelength=3.0)


def create_key(name: str, style: Style, marker: str | None = None) -> "Line2D":
    """Return the line that stands for a loss in a legend; marker: replaces the style's."""
    from matplotlib.lines import Line2D

    marker = style.marker if marker is None else marker
    return Line2D([], [], color=style.colour, linestyle=style.dash, marker=marker, markersize=4, label=name)


def label_left_panels(panels: Sequence["Axes"], text: str) -> None:
    """Name the vertical axis at the first panel of each row."""
    for axes in panels:
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]  # each panel is a subplot
            axes.set_ylabel(text, fontsize=9)


def draw_lines(axes: "Axes", lines: Mapping[str, tuple[Array, Array]], styles: Mapping[str, Style]) -> bool:
    """Draw a line for each loss, grey ones below all others; return True if some of the lines look equal.

    Of equal lines, the later ones have gaps through which the earlier one shows.

    lines: x and y, each ``[n]``, by loss.
    """
    finite = [y[np.isfinite(y)] for _, y in lines.values()]
    tolerance = EQUAL * float(np.ptp(np.concatenate(finite))) if finite else 0.0
    drawn, some_equal = list[tuple[Array, Array]](), False
    for name in sorted(lines, key=lambda name: (styles[name].is_distinct, name)):  # False comes first: grey ones
        x, y = lines[name]
        style, dash = styles[name], styles[name].dash
        if style.is_distinct:
            equal = [a for a, b in drawn if np.array_equal(a, x) and np.allclose(b, y, 0, tolerance, equal_nan=True)]
            dash = GAPS[min(len(equal), len(GAPS)) - 1] if equal else dash
            drawn, some_equal = [*drawn, (x, y)], some_equal or bool(equal)
        axes.plot(x, y, color=style.colour, linestyle=dash, linewidth=1.7 if style.is_distinct else 0.9)
    return some_equal


def draw_baseline(axes: "Axes", value: float) -> "Line2D | None":
    """Draw the baseline predictor's metric as a dotted line and return that; None where it is not known."""
    if not np.isfinite(value):
        return None
    return axes.axhline(value, color=GREY, linewidth=1.3, linestyle=":", label="baseline predictor", zorder=1.5)


def fit_scale(axes: "Axes", values: Array, higher_is_better: bool) -> None:
    """Fit a vertical axis to `values`, however far their intervals reach.

    The axis is logarithmic where errors span more than a decade, lest one loss flatten all others. Errors of more than
    `FAR` times the median are left outside.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return
    if not higher_is_better and (median := float(np.median(finite))) > 0:
        finite = finite[finite <= FAR * median]
    low, high = float(finite.min()), float(finite.max())
    if not higher_is_better and low > 0 and high > DECADE * low:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        margin = (high / low) ** 0.06  # a factor: 6% of the axis's length
        axes.set_ylim(low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0  # also for a single value, and for 0
        axes.set_ylim(low - margin, high + margin)


def render_figure(figure: "Figure", suffix: str, dpi: int = DPI) -> bytes:
    """Return the content of a file, the same bytes for equal figures; suffix: png, or svg, in which text stays text."""
    from matplotlib import rc_context

    stream = BytesIO()
    # element ids that are hashed with a fixed salt, and no date: nothing differs between two renderings
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lossbench"}):
        figure.savefig(stream, format=suffix, dpi=dpi, metadata={"Date": None} if suffix == "svg" else None)
    return stream.getvalue()
