"""What must be in place before Hydra composes: plug-ins loaded, and the registry's choices in Hydra's store."""

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
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
            _store(group, name, name, entry.kind)
    for task, entry in registry.tasks.entries().items():
        for group, name in entry.kind.defaults.items():
            known = GROUPS[group].entries()
            if name in known:
                _store(f"{group}/{DEFAULT}", task, name, known[name].kind)


_stored: dict[tuple[str, str], tuple[str, type]] = {}
"""By group and name in Hydra's store, what its node was made from: to make all anew takes half a second."""


def _store(group: str, called: str, name: str, kind: type) -> None:
    """Store a node, unless it is there."""
    store = ConfigStore.instance()
    place = reduce(lambda folder, part: folder.get(part, {}), group.split("/"), store.repo)
    if _stored.get((group, called)) != (name, kind) or f"{called}.yaml" not in place:
        store.store(group=group, name=called, node=make_config_node(name, kind))
        _stored[group, called] = name, kind


def make_config_node(name: str, kind: type) -> Any:
    """A writable, typed config node: the name, then the fields of the class."""
    hints = registry.get_annotations(kind)
    own = fields(kind) if is_dataclass(kind) else ()
    columns = [("name", str, field(default=name)), *((f.name, _type(hints.get(f.name, Any)), _default(f)) for f in own)]
    try:
        made = OmegaConf.structured(make_dataclass(kind.__name__, columns))
    except Exception:  # OmegaConf refuses Literal, unions and tuples in several ways: such fields are left untyped
        loose = [(n, t if t in (str, int, float, bool) else Any, d) for n, t, d in columns]
        made = OmegaConf.structured(make_dataclass(kind.__name__, loose))
    for key in made:
        if not OmegaConf.is_missing(made, key) and OmegaConf.is_dict(made[key]):
            OmegaConf.set_struct(made[key], False)  # a field that is a mapping takes any keys: loss.params.delta=2
    return made


def _type(hint: Any) -> Any:
    # OmegaConf matches enums by member name; people write values, which the registry converts
    kinds = get_args(hint) or (hint,)
    if not any(isinstance(kind, type) and issubclass(kind, Enum) for kind in kinds):
        return hint
    return str | None if NoneType in kinds else str


def _default(f: "Field[Any]") -> Any:
    if f.default_factory is not MISSING:
        return field(default_factory=f.default_factory)
    if f.default is MISSING:
        return field(default="???")  # OmegaConf's mark of a value that must be given
    return field(default=f.default.value if isinstance(f.default, Enum) else f.default)


def load_plugin_overrides(arguments: Sequence[str]) -> list[str]:
    """Load what `plugins=[...]` names; the other arguments."""
    asked = [a for a in arguments if _sets("plugins", a)]
    plugins.load(place for text in asked for place in _typed(text))
    return [a for a in arguments if a not in asked]


def load_plugins(args: Namespace, configs: str) -> None:
    """Load what the command line names; if nothing, what its preset and its configuration file name themselves.

    configs: where our own configuration is. What these name in their defaults lists is not looked at.
    """
    if any(_sets("plugins", a) for a in args.overrides):
        load_plugin_overrides(args.overrides)
    elif experiments := [name for a in args.overrides if _sets("experiment", a) for name in _values(a)]:
        plugins.load(_written(args, configs, [f"experiment/{name}" for name in experiments]))
    elif args.config_name:
        plugins.load(_written(args, configs, [args.config_name]))


def _sets(name: str, text: str) -> bool:
    return re.match(rf"\+*{name}=", text) is not None


def _typed(text: str) -> list[str]:
    override = parse_override(text)
    if override.is_sweep_override():
        raise InvalidValue(f"plugins is one list for all jobs, as in 'plugins=[a.py,b.py]'. Got {text!r} instead.")
    return parse_plugins(override.value())


def _values(text: str) -> Iterator[str]:
    override = parse_override(text)
    return override.sweep_string_iterator() if override.is_discrete_sweep() else iter([str(override.value())])


def _written(args: Namespace, configs: str, names: Sequence[str]) -> list[str]:
    """Return the plug-ins that files of Hydra's search path name."""
    plain = [OmegaConf.to_container(config) for config in read_configs(names, configs, args.config_dir)]
    return [place for one in plain if isinstance(one, dict) for place in parse_plugins(one.get("plugins"))]
