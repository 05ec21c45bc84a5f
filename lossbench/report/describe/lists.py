"""Lists of what is registered, as tables."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from lossbench.registry import Entry
from lossbench.report.describe.descriptions import OTHER, list_entry
from lossbench.report.describe.pages import format_facts

WIDE = 120
"""Columns from which what a loss takes has columns of its own."""
Row = dict[str, Any]


def render_losses(found: Sequence[Entry[Any]], for_task: bool, width: int) -> Table:
    """Return losses by family: name and fields, when to use it, what it takes; tasks unless the list is for one."""
    columns = WIDE_LOSSES if width >= WIDE else NARROW_LOSSES
    columns = {heading: cell for heading, cell in columns.items() if not (for_task and heading == "tasks")}
    table = _table(columns)
    rows = sorted(map(list_entry, found), key=_place)  # stable: names stay in order
    for family, members in groupby(rows, key=lambda row: row["family"]):
        table.add_row(Text(f"\n{family}" if table.rows else family, style="bold cyan"))
        for row in members:
            table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _place(row: Row) -> tuple[bool, str]:
    return row["family"] == OTHER, row["family"]


def render_entries(found: Sequence[Entry[Any]], for_task: bool) -> Table:
    """Return a list of anything else. Columns that would be empty are left out."""
    rows = [list_entry(entry) for entry in found]
    cells = {h: [cell(row) for row in rows] for h, cell in COLUMNS.items() if not (for_task and h == "tasks")}
    shown = {heading: COLUMNS[heading] for heading, own in cells.items() if any(own)}
    made = _table(shown)
    for row in rows:
        made.add_row(*(cell(row) for cell in shown.values()))
    return made


def _table(headings: Iterable[str]) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        made.add_column(Text(heading, style="bold"), overflow="fold", no_wrap=heading == "name")
    return made


def _name(row: Row) -> Text:
    """The name, below it the fields with their defaults, and where it comes from if it is not built in."""
    foreign = not row["source"].startswith("lossbench ")
    told = {n: v for n, v in row["fields"].items() if v is not None or n in row["required"]}
    lines = [f"{name}={_default(value)}" for name, value in told.items()]
    return Text("\n  ".join([row["name"], *lines, *([f"from {row['source']}"] if foreign else [])]))


def _default(value: Any) -> str:
    return "?" if value is None else str(value).replace(" ", "").replace("'", "")


def _tasks(row: Row) -> Text:
    return Text("all" if "*" in row["tasks"] else ", ".join(row["tasks"]))


def _facts(row: Row) -> Text:
    head = [] if row["head"] == "linear" else [f"head: {row['head']}"]
    return Text("; ".join([*filter(None, [format_facts(row["facts"])]), *head]))


def _advice(row: Row) -> Text:
    """When to use it; below it, dimmed, what it takes, and what is claimed of it."""
    both = (row["takes"], row["target"])
    taken = " against ".join(dict.fromkeys(both))
    below = "; ".join(filter(None, [taken, _facts(row).plain]))
    return Text(row["use_when"]).append(f"\n{below}", style="dim")


COLUMNS: dict[str, Callable[[Row], Text]] = {
    "name": _name,
    "tasks": _tasks,
    "what it is": lambda row: Text(row["what_it_is"]),
    "use when": lambda row: Text(row["use_when"]),
}
NARROW_LOSSES: dict[str, Callable[[Row], Text]] = {"name": _name, "tasks": _tasks, "use when": _advice}
WIDE_LOSSES: dict[str, Callable[[Row], Text]] = {
    "name": _name,
    "tasks": _tasks,
    "takes": lambda row: Text(row["takes"]),
    "target": lambda row: Text(row["target"]),
    "facts": _facts,
    "use when": lambda row: Text(row["use_when"]),
}
