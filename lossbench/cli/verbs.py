"""Verbs: `lossbench losses regression` and the like."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any

from rich.table import Table
from rich.text import Text

from lossbench.cli import console
from lossbench.cli.mode import Mode
from lossbench.errors import InvalidValue, unknown
from lossbench.registry import ALL, Entry, Registry


def run_verb(verb: str, arguments: Sequence[str], mode: Mode = Mode.TABLE) -> int:
    """List what is registered, for one task if it is named; or `check` losses."""
    if verb == "check":
        from lossbench.cli.check import run_check  # it brings torch along, which lists need not wait for

        code = run_check(arguments, mode)
        if mode is not Mode.QUIET:
            _tell_problems(ALL["losses"])
        return code
    if verb not in ALL:
        raise unknown("verb", verb, [*ALL, "check"], "Verbs")
    if len(arguments) > 1:
        raise InvalidValue(f"lossbench {verb} takes at most one task. Got {' '.join(arguments)!r} instead.")
    registry = ALL[verb]
    found = [registry.entries()[name] for name in registry.names(arguments[0] if arguments else None)]
    if mode is Mode.JSON:
        print(json.dumps([_plain(entry) for entry in found], indent=1, ensure_ascii=False))
    elif mode is Mode.TABLE:
        console.results().print(_listing(found, bool(arguments)))
    if mode is not Mode.QUIET:
        _tell_problems(registry)
    return 0


def _plain(entry: Entry[Any]) -> dict[str, Any]:
    """The same as a table's row. A field that has to be given is null."""
    own = fields(entry.kind) if is_dataclass(entry.kind) else ()
    defaults = {f.name: _value(f) for f in own}
    return {
        "name": entry.name,
        "tasks": list(getattr(entry.kind, "tasks", ())),
        "fields": {name: None if value is MISSING else value for name, value in defaults.items()},
        "what_it_is": _summary(entry),
        "use_when": getattr(entry.kind, "use_when", ""),
        "source": entry.source,
    }


def _tell_problems(registry: Registry[Any]) -> None:
    for p in registry.problems:
        told = f"{p.source} failed to load ({p.group}: {p.name}): {p.reason}"
        console.messages().print(told, soft_wrap=True, markup=False)


def _listing(found: Sequence[Entry[Any]], for_task: bool) -> Table:
    """Columns that would be empty, or the same in every row, are left out."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = {h: [cell(entry) for entry in found] for h, cell in COLUMNS.items() if not (for_task and h == "tasks")}
    shown = {h: cells for h, cells in columns.items() if any(cells)}
    for heading in shown:
        table.add_column(Text(heading, style="bold"), overflow="fold", no_wrap=heading == "name")
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _name(entry: Entry[Any]) -> str:
    """The name, below it the fields with their defaults, and where it comes from if it is not built in."""
    foreign = not entry.kind.__module__.startswith("lossbench.")
    return "\n  ".join([entry.name, *_fields(entry), *([f"from {entry.source}"] if foreign else [])])


def _tasks(entry: Entry[Any]) -> str:
    declared = getattr(entry.kind, "tasks", ())
    return "all" if "*" in declared else ", ".join(declared)


def _summary(entry: Entry[Any]) -> str:
    """The docstring's first line without its markup."""
    line = next(iter((entry.kind.__doc__ or "").strip().splitlines()), "")
    return re.sub(r":\w+:`|`+|\\(?=[a-z])", "", line)


def _fields(entry: Entry[Any]) -> list[str]:
    own = fields(entry.kind) if is_dataclass(entry.kind) else ()
    return [f"{f.name}={_default(f)}" for f in own]


def _default(f: "Field[Any]") -> str:
    value = _value(f)
    return "?" if value is MISSING else str(value).replace(" ", "").replace("'", "")


def _value(f: "Field[Any]") -> Any:
    value = f.default_factory() if f.default_factory is not MISSING else f.default
    return value.value if isinstance(value, Enum) else value


COLUMNS: dict[str, Callable[[Entry[Any]], str]] = {
    "name": _name,
    "tasks": _tasks,
    "what it is": _summary,
    "use when": lambda entry: getattr(entry.kind, "use_when", ""),
}
