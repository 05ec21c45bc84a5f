"""Numbers as text, with as many digits as their intervals warrant, and columns laid out for the width of a terminal."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from lossbench.analysis import Estimate, StepsToTarget
from lossbench.analysis.pairwise import Difference
from lossbench.analysis.scale import Scale
from lossbench.analysis.verdicts import Verdict
from lossbench.report.tables.terms import TERMS, format_pointer

NOTHING = "–"


def format_estimates(estimates: Sequence[Estimate | None]) -> list[str]:
    """Return `1.05 [1.01–1.10]` of each, with as many digits as the intervals warrant, and alike where possible."""
    halves = [(estimate.high - estimate.low) / 2 if estimate else np.nan for estimate in estimates]
    known = [half for half in halves if half > 0]
    typical_half = float(np.median(known)) if known else np.nan
    return [_format_estimate(estimate, half, typical_half) for estimate, half in zip(estimates, halves, strict=True)]


def _format_estimate(estimate: Estimate | None, half: float, typical_half: float) -> str:
    if estimate is None or not np.isfinite(estimate.value):
        return NOTHING
    if not np.isfinite(half):
        return format_number(estimate.value)
    numbers = (estimate.value, estimate.low, estimate.high)
    if half > 0 and 1e-4 <= abs(estimate.value) < 1e5:
        # the typical interval shows one significant digit, or two where the first is 1 or 2; this one at least one
        own_exponent, exponent = (int(np.floor(np.log10(x) + 1e-9)) for x in (half, typical_half))
        decimals = max((1 if typical_half < 3 * 10.0**exponent else 0) - exponent, -own_exponent)
        value, low, high = (f"{number:.{min(max(decimals, 0), 6)}f}" for number in numbers)
    else:
        value, low, high = map(format_number, numbers)
    between = " to " if low.startswith("-") else "–"  # a dash beside a minus sign cannot be read
    return f"{value} [{low}{between}{high}]"


def format_number(value: float, digits: int = 3) -> str:
    """Return `digits` significant digits, trailing zeros kept; a dash for a value that is not finite."""
    if not np.isfinite(value):
        return NOTHING
    return f"{value:#.{digits}g}".rstrip(".") if 1e-4 <= abs(value) < 1e5 else f"{value:.{digits}g}"


def format_steps_to_target(reach: StepsToTarget | None) -> str:
    """Return `250`; `250 4/5` if a seed never arrived; `– 2/5` if most did not; a dash if none did."""
    if reach is None or not reach.n_reached:
        return NOTHING
    median = f"{reach.median:.0f}" if np.isfinite(reach.median) else NOTHING
    return median if reach.n_reached == reach.n_trials else f"{median} {reach.n_reached}/{reach.n_trials}"


def format_difference(difference: Difference, scale: Scale, signed: bool = True) -> str:
    """Return `+20% [12,28]`; unsigned, how much worse it is: `20% [12%, 28%]`, `5.6 points [0.7, 10.6]`."""
    if difference.verdict is Verdict.IDENTICAL:
        return "0"
    # 1. numbers as they are shown: unsigned, positive is worse
    numbers = [difference.value, difference.low, difference.high]
    if not signed and scale.higher_is_better:
        numbers = [-numbers[0], -numbers[2], -numbers[1]]
    # 2. fewer decimals for wider intervals
    width = numbers[2] - numbers[1]
    decimals = 1 if not np.isfinite(width) else 0 if width >= 20 else 1 if width >= 2 else 2
    numbers = [round(number, decimals) + 0.0 for number in numbers]  # no -0.0
    # 3. value, unit and interval
    unit = "%" if scale.unit == "%" else (" pt" if signed else " points")
    value = f"{numbers[0]:{'+' if signed else ''}.{decimals}f}{unit}"
    if not np.isfinite(numbers[1]):
        return value
    low, high = (f"{number:.{decimals}f}" for number in numbers[1:])
    if signed:
        return f"{value} [{low},{high}]"  # no space to break it at
    sign = "%" if scale.unit == "%" else ""
    return f"{value} [{low}{sign}, {high}{sign}]"


def format_rope(scale: Scale) -> str:
    """Return `2%`, `1 point`."""
    size = abs(scale.to_display(scale.rope))
    return f"{size:.3g}%" if scale.unit == "%" else f"{size:.3g} point{'' if round(size, 9) == 1 else 's'}"


NARROW_NAME, NARROWEST_NAME = 14, 12  # the first fits cross_entropy, which many names end with
SPARED = ("diverged", "AULC")
"""Terms whose columns the table of a run leaves out first; the line below the title tells how many diverged."""


@dataclass(frozen=True)
class Column:
    """Cells below a heading.

    term: the name in `TERMS` of what the column shows. heading: by default the term's.
    """

    term: str
    cells: Sequence[str]
    heading: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "heading", self.heading or TERMS[self.term].heading)

    @property
    def is_name(self) -> bool:
        """True if it holds the losses' names, which are aligned left and may be folded."""
        return self.term == "loss"


