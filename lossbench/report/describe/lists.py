"""Lists of registered names, as tables."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from lossbench.registry import Entry
from lossbench.report.describe.descriptions import OTHER, list_entry
from lossbench.report.describe.pages import format_facts

WIDE = 120  # from so many letters on, what a loss takes has columns of its own
Description = dict[str, Any]  # as `list_entry` returns it


def render_losses(entries: Sequence[Entry[Any]], for_task: bool, width: int) -> Table:
    """Return losses by family: name and fields, when to use it, what it takes; tasks unless the list is for one."""
    columns = WIDE_LOSSES if width >= WIDE else NARROW_LOSSES
    columns = {heading: cell for heading, cell in columns.items() if not (for_task and heading == "tasks")}
    table = _create_table(columns)
    # by family, those without one last; names stay in order, as sorting is stable
    losses = sorted(map(list_entry, entries), key=lambda loss: (loss["family"] == OTHER, loss["family"]))
    for family, members in groupby(losses, key=lambda loss: loss["family"]):
        table.add_row(Text(f"\n{family}" if table.rows else family, style="bold cyan"))
        for loss in members:
            table.add_row(*(cell(loss) for cell in columns.values()))
    return table


def render_entries(entries: Sequence[Entry[Any]], for_task: bool) -> Table:
    """Return a list of anything else. Columns that would be empty are left out."""
    descriptions = [list_entry(entry) for entry in entries]
    columns = {
        heading: cell
        for heading, cell in COLUMNS.items()
        if not (for_task and heading == "tasks") and any(map(cell, descriptions))
    }
    table = _create_table(columns)
    for description in descriptions:
        table.add_row(*(cell(description) for cell in columns.values()))
    return table


def _create_table(headings: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(Text(heading, style="bold"), overflow="fold", no_wrap=heading == "name")
    return table


# the cells of a table


def _format_name(entry: Description) -> Text:
    """Return the name, below it the fields with their defaults, and where it comes from if it is not built in."""
    lines = [entry["name"]]
    for name, default in entry["fields"].items():
        if default is not None:
            text = str(default).replace(" ", "").replace("'", "")
            lines.append(f"{name}={text}")
        elif name in entry["required"]:
            lines.append(f"{name}=?")
    if not entry["source"].startswith("lossbench "):
        lines.append(f"from {entry['source']}")
    return Text("\n  ".join(lines))


def _format_tasks(entry: Description) -> Text:
    return Text("all" if "*" in entry["tasks"] else ", ".join(entry["tasks"]))


def _format_facts_and_head(loss: Description) -> Text:
    head = "" if loss["head"] == "linear" else f"head: {loss['head']}"
    return Text("; ".join(filter(None, (format_facts(loss["facts"]), head))))


def _format_advice(loss: Description) -> Text:
    """Return when to use it; below it, dimmed, what it takes, and what it claims."""
    takes = " against ".join(dict.fromkeys((loss["takes"], loss["target"])))
    below = "; ".join(filter(None, [takes, _format_facts_and_head(loss).plain]))
    return Text(loss["use_when"]).append(f"\n{below}", style="dim")


COLUMNS: dict[str, Callable[[Description], Text]] = {
    "name": _format_name,
    "tasks": _format_tasks,
    "what it is": lambda entry: Text(entry["what_it_is"]),
    "use when": lambda entry: Text(entry["use_when"]),
}
NARROW_LOSSES: dict[str, Callable[[Description], Text]] = {
    "name": _format_name,
    "tasks": _format_tasks,
    "use when": _format_advice,
}
WIDE_LOSSES: dict[str, Callable[[Description], Text]] = {
    "name": _format_name,
    "tasks": _format_tasks,
    "takes": lambda loss: Text(loss["takes"]),
    "target": lambda loss: Text(loss["target"]),
    "facts": _format_facts_and_head,
    "use when": lambda loss: Text(loss["use_when"]),
}
