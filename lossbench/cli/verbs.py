"""Verbs: `lossbench losses regression` and the like."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from lossbench.errors import InvalidValue, unknown
from lossbench.registry import ALL, Registry


def run_verb(verb: str, arguments: Sequence[str]) -> int:
    """List what is registered, for one task if it is named."""
    if verb not in ALL:
        raise unknown("verb", verb, ALL, "Verbs")
    if len(arguments) > 1:
        raise InvalidValue(f"lossbench {verb} takes at most one task. Got {' '.join(arguments)!r} instead.")
    registry = ALL[verb]
    console = Console()
    console.print(_listing(registry, arguments[0] if arguments else None))
    for problem in registry.problems:
        console.print(f"{problem.source} failed to load ({problem.group}: {problem.name}): {problem.reason}")
    return 0


def _listing(registry: Registry[object], task: str | None) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "tasks", "what it is", "use when", "from"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for name in registry.names(task):
        entry = registry.entries()[name]
        tasks = ", ".join(getattr(entry.kind, "tasks", ())) or "all"
        summary = (entry.kind.__doc__ or "").strip().splitlines()[0:1]
        table.add_row(name, tasks, "".join(summary), getattr(entry.kind, "use_when", ""), entry.source)
    return table
