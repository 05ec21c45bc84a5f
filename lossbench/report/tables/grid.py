"""Columns laid out for the width there is: where it is short, intervals go below their values, then columns go."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

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
