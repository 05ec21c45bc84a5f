"""How figures look: colours and marks of losses, panels, captions, files.

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

# Okabe and Ito's colours, told apart by people with any colour vision (https://jfly.uni-koeln.de/color/); their yellow
# is faint as a line, so grey takes its place.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
N_STRONG = 7
"""The colours of losses of records: grey is for what is not told apart."""
MARKS: tuple[tuple[Any, str], ...] = (("-", "o"), ((0, (4, 1.5)), "s"))
"""Dash and marker of the first losses, and of those that have the same colours again."""
N_STYLES = N_STRONG * len(MARKS)
OTHERS, PALE, GREY = "#B9B9B9", "#E4E4E4", "#555555"
DPI = 200
SUFFIXES = ("png", "svg")
PANEL, LEGEND, LEAST_WIDTH = (3.5, 2.9), 2.1, 6.5
"""Inches: of a panel, of what stands beside all panels, and of a figure."""
EQUAL = 0.01
"""Lines that are no farther apart than such a share of all that is drawn are seen as one."""
GAPS: tuple[Any, ...] = ((0, (5, 5)), (0, (2, 8)))
ACROSS = 3
"""Panels in a row."""
NAME_LETTERS = 26
DECADE, FAR = 10.0, 100.0


@dataclass(frozen=True)
class Style:
    """How a loss is drawn, in every figure of a comparison."""

    colour: str
    dash: Any
    marker: str

    @property
    def is_strong(self) -> bool:
        """Whether the loss is told apart from all others."""
        return self.colour != OTHERS


def assign_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each loss, by the order of the alphabet; grey for those beyond `N_STYLES`."""
    styles = {}
    for place, name in enumerate(sorted(set(names))):
        turn, colour = divmod(place, N_STRONG)
        styles[name] = Style(COLOURS[colour], *MARKS[turn]) if turn < len(MARKS) else Style(OTHERS, "-", "o")
    return styles


def style_losses(comparison: "Comparison") -> dict[str, Style]:
    """Return a style for each loss: the same in all figures of the comparison.

    Where there are more than `N_STYLES`, those that stand best in the mean over the rates are told apart.
    """
    ranked = rank_losses(comparison)
    return assign_styles(ranked[:N_STYLES]) | {name: Style(OTHERS, "-", "o") for name in ranked[N_STYLES:]}


def rank_losses(comparison: "Comparison") -> list[str]:
    """Return the losses by their mean rank over the rates, the best first."""
    ranks: dict[str, list[int]] = {}
    for level in comparison.levels:
        for rank, row in enumerate(level.rows):  # best first
            ranks.setdefault(row.name, []).append(rank)
    return sorted(ranks, key=lambda name: (np.mean(ranks[name]), name))


def describe_direction(higher_is_better: bool) -> str:
    """Return `higher is better` or `lower is better`."""
    return f"{'higher' if higher_is_better else 'lower'} is better"


def compose_title(what: str, cell: "Summary") -> str:
    """Return a figure's title: what it shows, task, data, model and corruption."""
    parts = [str(cell.settings[name]) for name in ("task", "data", "model") if cell.settings.get(name)]
    corruption = [] if cell.corruption in ("", "none") else [f"corruption {cell.corruption}"]
    return " · ".join([what, *parts, *corruption])


def create_panels(
    titles: Sequence[str],
    heading: str,
    panel: tuple[float, float] = PANEL,
    beside: float = LEGEND,
    across: int = ACROSS,
) -> tuple["Figure", list["Axes"]]:
    """Return a figure and a panel for each of `titles`, up to `across` in a row.

    panel: its width and height in inches. beside: inches that are kept free beside all panels.
    """
    from matplotlib.figure import Figure

    across = 2 if len(titles) == 4 else min(len(titles), across)
    down = -(-len(titles) // across)
    size = (max(across * panel[0] + beside, LEAST_WIDTH), down * panel[1] + 0.8)
    figure = Figure(size, dpi=DPI, facecolor="white", layout="constrained")
    panels = [figure.add_subplot(down, across, place + 1) for place in range(len(titles))]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9, loc="left", color=GREY)
        frame(axes)
    figure.suptitle(fill(heading, int(size[0] * 10.5)), x=0.008, ha="left", fontsize=11, fontweight="bold")
    return figure, panels


