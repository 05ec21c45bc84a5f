"""The page on one name: what it is, its formula, and all else that is known of it."""

import re
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lossbench.report.describe.descriptions import CLAIMS, FACTS


def render_page(asked: str, known: dict[str, Any], first: bool) -> RenderableType:
    """Return the page of what `describe_entry` knows; asked: the name that was typed, first: of several pages."""
    title = Text(known["name"], style="bold").append(f"  {_kind(known)}", style="dim")
    if asked != known["name"]:
        title.append(f"  ({asked!r} elsewhere)", style="dim")
    parts: list[RenderableType] = [] if first else [Text()]
    parts += [title, Text(known["what_it_is"])]
    if known["formula"]:
        parts.append(Text())
    for place, line in enumerate(known["formula"]):
        parts.append(Padding(Text(line), (0, 0, 0, 6 if place else 2)))
    for note in known["notes"]:
        parts += [Text(), Text(note)]
    return Group(*parts, Text(), _rows(known))


def _kind(known: dict[str, Any]) -> str:
    return ", ".join([known["kind"], *([known["family"]] if "family" in known else [])])


def _rows(known: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in list_rows(known):
        table.add_row(label, Text(text))
    return table


def list_rows(known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the rows of a page: a label and its text."""
    yield from _said(known, "use_when", "pitfall")
    if known["fields"]:
        yield "fields", "\n".join(format_field(f) for f in known["fields"])
    if "takes" in known:
        head = "" if known["head"] == "linear" else f"; head: {known['head']}"
        requires = f"; and {', '.join(known['requires'])}" if known["requires"] else ""
        yield "takes", f"{known['takes']}; target: {known['target']}{head}{requires}"
    yield from _said(known, "shapes", "raises")
    if any(value is not None for value in known["facts"].values()):
        yield "facts", format_facts(known["facts"])
    if known["aliases"]:
        yield "known as", "\n".join(known["aliases"])
    yield from _said(known, "same_as")
    yield from _fitting(known)
    if known["reference"]:
        yield "reference", re.sub(r",? *(https?://\S+)", r"\n\1", known["reference"])
    yield from _said(known, "data_from", "better")
    if not known["source"].startswith("lossbench "):
        yield "from", known["source"]
    yield from (("try", known["example"]),) if known["example"] else ()


def _said(known: dict[str, Any], *names: str) -> Iterator[tuple[str, str]]:
    for name in names:
        if known.get(name):
            yield name.replace("_", " "), known[name]


def _fitting(known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if known["tasks"]:
        yield "tasks", "all" if "*" in known["tasks"] else ", ".join(known["tasks"])
    if fitting := known["weightings"]:
        yield "weightings", "\n".join(f"{task}: {', '.join(names)}" for task, names in fitting.items())
    if "defaults" in known:
        yield "defaults", ", ".join(f"{group}={name}" for group, name in known["defaults"].items())
        yield "metrics", ", ".join(known["metrics"])


def format_field(field: dict[str, Any]) -> str:
    """Return `delta: float = 1.0, in the range (0, inf)`."""
    default = "" if field["default"] is None else f" = {field['default'] or repr(field['default'])}"
    wanted = re.sub(rf"^an? {field['type']}\b ?", "", field["must_be"] or "")
    return f"{field['name']}: {field['type']}{default}" + (f", {wanted}" if wanted else "")


def format_facts(facts: dict[str, bool | None]) -> str:
    """Return `convex, robust; not bounded`: what is claimed and what is denied."""
    held = ", ".join(name for name in FACTS if facts[name])
    denied = ", ".join(f"not {name}" for name in CLAIMS if facts[name] is False)
    return "; ".join(filter(None, [held, denied]))
