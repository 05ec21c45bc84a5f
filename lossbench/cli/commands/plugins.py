"""`lossbench plugins`: which packages and files add to lossbench, what they offer, and what of them failed to load."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, entry_points
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rich.table import Table
from rich.text import Text

from lossbench import plugins
from lossbench.cli.output import OutputMode, print_document, results_console
from lossbench.config import presets
from lossbench.errors import InvalidValue, make_unknown
from lossbench.registry import ALL, Problem

OURS, PREFIX = "lossbench", "lossbench."
PRESETS = "presets"
HOW = (
    "Add your own: 'plugins=[my_losses.py]' for a file, an entry point in lossbench.losses (or another kind) for a "
    "package."
)


@dataclass(frozen=True)
class Source:
    """A package or a file, and what it adds."""

    name: str
    version: str
    place: str  # a folder or a file
    editable: bool
    offers: dict[str, list[str]]  # names by kind
    problems: list[dict[str, str]]


def run_plugins(arguments: Sequence[str], mode: OutputMode) -> int:
    """Tell what is installed and what was loaded by `plugins=`; 1 if any of it has failed to load."""
    if arguments:
        raise InvalidValue(
            f"Write lossbench plugins, with --json or 'plugins=[my_losses.py]'. Got {' '.join(arguments)!r} instead."
        )
    built_in = {group: sum(e.source.startswith(f"{OURS} ") for e in ALL[group].entries().values()) for group in ALL}
    sources = [*_installed(), *map(_own, plugins.list_loaded())]
    if mode is OutputMode.JSON:
        found = {"built_in": built_in, "plugins": [asdict(s) for s in sources]}
        print_document(found)
    elif mode is OutputMode.TABLE:
        _show(built_in, sources)
    return int(any(s.problems for s in sources))


def _installed() -> Iterator[Source]:
    """Every distribution but ours with an entry point in a group of ours, or in one that is named as if it were."""
    groups = sorted(g for g in entry_points().groups if g.startswith(PREFIX))
    points = [p for group in groups for p in entry_points(group=group)]
    found = {p.dist.name: p.dist for p in points if p.dist and p.dist.name != OURS}
    for name, dist in sorted(found.items()):
        source = f"{name} {dist.version}"
        strange = [_strange(p.group, p.name, source) for p in points if p.dist and p.dist.name == name]
        problems = [p for p in [*_problems(), *filter(None, strange)] if p.source == source]
        told = [{"kind": p.group.removeprefix(PREFIX), "name": p.name, "reason": p.reason} for p in problems]
        yield Source(name, dist.version, *_place(dist), _offers(source), told)


def _problems() -> list[Problem]:
    return [*(problem for names in ALL.values() for problem in names.problems), *presets.list_problems()]


def _strange(group: str, name: str, source: str) -> Problem | None:
    known = [*(f"{PREFIX}{kind}" for kind in ALL), presets.GROUP]
    return None if group in known else Problem(group, name, source, str(make_unknown("group", group, known, "Groups")))


def _offers(source: str) -> dict[str, list[str]]:
    offered = {group: [e.name for e in ALL[group].entries().values() if e.source == source] for group in ALL}
    offered[PRESETS] = [config for p in presets.list_packages() if p.source == source for config in p.configs]
    return {kind: names for kind, names in offered.items() if names}


def _place(dist: Distribution) -> tuple[str, bool]:
    """Where it is, and whether it is an editable installation."""
    origin: dict[str, Any] = json.loads(dist.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return url2pathname(urlsplit(origin["url"]).path), True
    return str(dist.locate_file("")), False


def _own(plugin: plugins.Plugin) -> Source:
    offered = {kind: names for kind, names in plugins.list_offers(plugin).items() if names}
    return Source(plugin.place, "", plugin.path, False, offered, [])


def _show(built_in: dict[str, int], sources: Sequence[Source]) -> None:
    out = results_console()
    counts = ", ".join(f"{n} {kind}" for kind, n in built_in.items())
    out.print(f"Built in: {counts}.", markup=False)
    if sources:
        out.print(_table(sources))
    else:
        out.print("Nothing is added to that.")
    out.print(HOW, markup=False)


def _table(sources: Sequence[Source]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("from", "offers"):
        table.add_column(Text(heading, style="bold"), overflow="fold")
    for source in sources:
        table.add_row(_title(source), _offered(source))
    return table


def _title(source: Source) -> Text:
    where = f"{source.place} (editable)" if source.editable else source.place
    return Text(f"{source.name} {source.version}".strip()).append(f"\n{where}", style="dim")


def _offered(source: Source) -> Text:
    lines = [Text(f"{kind}: {', '.join(names)}") for kind, names in source.offers.items()]
    failed = [Text(f"failed: {p['kind']}: {p['name']}: {p['reason']}", style="red") for p in source.problems]
    return Text("\n").join([*lines, *failed])
