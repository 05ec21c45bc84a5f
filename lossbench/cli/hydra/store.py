"""Prepare Hydra before it composes: load plug-ins, and put the registry's choices into Hydra's store."""

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from enum import Enum
from functools import reduce
from types import NoneType
from typing import Any, get_args

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from lossbench import plugins, registry
from lossbench.cli.hydra.compat import read_configs
from lossbench.cli.hydra.overrides import parse_override
from lossbench.config.resolve import parse_plugins
from lossbench.config.schema import Schema
from lossbench.errors import InvalidValue
from lossbench.registry import GROUPS

DEFAULT = "default"
"""`loss: default/${task}` in config.yaml picks the task's own default: a folder below, which no glob or list shows."""


def register_choices() -> None:
    """Put the schema and every registered name into Hydra's store."""
    ConfigStore.instance().store(name="schema", node=Schema)
    for group, names in GROUPS.items():
        for name, entry in names.entries().items():
            _store_choice(group, name, name, entry.kind)
    for task, entry in registry.tasks.entries().items():
        for group, name in entry.kind.defaults.items():
            known = GROUPS[group].entries()
            if name in known:
                _store_choice(f"{group}/{DEFAULT}", task, name, known[name].kind)


_stored: dict[tuple[str, str], tuple[str, type]] = {}
"""The choice in Hydra's store, by group and file name: to make every node anew takes half a second."""


def _store_choice(group: str, file: str, name: str, kind: type) -> None:
    """Store the node of a choice under `group/file`, unless it is there."""
    store = ConfigStore.instance()
    folder = reduce(lambda parent, part: parent.get(part, {}), group.split("/"), store.repo)
    if _stored.get((group, file)) != (name, kind) or f"{file}.yaml" not in folder:
        store.store(group=group, name=file, node=make_config_node(name, kind))
        _stored[group, file] = name, kind


def make_config_node(name: str, kind: type) -> Any:
    """Return a writable, typed config node: the name, then the fields of the class."""
    hints = registry.get_annotations(kind)
    columns: list[tuple[str, Any, Any]] = [("name", str, field(default=name))]
    for f in fields(kind) if is_dataclass(kind) else ():
        columns.append((f.name, _convert_hint(hints.get(f.name, Any)), _convert_default(f)))
    try:
        node = OmegaConf.structured(make_dataclass(kind.__name__, columns))
    except Exception:  # OmegaConf refuses Literal, unions and tuples in several ways: such fields are left untyped
        loose = [(n, hint if hint in (str, int, float, bool) else Any, default) for n, hint, default in columns]
        node = OmegaConf.structured(make_dataclass(kind.__name__, loose))
    for key in node:
        if not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(node[key]):
            OmegaConf.set_struct(node[key], False)  # a field that is a mapping takes any keys: loss.params.delta=2
    return node


def _convert_hint(hint: Any) -> Any:
    """Return `str` for an enum: OmegaConf matches enums by member name, people write values, the registry converts."""
    kinds = get_args(hint) or (hint,)
    if not any(isinstance(kind, type) and issubclass(kind, Enum) for kind in kinds):
        return hint
    return str | None if NoneType in kinds else str


def _convert_default(f: "Field[Any]") -> Any:
    if f.default_factory is not MISSING:
        return field(default_factory=f.default_factory)
    if f.default is MISSING:
        return field(default="???")  # OmegaConf's mark of a value that must be given
    return field(default=f.default.value if isinstance(f.default, Enum) else f.default)


def load_plugin_overrides(arguments: Sequence[str]) -> list[str]:
    """Load the plug-ins of `plugins=[...]`; return the other arguments."""
    named = [argument for argument in arguments if _sets("plugins", argument)]
    for text in named:
        override = parse_override(text)
        if override.is_sweep_override():
            raise InvalidValue(f"plugins is one list for all jobs, as in 'plugins=[a.py,b.py]'. Got {text!r} instead.")
        plugins.load(parse_plugins(override.value()))
    return [argument for argument in arguments if argument not in named]


def load_plugins(args: Namespace, configs: str) -> None:
    """Load the plug-ins that the command line names; if none, those that its preset and configuration file name.

    configs: the package of lossbench's own configuration. The files' defaults lists are not followed.
    """
    if any(_sets("plugins", text) for text in args.overrides):
        load_plugin_overrides(args.overrides)
        return
    # 1. files that may name plug-ins: presets of experiments, of a sweep several; else --config-name
    files = []
    for text in args.overrides:
        if _sets("experiment", text):
            override = parse_override(text)
            several = override.is_discrete_sweep()
            files += list(override.sweep_string_iterator()) if several else [str(override.value())]
    files = [f"experiment/{name}" for name in files] or ([args.config_name] if args.config_name else [])
    if not files:
        return
    # 2. their lists
    contents = [OmegaConf.to_container(config) for config in read_configs(files, configs, args.config_dir)]
    mappings = [content for content in contents if isinstance(content, dict)]
    plugins.load(place for content in mappings for place in parse_plugins(content.get("plugins")))


def _sets(name: str, text: str) -> bool:
    return re.match(rf"\+*{name}=", text) is not None
