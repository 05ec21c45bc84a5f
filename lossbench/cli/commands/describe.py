"""`lossbench describe huber`: all that is known of a name, be it a loss, a weighting, a data set or anything else."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from lossbench.cli.commands import aliases
from lossbench.cli.output import OutputMode, print_document, results_console
from lossbench.errors import InvalidValue, UnknownName
from lossbench.registry import ALL, Entry, Registry
from lossbench.report.describe.descriptions import describe_entry
from lossbench.report.describe.pages import render_page

USAGE = "lossbench describe NAME [NAME ...]"
Found = tuple[Registry[Any], Entry[Any]]


def run_describe(arguments: Sequence[str], mode: OutputMode) -> int:
    """Print what is known of each name; one that exists in two kinds is shown in both."""
    options = [a for a in arguments if a.startswith("-")]
    if options or not arguments:
        raise InvalidValue(f"Write {USAGE}." + (f" Got {' '.join(arguments)!r} instead." if options else ""))
    found = [(name, pair) for name in arguments for pair in _find_named(name)]
    if mode is OutputMode.JSON:
        print_document([describe_entry(*pair) for _, pair in found])
    elif mode is OutputMode.TABLE:
        for place, (name, pair) in enumerate(found):
            results_console().print(render_page(name, describe_entry(*pair), first=place == 0))
    return 0


def _find_named(name: str) -> list[Found]:
    exact = [(r, r.entries()[name]) for r in ALL.values() if name in r.entries()]
    found = exact or [(r, r.entries()[own]) for r in ALL.values() for own in aliases.find_registered_names(r, name)]
    if not found:
        every = sorted({own for r in ALL.values() for own in r.entries()})
        near = get_close_matches(name, every, n=5)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise UnknownName(f"Nothing is called {name!r}.{hint} Lists: lossbench {', '.join(ALL)}.")
    return found