def frame(axes: "Axes") -> None:
    """Draw a panel's grid and take away what is in the way."""
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def add_caption(figure: "Figure", sentences: Iterable[str]) -> None:
    """Write what a figure shows below it."""
    text = fill(
        " ".join(filter(None, sentences)), int(figure.get_size_inches()[0] * 15.5)
    )  # letters are wider at few dots per inch
    figure.supxlabel(text, x=0.008, ha="left", fontsize=8, color=GREY)


def add_legend(figure: "Figure", lines: Iterable["Line2D"]) -> None:
    """Name lines, by their labels, beside the panels."""
    handles = list(lines)
    names = [fill(str(line.get_label()), NAME_LETTERS, subsequent_indent="  ") for line in handles]
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8, handlelength=3.0)


def create_key(name: str, style: Style, marker: str | None = None) -> "Line2D":
    """Return the line that stands for a loss in a legend; marker: in place of the style's."""
    from matplotlib.lines import Line2D

    mark = style.marker if marker is None else marker
    return Line2D([], [], color=style.colour, linestyle=style.dash, marker=mark, markersize=4, label=name)


def label_left(panels: Sequence["Axes"], text: str) -> None:
    """Name the vertical axis at the first panel of each row."""
    for axes in panels:
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]  # each panel is a subplot
            axes.set_ylabel(text, fontsize=9)


def draw_lines(axes: "Axes", lines: Mapping[str, tuple[Array, Array]], styles: Mapping[str, Style]) -> bool:
    """Draw a line for each loss, grey ones below all others; return whether some are equal.

    Of equal lines the later have gaps, in which the earlier is seen. lines: across and up, each ``[n]``, by loss.
    """
    heights = [up[np.isfinite(up)] for _, up in lines.values()]
    alike = EQUAL * float(np.ptp(np.concatenate(heights))) if heights else 0.0
    drawn, some_equal = list[tuple[Array, Array]](), False
    for name in sorted(lines, key=lambda name: (styles[name].is_strong, name)):
        across, up = lines[name]
        style, dash = styles[name], styles[name].dash
        if style.is_strong:
            same = [x for x, y in drawn if np.array_equal(x, across) and np.allclose(y, up, 0, alike, equal_nan=True)]
            dash = GAPS[min(len(same), len(GAPS)) - 1] if same else dash
            drawn, some_equal = [*drawn, (across, up)], some_equal or bool(same)
        axes.plot(across, up, color=style.colour, linestyle=dash, linewidth=1.7 if style.is_strong else 0.9)
    return some_equal


def draw_baseline(axes: "Axes", value: float) -> "Line2D | None":
    """Draw the baseline predictor as a dotted line; nothing where it is not known."""
    if not np.isfinite(value):
        return None
    return axes.axhline(value, color=GREY, linewidth=1.3, linestyle=":", label="baseline predictor", zorder=1.5)


def fit_scale(axes: "Axes", values: Array, higher_is_better: bool) -> None:
    """Let a vertical axis go as far as `values`, whatever intervals reach farther.

    It is logarithmic where errors span more than a decade, lest one loss flatten all others. Errors of more than `FAR`
    times the median leave it.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return
    if not higher_is_better and (middle := float(np.median(known))) > 0:
        known = known[known <= FAR * middle]
    low, high = float(known.min()), float(known.max())
    if not higher_is_better and low > 0 and high > DECADE * low:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        margin = (high / low) ** 0.06
        axes.set_ylim(low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)


def render_figure(figure: "Figure", suffix: str, dpi: int = DPI) -> bytes:
    """Return a file's content, the same bytes for equal figures; suffix: png or svg, whose text stays text."""
    from matplotlib import rc_context

    stream = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lossbench"}):
        figure.savefig(stream, format=suffix, dpi=dpi, metadata={"Date": None} if suffix == "svg" else None)
    return stream.getvalue()
