"""`lossbench plugins`: packages and files that add to lossbench, the names they offer, and what failed to load."""

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
ADVICE = (
    "Add your own: 'plugins=[my_losses.py]' for a file, an entry point in lossbench.losses (or another kind) for a "
    "package."
)


@dataclass(frozen=True)
class Source:
    """A package or a file, and the names that it adds."""

    name: str
    version: str
    place: str  # a folder or a file
    editable: bool
    offers: dict[str, list[str]]  # names by kind
    problems: list[dict[str, str]]


def run_plugins(arguments: Sequence[str], mode: OutputMode) -> int:
    """List installed plug-ins and those that `plugins=` loaded; return 1 if any part of them failed to load."""
    if arguments:
        raise InvalidValue(
            f"Write lossbench plugins, with --json or 'plugins=[my_losses.py]'. Got {' '.join(arguments)!r} instead."
        )
    built_in = {
        group: sum(entry.source.startswith(f"{OURS} ") for entry in registry.entries().values())
        for group, registry in ALL.items()
    }
    sources = list(_list_installed())
    for plugin in plugins.list_loaded():  # files and modules of `plugins=`
        offers = {kind: names for kind, names in plugins.list_offers(plugin).items() if names}
        sources.append(Source(plugin.place, "", plugin.path, False, offers, []))
    if mode is OutputMode.JSON:
        print_document({"built_in": built_in, "plugins": [asdict(source) for source in sources]})
    elif mode is OutputMode.TABLE:
        out = results_console()
        out.print(f"Built in: {', '.join(f'{n} {group}' for group, n in built_in.items())}.", markup=False)
        out.print(_render_table(sources) if sources else "No plug-ins are installed.")
        out.print(ADVICE, markup=False)
    return int(any(source.problems for source in sources))


def _list_installed() -> Iterator[Source]:
    """Yield every other distribution with an entry point in a group `lossbench.*`, misspelt groups included."""
    groups = sorted(group for group in entry_points().groups if group.startswith(PREFIX))
    points = [point for group in groups for point in entry_points(group=group)]
    known_groups = [*(f"{PREFIX}{kind}" for kind in ALL), presets.GROUP]
    distributions = {p.dist.name: p.dist for p in points if p.dist and p.dist.name != OURS}
    for name, distribution in sorted(distributions.items()):
        source = f"{name} {distribution.version}"
        # 1. problems: those met while loading, and entry points in a misspelt group, which nothing would load
        loading = [*(problem for registry in ALL.values() for problem in registry.problems), *presets.list_problems()]
        problems = [problem for problem in loading if problem.source == source]
        for point in points:
            if point.dist and point.dist.name == name and point.group not in known_groups:
                reason = str(make_unknown("group", point.group, known_groups, "Groups"))
                problems.append(Problem(point.group, point.name, source, reason))
        # 2. names that it registered, and presets that it ships
        offers = {
            group: [entry.name for entry in registry.entries().values() if entry.source == source]
            for group, registry in ALL.items()
        }
        offers[PRESETS] = [
            config for package in presets.list_packages() if package.source == source for config in package.configs
        ]
        yield Source(
            name,
            distribution.version,
            *_find_location(distribution),
            {kind: names for kind, names in offers.items() if names},
            [{"kind": p.group.removeprefix(PREFIX), "name": p.name, "reason": p.reason} for p in problems],
        )


def _find_location(distribution: Distribution) -> tuple[str, bool]:
    """Return the folder of a distribution, and True if it is an editable installation."""
    origin: dict[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return url2pathname(urlsplit(origin["url"]).path), True
    return str(distribution.locate_file("")), False


def _render_table(sources: Sequence[Source]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("from", "offers"):
        table.add_column(Text(heading, style="bold"), overflow="fold")
    for source in sources:
        location = f"{source.place} (editable)" if source.editable else source.place
        title = Text(f"{source.name} {source.version}".strip()).append(f"\n{location}", style="dim")
        lines = [Text(f"{kind}: {', '.join(names)}") for kind, names in source.offers.items()]
        lines += [Text(f"failed: {p['kind']}: {p['name']}: {p['reason']}", style="red") for p in source.problems]
        table.add_row(title, Text("\n").join(lines))
    return table