def drop_empty(columns: Sequence[Column]) -> list[Column]:
    """Return the columns in which some cell says something."""
    return [column for column in columns if any(cell != NOTHING for cell in column.cells)]


@dataclass(frozen=True)
class Grid:
    """A table for the width of a terminal.

    ends: numbers of the rows below which there is a gap. spared: terms whose columns are left out first.
    """

    columns: Sequence[Column]
    ends: Collection[int] = ()
    spared: Sequence[str] = SPARED

    def fit_columns(self, width: int) -> list[Column]:
        """Return the columns that there is room for."""
        columns = list(self.columns)
        for term in self.spared:
            if _total(_choose_widths(columns, width)) <= width:
                break
            columns = [column for column in columns if column.term != term]
        return columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = self.fit_columns(options.max_width)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        cells = []
        for column, width in zip(columns, _choose_widths(columns, options.max_width), strict=True):
            # folding breaks words in two, but no number is cut short
            justify: JustifyMethod = "left" if column.is_name else "right"
            table.add_column(Text(column.heading), justify=justify, overflow="fold", width=width)
            cells.append([_fold(cell, width) for cell in column.cells] if column.is_name else column.cells)
        for number, row in enumerate(zip(*cells, strict=True)):
            table.add_row(*map(Text, row), end_section=number in self.ends)
        yield table


@dataclass(frozen=True)
class Pointer:
    """The footnote that names the terms of the columns which the width has room for."""

    grids: Sequence[Grid]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [column for grid in self.grids for column in grid.fit_columns(options.max_width)]
        yield Text(format_pointer(column.term for column in columns))


def _fold(name: str, width: int) -> str:
    """Return the name in lines of at most `width`, broken after an underscore or a space if it can be."""
    lines = [""]
    for part in re.findall(r"[^_ ]+[_ ]*|[_ ]+", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _choose_widths(columns: Sequence[Column], available: int) -> list[int]:
    """Return each column's width: that of its longest line, where there is room.

    Intervals give way first, then the name, then others, and the name again.
    """
    texts = [(column.heading, *column.cells) for column in columns]
    widths = [max(len(line) for text in each for line in text.split("\n")) for each in texts]
    # no word and no number is broken, but names
    least = [max(len(word) for text in each for word in text.split()) for each in texts]
    names = [i for i, column in enumerate(columns) if column.is_name]
    intervals = [i for i, c in enumerate(columns) if not c.is_name and any("[" in cell for cell in c.cells)]
    for i in names:
        widths[i], least[i] = max(widths[i], NARROW_NAME), NARROW_NAME
    # 1. all intervals, so that they look alike
    if _total(widths) > available:
        for i in intervals:
            widths[i] = least[i]
    # 2. names
    for i in names:
        widths[i] = max(least[i], widths[i] - max(_total(widths) - available, 0))
    # 3. others, until it fits: the one that gives just enough, or else the one that gives most
    slack = {i: widths[i] - least[i] for i in range(len(columns)) if widths[i] > least[i]}
    while slack and (excess := _total(widths) - available) > 0:
        i = min(slack, key=lambda i: (slack[i] < excess, abs(slack[i] - excess)))
        widths[i] -= slack.pop(i)
    # 4. names again, of which words are then broken
    for i in names:
        widths[i] = max(NARROWEST_NAME, widths[i] - max(_total(widths) - available, 0))
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * len(widths) - 1  # padding, and the box's spaces between columns
