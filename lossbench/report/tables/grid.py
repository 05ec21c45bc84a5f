"""Numbers as text, with as many digits as their intervals warrant, and columns laid out for the width there is."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from lossbench.analysis import Estimate, Reach
from lossbench.analysis.paired import Difference
from lossbench.analysis.scale import Scale
from lossbench.analysis.verdicts import Verdict

NOTHING = "–"


def format_estimates(estimates: Sequence[Estimate | None]) -> list[str]:
    """Return `1.05 [1.01–1.10]`, with as many digits as the intervals warrant, and alike where that can be."""
    halves = [_half(estimate) for estimate in estimates]
    known = [half for half in halves if half > 0]
    common = float(np.median(known)) if known else np.nan
    return [_estimate_text(estimate, half, common) for estimate, half in zip(estimates, halves, strict=True)]


def format_number(value: float, digits: int = 3) -> str:
    """Return `digits` significant digits, trailing zeros kept; a dash for what is not finite."""
    if not np.isfinite(value):
        return NOTHING
    return f"{value:#.{digits}g}".rstrip(".") if 1e-4 <= abs(value) < 1e5 else f"{value:.{digits}g}"


def format_reach(reach: Reach | None) -> str:
    """Return `250`; `250 4/5` if a seed never arrived; `– 2/5` if most did not; a dash if none did."""
    if reach is None or not reach.n_reached:
        return NOTHING
    median = f"{reach.median:.0f}" if np.isfinite(reach.median) else NOTHING
    return median if reach.n_reached == reach.n_trials else f"{median} {reach.n_reached}/{reach.n_trials}"


def _half(estimate: Estimate | None) -> float:
    return (estimate.high - estimate.low) / 2 if estimate else np.nan


def _estimate_text(estimate: Estimate | None, half: float, common: float) -> str:
    if estimate is None or not np.isfinite(estimate.value):
        return NOTHING
    if not np.isfinite(half):
        return format_number(estimate.value)
    numbers = (estimate.value, estimate.low, estimate.high)
    if half > 0 and 1e-4 <= abs(estimate.value) < 1e5:
        value, low, high = (f"{number:.{_decimals(half, common)}f}" for number in numbers)
    else:
        value, low, high = map(format_number, numbers)
    between = " to " if low.startswith("-") else "–"  # a dash beside a minus sign cannot be read
    return f"{value} [{low}{between}{high}]"


def _decimals(half: float, common: float) -> int:
    """Such that `common` shows one significant digit, or two where the first is 1 or 2; and `half` at least one."""
    own, exponent = (int(np.floor(np.log10(x) + 1e-9)) for x in (half, common))
    decimals = max((1 if common < 3 * 10.0**exponent else 0) - exponent, -own)
    return min(max(decimals, 0), 6)


def format_difference(found: Difference, scale: Scale, signed: bool = True) -> str:
    """Return `+20% [12,28]`; unsigned, how much worse it is: `20% [12%, 28%]`, `5.6 points [0.7, 10.6]`."""
    if found.verdict is Verdict.IDENTICAL:
        return "0"
    numbers = [found.value, found.low, found.high]
    if not signed and scale.higher_is_better:
        numbers = [-numbers[0], -numbers[2], -numbers[1]]
    decimals = _difference_decimals(numbers[2] - numbers[1])
    unit = "%" if scale.unit == "%" else (" pt" if signed else " points")
    numbers = [round(number, decimals) + 0.0 for number in numbers]  # no -0.0
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


def _difference_decimals(width: float) -> int:
    if not np.isfinite(width):
        return 1
    return 0 if width >= 20 else 1 if width >= 2 else 2


NAME = "loss"
NARROW_NAME, NARROWEST_NAME = 14, 12  # the first fits cross_entropy, which many names end with
SPARED = ("diverged", "area")
"""Columns that the run's table leaves out first; the footer tells how many diverged."""


@dataclass(frozen=True)
class Grid:
    """Cells by heading, the rows below which there is a gap, and the columns that are left out first."""

    columns: Mapping[str, Sequence[str]]
    ends: Collection[int] = ()
    spared: Sequence[str] = SPARED

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = dict(self.columns)
        for spared in (*self.spared, ""):
            widths = _widths(columns, options.max_width)
            if _total(widths) <= options.max_width:
                break
            columns.pop(spared, None)
        yield _table(columns, widths, self.ends)


def _table(columns: Mapping[str, Sequence[str]], widths: Mapping[str, int], ends: Collection[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, width in widths.items():
        # folding breaks words in two, but no number is cut short
        table.add_column(name, justify="left" if name == NAME else "right", overflow="fold", width=width)
    shown = dict(columns)
    if NAME in shown:
        shown[NAME] = [_folded(name, widths[NAME]) for name in shown[NAME]]
    for number, cells in enumerate(zip(*shown.values(), strict=True)):
        table.add_row(*map(Text, cells), end_section=number in ends)
    return table


def _folded(name: str, width: int) -> str:
    """In lines of at most `width`, broken after an underscore or a space if it can be."""
    lines = [""]
    for part in re.findall(r"[^_ ]+[_ ]*|[_ ]+", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _widths(columns: Mapping[str, Sequence[str]], available: int) -> dict[str, int]:
    """Each as wide as its longest line, where there is room.

    Intervals give way first, then the name, then others, and the name again.
    """
    widths = {name: _most(name, cells) for name, cells in columns.items()}
    least = {name: NARROW_NAME if name == NAME else _least(name, cells) for name, cells in columns.items()}
    intervals = [name for name, cells in columns.items() if name != NAME and any("[" in cell for cell in cells)]
    for group in (intervals, [NAME], list(columns)):
        excess = _total(widths) - available
        if excess > 0:
            widths |= {n: max(least[n], widths[n] - excess) if n == NAME else least[n] for n in group}
    if NAME in widths and (excess := _total(widths) - available) > 0:
        widths[NAME] = max(NARROWEST_NAME, widths[NAME] - excess)
    return widths


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * len(widths) - 1  # padding, and the box's spaces between columns


def _most(name: str, cells: Sequence[str]) -> int:
    longest = max(len(line) for text in (name, *cells) for line in text.split("\n"))
    return max(longest, NARROW_NAME) if name == NAME else longest


def _least(name: str, cells: Sequence[str]) -> int:
    return max(len(word) for text in (name, *cells) for word in text.split())
