"""`lossbench describe huber`: everything about a name, be it a loss, a weighting, a data set or anything else."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from lossbench.cli.commands.aliases import find_registered_names
from lossbench.cli.output import OutputMode, print_document, results_console
from lossbench.errors import InvalidValue, UnknownName
from lossbench.registry import ALL, Entry, Registry
from lossbench.report.describe.descriptions import describe_entry
from lossbench.report.describe.pages import render_page

USAGE = "lossbench describe NAME [NAME ...]"


def run_describe(arguments: Sequence[str], mode: OutputMode) -> int:
    """Print a page for each name; a name that exists in two groups gets a page for both."""
    options = [argument for argument in arguments if argument.startswith("-")]
    if options or not arguments:
        raise InvalidValue(f"Write {USAGE}." + (f" Got {' '.join(arguments)!r} instead." if options else ""))
    pages = [(name, describe_entry(*match)) for name in arguments for match in _find_entries(name)]
    if mode is OutputMode.JSON:
        print_document([description for _, description in pages])
    elif mode is OutputMode.TABLE:
        for place, (name, description) in enumerate(pages):
            results_console().print(render_page(name, description, first=place == 0))
    return 0


def _find_entries(name: str) -> list[tuple[Registry[Any], Entry[Any]]]:
    """Return the entries of this name in all groups; if there is none, those of which it is an alias."""
    matches = [(registry, registry.entries()[name]) for registry in ALL.values() if name in registry.entries()]
    matches = matches or [
        (registry, registry.entries()[registered])
        for registry in ALL.values()
        for registered in find_registered_names(registry, name)
    ]
    if not matches:
        near = get_close_matches(name, sorted({n for registry in ALL.values() for n in registry.entries()}), n=5)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise UnknownName(f"Nothing is called {name!r}.{hint} Lists: lossbench {', '.join(ALL)}.")
    return matches
