"""Packages that ship presets and studies: entry points `lossbench.configs`, each a package of YAML files.

Its folders are Hydra's groups: `loss/mine.yaml` is `loss=mine`, `experiment/study.yaml` is `experiment=study`. One that
cannot be read, or that takes a name that is taken, is left out with its reason and stops no other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from lossbench.config.experiment import GROUPS
from lossbench.errors import InvalidValue, LossbenchError, unknown
from lossbench.registry import NameClash, Problem

GROUP = "lossbench.configs"
OWN = "lossbench.configs"
"""Our own package of configurations."""
FOLDERS = (*GROUPS, "experiment", "hydra", "protocol")
"""What its files may lie in, or below."""


@dataclass(frozen=True)
class Package:
    """A package of configurations, the distribution that it comes with, and its files as `loss/mine`."""

    name: str
    source: str
    configs: tuple[str, ...]


def packages() -> tuple[Package, ...]:
    """Ours, then those of others that have no problem."""
    return _found()[0]


def problems() -> tuple[Problem, ...]:
    """What is left out, and why."""
    return _found()[1]


@cache
def _found() -> tuple[tuple[Package, ...], tuple[Problem, ...]]:
    found, broken = [_read(OWN, "lossbench")], []
    for point in sorted(entry_points(group=GROUP), key=lambda p: (_source(p), p.name)):
        try:
            found.append(_new(point, found))
        except Exception as error:  # importing a stranger's package may raise anything
            reason = str(error) if isinstance(error, LossbenchError) else f"{type(error).__name__}: {error}"
            broken.append(Problem(GROUP, point.name, _source(point), reason))
    return tuple(found), tuple(broken)


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"


def _new(point: EntryPoint, others: list[Package]) -> Package:
    """What an entry point names; raises `LossbenchError` if it has no configuration, or one that is there already.

    Hydra would take the first of two files of a name, or a file for a registered name, and say nothing.
    """
    package = _read(point.value, _source(point))
    if not package.configs:
        raise InvalidValue(f"{point.value} holds no file like loss/NAME.yaml or experiment/NAME.yaml.")
    taken = {config: other.source for other in others for config in other.configs}
    for config in package.configs:
        group, _, name = config.partition("/")
        if group not in FOLDERS:
            raise unknown("folder of configurations", group, FOLDERS, "Folders")
        if holder := taken.get(config) or _registered(group, name):
            raise NameClash(f"{config}.yaml clashes with {name!r} of {holder}: rename it.")
    return package


def _registered(group: str, name: str) -> str | None:
    """Where a registered name comes from; None if there is none."""
    entries: dict[str, Any] = GROUPS[group].entries() if group in GROUPS else {}
    return entries[name].source if name in entries else None


def _read(name: str, source: str) -> Package:
    return Package(name, source, tuple(sorted(_configs(files(name)))))


def _configs(folder: Traversable, group: str = "") -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _configs(entry, f"{group}{entry.name}/")
        elif group and entry.name.endswith(".yaml"):
            yield f"{group}{entry.name.removesuffix('.yaml')}"
