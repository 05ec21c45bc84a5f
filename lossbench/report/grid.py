"""Columns laid out for the width there is: where it is short, intervals go below their values, then columns go."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

NAME = "loss"
NARROWEST_NAME = 12
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
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(*map(Text, cells), end_section=number in ends)
    return table


def _widths(columns: Mapping[str, Sequence[str]], available: int) -> dict[str, int]:
    """Each as wide as its longest line, where there is room; intervals give way first, then the name, then others."""
    widths = {name: _most(name, cells) for name, cells in columns.items()}
    least = {name: _least(name, cells) for name, cells in columns.items()}
    intervals = [name for name, cells in columns.items() if name != NAME and any("[" in cell for cell in cells)]
    for group in (intervals, [NAME], list(columns)):
        excess = _total(widths) - available
        if excess > 0:
            widths |= {n: max(least[n], widths[n] - excess) if n == NAME else least[n] for n in group}
    return widths


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * len(widths) - 1  # padding, and the box's spaces between columns


def _most(name: str, cells: Sequence[str]) -> int:
    longest = max(len(line) for text in (name, *cells) for line in text.split("\n"))
    return max(longest, NARROWEST_NAME) if name == NAME else longest


def _least(name: str, cells: Sequence[str]) -> int:
    if name == NAME:
        return NARROWEST_NAME
    return max(len(word) for text in (name, *cells) for word in text.split())
