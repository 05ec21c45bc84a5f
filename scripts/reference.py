"""Writes docs/reference.md from the registry: every name, its fields and its facts. `--check` only compares."""

import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from inspect import getdoc
from pathlib import Path
from typing import Any

from lossbench.registry import ALL, Entry

TARGET = Path(__file__).parents[1] / "docs" / "reference.md"
INTRODUCTION = """\
# Reference

Everything that is built in, written by `scripts/reference.py` from the code. `lossbench losses`, `lossbench tasks` and
so on print the same with what is installed beside it. Fields are set as `loss.delta=2`, `model.width=128`.
"""


def fields_of(kind: type) -> str:
    """Fields with their defaults."""
    own = fields(kind) if is_dataclass(kind) else ()
    return ", ".join(f"`{f.name}={shown}`" if (shown := default(f)) else f"`{f.name}`" for f in own)


def default(field: "Field[Any]") -> str:
    """A field's default as one would type it; nothing if it has to be given."""
    if field.default is MISSING and field.default_factory is MISSING:
        return ""
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return str(value.value if isinstance(value, Enum) else value)


def lines_of(entry: Entry[Any]) -> Iterator[str]:
    """One name."""
    kind = entry.kind
    yield f"### {entry.name}"
    yield ""
    yield (getdoc(kind) or "").split("\n\n", 1)[0].replace("\n", " ")
    yield ""
    for word, value in facts(kind):
        yield f"- {word}: {value}"
    yield ""


def facts(kind: type) -> Iterator[tuple[str, str]]:
    """What a reader wants to know before choosing."""
    if own := fields_of(kind):
        yield "fields", own
    for name in ("tasks", "known_as"):
        if values := getattr(kind, name, ()):
            yield name.replace("_", " "), ", ".join("any" if v == "*" else v for v in values)
    for name in ("use_when", "beware", "source"):
        if text := getattr(kind, name, ""):
            yield name.replace("_", " "), text
    if defaults := getattr(kind, "defaults", None):
        yield "defaults", ", ".join(f"{group}={name}" for group, name in defaults.items())
        yield "metrics", ", ".join(kind.metrics)  # type: ignore[attr-defined]


def reference() -> str:
    """The whole page."""
    page = [INTRODUCTION]
    for group, registry in ALL.items():
        page += [f"## {group.capitalize()}", ""]
        built_in = [e for e in registry.entries().values() if e.kind.__module__.startswith("lossbench.")]
        page += [line for entry in built_in for line in lines_of(entry)]
    return "\n".join(page).rstrip() + "\n"


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return int(TARGET.read_text() != reference())
    TARGET.write_text(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main())
