"""Presets: YAML files that stand for a choice with its fields, a protocol or an experiment. Read without Hydra.

They lie in lossbench's own package, in packages that entry points `lossbench.configs` name, and in folders that a
command adds: `loss/mine.yaml` is `loss=mine`, `experiment/study.yaml` is `experiment=study`. A package that cannot be
read, or that uses a name that is taken, is left out with the reason; the others are used.

A `defaults` list may name what a file starts from: a choice of its own group (`cross_entropy`,
`/loss/external@_here_`), or in an experiment the choices of groups (`override /task: multiclass`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, cast

from lossbench.errors import InvalidValue, LossbenchError, make_unknown
from lossbench.registry import GROUPS, NameClash, Problem

GROUP = "lossbench.configs"
"""The group of entry points that name packages of configurations."""
BUILT_IN = "lossbench.configs"
"""The package of built-in configurations."""
EXPERIMENT, PROTOCOL = "experiment", "protocol"
FOLDERS = (*GROUPS, EXPERIMENT, "hydra", PROTOCOL)
"""Folders that such a package may have."""


@dataclass(frozen=True)
class Package:
    """A package of configurations, the distribution that it comes with, and its files as `loss/mine`."""

    name: str
    source: str
    configs: tuple[str, ...]


def list_packages() -> tuple[Package, ...]:
    """Return the built-in package, then those of other distributions that have no problem."""
    return _read_packages()[0]


def list_problems() -> tuple[Problem, ...]:
    """Return the packages that are left out, with the reasons."""
    return _read_packages()[1]


@cache
def _read_packages() -> tuple[tuple[Package, ...], tuple[Problem, ...]]:
    packages, problems = [_read_package(BUILT_IN, "lossbench")], []
    points = [(f"{p.dist.name} {p.dist.version}" if p.dist else "unknown", p) for p in entry_points(group=GROUP)]
    for source, point in sorted(points, key=lambda pair: (pair[0], pair[1].name)):
        try:
            package = _read_package(point.value, source)
            _check_package(package, packages)
            packages.append(package)
        except Exception as error:  # importing a third-party package may raise anything
            reason = str(error) if isinstance(error, LossbenchError) else f"{type(error).__name__}: {error}"
            problems.append(Problem(GROUP, point.name, source, reason))
    return tuple(packages), tuple(problems)


def _read_package(name: str, source: str) -> Package:
    return Package(name, source, tuple(sorted(_find_configs(files(name)))))


def _find_configs(folder: Traversable, group: str = "") -> Iterator[str]:
    """Yield the YAML files below a folder, as `loss/mine`; those of the folder itself belong to no group."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _find_configs(entry, f"{group}{entry.name}/")
        elif group and entry.name.endswith(".yaml"):
            yield f"{group}{entry.name.removesuffix('.yaml')}"


def _check_package(package: Package, others: list[Package]) -> None:
    """Raise `LossbenchError` for a package without a configuration, or with one whose name is taken.

    Of two files of a name, Hydra would take the first; for a registered name it would take the file. It says nothing.
    """
    if not package.configs:
        raise InvalidValue(f"{package.name} holds no file like loss/NAME.yaml or experiment/NAME.yaml.")
    holders = {config: other.source for other in others for config in other.configs}
    for config in package.configs:
        group, _, name = config.partition("/")
        if group not in FOLDERS:
            raise make_unknown("folder of configurations", group, FOLDERS, "Folders")
        entries: dict[str, Any] = GROUPS[group].entries() if group in GROUPS else {}
        holder = holders.get(config) or (entries[name].source if name in entries else None)
        if holder:
            raise NameClash(f"{config}.yaml clashes with {name!r} of {holder}: rename it.")


_folders: list[Path] = []


def add_folder(folder: Path) -> None:
    """Search this folder for presets, too, before all others."""
    if folder not in _folders:
        _folders.insert(0, folder)


def list_presets(group: str) -> list[str]:
    """Return the names of a group's presets, those in folders included."""
    packaged = [config for package in list_packages() for config in package.configs]
    added = [str(path.relative_to(folder).with_suffix("")) for folder in _folders for path in folder.rglob("*.yaml")]
    prefix = f"{group}/"
    return sorted({config.removeprefix(prefix) for config in (*packaged, *added) if config.startswith(prefix)})


