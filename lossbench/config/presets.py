"""Presets: YAML files that stand for a choice with its fields, a protocol or an experiment. Read without Hydra.

They lie in packages, of which entry points `lossbench.configs` name others than ours, and in folders that a command
adds: `loss/mine.yaml` is `loss=mine`, `experiment/study.yaml` is `experiment=study`. A package that cannot be read, or
that takes a name that is taken, is left out with its reason and stops no other.

A `defaults` list may name what a file starts from: a choice of its own group (`cross_entropy`,
`/loss/external@_here_`), or in an experiment the choices of groups (`override /task: multiclass`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, cast

from lossbench.errors import InvalidValue, LossbenchError, make_unknown
from lossbench.registry import GROUPS, NameClash, Problem

GROUP = "lossbench.configs"
OWN = "lossbench.configs"
"""Our own package of configurations."""
EXPERIMENT, PROTOCOL = "experiment", "protocol"
FOLDERS = (*GROUPS, EXPERIMENT, "hydra", PROTOCOL)
"""What its files may lie in, or below."""


@dataclass(frozen=True)
class Package:
    """A package of configurations, the distribution that it comes with, and its files as `loss/mine`."""

    name: str
    source: str
    configs: tuple[str, ...]


def list_packages() -> tuple[Package, ...]:
    """Ours, then those of others that have no problem."""
    return _found()[0]


def list_problems() -> tuple[Problem, ...]:
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
            raise make_unknown("folder of configurations", group, FOLDERS, "Folders")
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


_folders: list[Path] = []


def add_folder(folder: Path) -> None:
    """Look for presets in this folder as well, and there first."""
    if folder not in _folders:
        _folders.insert(0, folder)


def list_presets(group: str) -> list[str]:
    """Return the names of a group's presets, those in folders included."""
    packaged = [config for package in list_packages() for config in package.configs]
    added = [str(path.relative_to(folder).with_suffix("")) for folder in _folders for path in folder.rglob("*.yaml")]
    found = (config.removeprefix(f"{group}/") for config in (*packaged, *added) if config.startswith(f"{group}/"))
    return sorted(set(found))


def list_library_presets(group: str) -> list[str]:
    """Return the names of the presets in folders of a group, each a library: `timm/asymmetric`."""
    return [name for name in list_presets(group) if "/" in name]


def load_preset(group: str, name: str) -> dict[str, Any] | None:
    """Return the fields of a choice's preset, its name among them; None if there is none of this name."""
    held = _load_file(f"{group}/{name}")
    if held is None:
        return None
    found: dict[str, Any] = {}
    for base in _bases(held, f"{group}/{name}"):
        found = merge(found, _load_base(group, base))
    return merge(found, held)


def load_protocol(name: str) -> dict[str, Any]:
    """Return what a protocol sets. Raises `UnknownName`."""
    held = _load_file(f"{PROTOCOL}/{name}")
    if held is None:
        raise make_unknown("protocol", name, list_presets(PROTOCOL), "Protocols")
    return held


def load_experiment(name: str) -> dict[str, Any]:
    """Return the settings of an experiment's preset. Raises `UnknownName`."""
    held = _load_file(f"{EXPERIMENT}/{name}")
    if held is None:
        raise make_unknown("experiment", name, list_presets(EXPERIMENT), "Experiments")
    found: dict[str, Any] = {}
    for base in _bases(held, f"{EXPERIMENT}/{name}"):
        if not isinstance(base, Mapping) or len(base) != 1:
            raise _unreadable(f"{EXPERIMENT}/{name}", base)
        ((key, value),) = base.items()
        group = re.sub(r"^override\s+", "", str(key)).strip("/ ")
        if group == EXPERIMENT:
            found = merge_settings(found, load_experiment(str(value)))
        elif group in GROUPS or group == PROTOCOL:
            found = merge_settings(found, {group: value})
        else:
            raise _unreadable(f"{EXPERIMENT}/{name}", base)
    return merge_settings(found, held)


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with what `more` says; mappings in both are merged in turn."""
    found = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merge(found[key], value) if both else value
    return found


def merge_settings(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `merge` of two mappings of settings, in which a choice may be its name alone."""
    return merge(_with_named_choices(base), _with_named_choices(more))


def _with_named_choices(settings: Mapping[str, Any]) -> dict[str, Any]:
    named = (*GROUPS, PROTOCOL)
    return {n: {"name": v} if n in named and isinstance(v, str) else v for n, v in settings.items()}


def _load_file(config: str) -> dict[str, Any] | None:
    """Return what the first file of this name holds; None without one. Raises `InvalidValue` for what is no mapping."""
    import yaml

    text = _read_file(config)
    if text is None:
        return None
    try:
        held = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InvalidValue(f"{config}.yaml cannot be read: {error}") from error
    if not isinstance(held, dict):
        raise InvalidValue(f"{config}.yaml must hold settings, as in 'delta: 2'. Got {held!r:.80} instead.")
    return cast(dict[str, Any], held)


def _read_file(config: str) -> str | None:
    for folder in _folders:
        if (path := folder / f"{config}.yaml").is_file():
            return path.read_text("utf-8")
    home = next((package for package in list_packages() if config in package.configs), None)
    return files(home.name).joinpath(f"{config}.yaml").read_text("utf-8") if home else None


def _bases(held: dict[str, Any], config: str) -> list[Any]:
    """Take the `defaults` list out of a file's content: what comes before the file itself."""
    listed = held.pop("defaults", [])
    if not isinstance(listed, list) or (("_self_" in listed) and listed[-1] != "_self_"):
        raise _unreadable(config, listed)
    return [base for base in listed if base != "_self_"]


def _load_base(group: str, base: Any) -> dict[str, Any]:
    """Return what another choice of the group sets: that of a registered name is the name alone."""
    if not isinstance(base, str):
        raise _unreadable(group, base)
    name = base.removesuffix("@_here_").removeprefix(f"/{group}/")
    if name in GROUPS[group].entries():
        return {"name": name}
    found = load_preset(group, name)
    if found is None:
        raise make_unknown(GROUPS[group].word, name, [*GROUPS[group].entries(), *list_presets(group)], "There are")
    return found


def _unreadable(config: str, base: Any) -> InvalidValue:
    return InvalidValue(
        f"{config}.yaml: its defaults list holds {base!r}, which lossbench does not follow. It follows names of the "
        "file's own group, '/group/name@_here_', and in experiments 'override /group: name'."
    )
