"""The page on one name: what it is, its formula, and everything else that its description holds."""

import re
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lossbench.report.describe.descriptions import CLAIMS, FACTS


def render_page(name: str, description: dict[str, Any], first: bool) -> RenderableType:
    """Return the page of a description by `describe_entry`.

    name: as it was typed, which may be an alias. first: no line is left free above it.
    """
    kind = ", ".join(filter(None, (description["kind"], description.get("family"))))
    title = Text(description["name"], style="bold").append(f"  {kind}", style="dim")
    if name != description["name"]:
        title.append(f"  ({name!r} elsewhere)", style="dim")
    parts: list[RenderableType] = [] if first else [Text()]
    parts += [title, Text(description["what_it_is"])]
    if description["formula"]:
        parts.append(Text())
    for index, line in enumerate(description["formula"]):
        parts.append(Padding(Text(line), (0, 0, 0, 6 if index else 2)))  # later lines are indented farther
    for note in description["notes"]:
        parts += [Text(), Text(note)]

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _list_rows(description):
        table.add_row(label, Text(text))
    return Group(*parts, Text(), table)


def _list_rows(description: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the rows of a page: a label and its text."""
    yield from _list_texts(description, "use_when", "pitfall")
    if description["fields"]:
        yield "fields", "\n".join(format_field(field) for field in description["fields"])
    if "takes" in description:
        head = "" if description["head"] == "linear" else f"; head: {description['head']}"
        requires = f"; and {', '.join(description['requires'])}" if description["requires"] else ""
        yield "takes", f"{description['takes']}; target: {description['target']}{head}{requires}"
    yield from _list_texts(description, "shapes", "raises")
    if any(value is not None for value in description["facts"].values()):
        yield "facts", format_facts(description["facts"])
    if description["aliases"]:
        yield "aliases", "\n".join(description["aliases"])
    yield from _list_texts(description, "same_as")
    # the classes that go with it
    if description["tasks"]:
        yield "tasks", "all" if "*" in description["tasks"] else ", ".join(description["tasks"])
    if weightings := description["weightings"]:
        yield "weightings", "\n".join(f"{task}: {', '.join(names)}" for task, names in weightings.items())
    if "defaults" in description:
        yield "defaults", ", ".join(f"{group}={name}" for group, name in description["defaults"].items())
        yield "metrics", ", ".join(description["metrics"])
    # where to read on
    if description["reference"]:
        yield "reference", re.sub(r",? *(https?://\S+)", r"\n\1", description["reference"])  # links on their own lines
    yield from _list_texts(description, "data_from", "better")
    if not description["source"].startswith("lossbench "):
        yield "from", description["source"]
    if description["example"]:
        yield "try", description["example"]


def _list_texts(description: dict[str, Any], *names: str) -> Iterator[tuple[str, str]]:
    """Yield those of the named texts that there are, with their names as labels."""
    for name in names:
        if description.get(name):
            yield name.replace("_", " "), description[name]


def format_field(field: dict[str, Any]) -> str:
    """Return `delta: float = 1.0, in the range (0, inf)`."""
    default = "" if field["default"] is None else f" = {field['default'] or repr(field['default'])}"
    demand = re.sub(rf"^an? {field['type']}\b ?", "", field["must_be"] or "")  # the type is not said twice
    return f"{field['name']}: {field['type']}{default}" + (f", {demand}" if demand else "")


def format_facts(facts: dict[str, bool | None]) -> str:
    """Return `convex, robust; not bounded`: facts that hold, and claims that are denied."""
    true = ", ".join(name for name in FACTS if facts[name])
    denied = ", ".join(f"not {name}" for name in CLAIMS if facts[name] is False)
    return "; ".join(filter(None, [true, denied]))