def list_library_presets(group: str) -> list[str]:
    """Return the names of the presets in folders of a group, each a library: `timm/asymmetric`."""
    return [name for name in list_presets(group) if "/" in name]


def load_preset(group: str, name: str) -> dict[str, Any] | None:
    """Return the fields of a choice's preset, its name among them; None if there is none of this name."""
    path = f"{group}/{name}"
    content = _load_file(path)
    if content is None:
        return None
    fields: dict[str, Any] = {}
    for base in _pop_bases(content, path):
        if not isinstance(base, str):
            raise _make_defaults_error(group, base)
        base_name = base.removesuffix("@_here_").removeprefix(f"/{group}/")
        base_fields = {"name": base_name} if base_name in GROUPS[group].entries() else load_preset(group, base_name)
        if base_fields is None:
            names = [*GROUPS[group].entries(), *list_presets(group)]
            raise make_unknown(GROUPS[group].word, base_name, names, "There are")
        fields = merge(fields, base_fields)
    return merge(fields, content)


def load_protocol(name: str) -> dict[str, Any]:
    """Return the settings of a protocol. Raises `UnknownName`."""
    content = _load_file(f"{PROTOCOL}/{name}")
    if content is None:
        raise make_unknown("protocol", name, list_presets(PROTOCOL), "Protocols")
    return content


def load_experiment(name: str) -> dict[str, Any]:
    """Return the settings of an experiment's preset. Raises `UnknownName`."""
    path = f"{EXPERIMENT}/{name}"
    content = _load_file(path)
    if content is None:
        raise make_unknown("experiment", name, list_presets(EXPERIMENT), "Experiments")
    settings: dict[str, Any] = {}
    for base in _pop_bases(content, path):
        if not isinstance(base, Mapping) or len(base) != 1:
            raise _make_defaults_error(path, base)
        ((key, value),) = base.items()
        group = re.sub(r"^override\s+", "", str(key)).strip("/ ")  # `override /task: multiclass`
        if group == EXPERIMENT:
            settings = merge_settings(settings, load_experiment(str(value)))
        elif group in GROUPS or group == PROTOCOL:
            settings = merge_settings(settings, {group: value})
        else:
            raise _make_defaults_error(path, base)
    return merge_settings(settings, content)


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` overridden by `more`; values that are mappings in both are merged in turn."""
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def merge_settings(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `merge` of two mappings of settings, in which a choice may be its name alone."""
    return merge(_expand_names(base), _expand_names(more))


def _expand_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    named = (*GROUPS, PROTOCOL)
    return {n: {"name": v} if n in named and isinstance(v, str) else v for n, v in settings.items()}


def _load_file(config: str) -> dict[str, Any] | None:
    """Return the content of the first file of this name; None if there is none.

    Folders that were added come first. Raises `InvalidValue` for a file that holds no mapping.
    """
    import yaml

    # 1. find it
    paths = (folder / f"{config}.yaml" for folder in _folders)
    file: Traversable | None = next((path for path in paths if path.is_file()), None)
    package = next((package for package in list_packages() if config in package.configs), None)
    if file is None and package is not None:
        file = files(package.name).joinpath(f"{config}.yaml")
    if file is None:
        return None
    # 2. read it
    try:
        content = yaml.safe_load(file.read_text("utf-8")) or {}
    except yaml.YAMLError as error:
        raise InvalidValue(f"{config}.yaml cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidValue(f"{config}.yaml must hold settings, as in 'delta: 2'. Got {content!r:.80} instead.")
    return cast(dict[str, Any], content)


def _pop_bases(content: dict[str, Any], config: str) -> list[Any]:
    """Take the `defaults` list out of a file's content, and return what the file starts from."""
    bases = content.pop("defaults", [])
    if not isinstance(bases, list) or (("_self_" in bases) and bases[-1] != "_self_"):
        raise _make_defaults_error(config, bases)
    return [base for base in bases if base != "_self_"]


def _make_defaults_error(config: str, base: Any) -> InvalidValue:
    return InvalidValue(
        f"{config}.yaml: its defaults list holds {base!r}, which lossbench does not follow. It follows names of the "
        "file's own group, '/group/name@_here_', and in experiments 'override /group: name'."
    )
