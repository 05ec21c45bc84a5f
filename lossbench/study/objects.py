"""Objects as choices: a loss, a module, a function or a data set in place of a name.

An object of a registered or importable class becomes that class's name with its fields, and an importable function its
import path: just what the command line would be told. Anything else is registered under a name made of its class and
its identity (`MyLoss@3f2a`). The trial holds the name; the object travels beside it, in the registry.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import field, fields, make_dataclass
from inspect import isclass, isroutine
from operator import attrgetter
from pathlib import Path, PurePath
from sys import modules
from typing import Any

import numpy as np
from torch import nn

from lossbench.config.schema import LISTS
from lossbench.errors import InvalidValue
from lossbench.identity import Unidentified, identify
from lossbench.interfaces import Dataset
from lossbench.losses.composition.external import External
from lossbench.registry import GROUPS, Registry, to_snake_case
from lossbench.types import Examples

LETTERS = 4
"""Hex digits of an identity in a name; more where two objects would share one."""
Tell = Callable[[str], None]
PLURALS = {several: one for one, several in LISTS.items()}


def name_objects(settings: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Return the settings with a name, or a mapping, for each object among the choices.

    tell: is given a line about an object whose source cannot be read. Raises `InvalidValue` for objects that are no
    choice of their group.
    """
    found = dict(settings)
    for key, value in settings.items():
        if key in GROUPS:
            found[key] = _name_choice(key, value, tell)
        elif key in PLURALS and not isinstance(value, str) and value is not None:
            values = list(value) if isinstance(value, list | tuple) else [value]
            found[key] = [_name_choice(PLURALS[key], one, tell) for one in values]
    return found


def _name_choice(group: str, value: Any, tell: Tell) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {key: _name_inside(group, one, tell) for key, one in value.items()}
    names = GROUPS[group]
    kind = value if isclass(value) else type(value)
    if issubclass(kind, names.interface):
        return _name_part(names, value, kind, tell)
    if group == "data" and isinstance(value, Examples):
        _check_examples(value)
        return _register(names, type(value).__name__, value, _frozen_dataset, tell)
    if group == "loss" and callable(value):
        return _name_callable(names, value, tell)
    raise InvalidValue(
        f"{group} must be a name, a mapping with a name and fields, or a lossbench.{names.interface.__name__}"
        f"{_also(group)}. Got {_described(value)} instead."
    )


def _check_examples(given: Examples) -> None:
    """Raise `InvalidValue` unless inputs and targets are arrays of one length."""
    for name in ("inputs", "targets"):
        array = getattr(given, name)
        if not isinstance(array, np.ndarray) or not array.ndim:
            raise InvalidValue(f"The {name} of Examples must be a NumPy array. Got {type(array).__name__} instead.")
    if len(given.inputs) != len(given.targets):
        raise InvalidValue(
            f"Examples must have as many inputs as targets. Got {len(given.inputs)} and {len(given.targets)} instead."
        )


def _name_inside(group: str, value: Any, tell: Tell) -> Any:
    """Name the choices inside a choice: the terms of a combined loss."""
    if isinstance(value, list | tuple):
        return [_name_inside(group, one, tell) for one in value]
    if isinstance(value, Mapping):
        return {key: _name_inside(group, one, tell) for key, one in value.items()}
    is_part = callable(value) or isinstance(value, GROUPS[group].interface)
    return _name_choice(group, value, tell) if is_part else value


def _also(group: str) -> str:
    more = {"loss": ", an nn.Module, a function of prediction and target", "data": ", lossbench.Examples"}
    return more.get(group, "")


def _described(value: Any) -> str:
    hint = " (put a network into a lossbench.Model: the head is added to its trunk)"
    return f"{type(value).__name__}{hint if isinstance(value, nn.Module) else ''}"


def _name_part(names: Registry[Any], value: Any, kind: type, tell: Tell) -> dict[str, Any] | str:
    """Return a part of ours as its class's name and the fields that were set."""
    plain = {} if isclass(value) else _plain_fields(value)
    if plain is None:  # a field holds a tensor, say: the object as it is
        return _register(names, kind.__name__, value, _hold, tell)
    name = next((n for n, entry in names.entries().items() if entry.kind is kind), None)
    if name is None and _is_importable(kind):
        name = to_snake_case(kind.__name__)
        names.register(name, kind, Path(str(modules[kind.__module__].__file__)).name)
    if name is None:
        name = _register(names, kind.__name__, kind, lambda *_: kind, tell)
    return {"name": name, **plain}


def _plain_fields(value: Any) -> dict[str, Any] | None:
    """Return the fields as YAML knows them; None if they are no plain values."""
    try:
        own = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        found: dict[str, Any] = json.loads(json.dumps(own, default=_plain_value))
    except TypeError:
        return None
    return found


def _plain_value(value: Any) -> Any:
    """Return what JSON does not know and YAML does: numbers of NumPy's, and paths."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError


def _name_callable(names: Registry[Any], value: Any, tell: Tell) -> dict[str, Any] | str:
    """Return a module, function or class of another library as an external loss."""
    if (isclass(value) or isroutine(value)) and _is_importable(value):
        return {"name": "external", "target": f"{value.__module__}.{value.__qualname__}"}
    name = getattr(value, "__name__", type(value).__name__)
    return _register(names, "function" if name == "<lambda>" else name, value, _external, tell)


def _is_importable(value: Any) -> bool:
    """Whether another process finds just this under its module and name."""
    name = getattr(value, "__module__", None) or ""
    module = modules.get(name)
    if name == "__main__" or getattr(module, "__file__", None) is None:
        return False
    try:
        return attrgetter(value.__qualname__)(module) is value
    except AttributeError:  # made inside a function
        return False


def _register(names: Registry[Any], title: str, value: Any, make: Callable[[str, Any], type], tell: Tell) -> str:
    """Register an object under a name of its own, which is the same for equal objects; return the name."""
    try:
        identity = identify(value)
    except Unidentified as error:
        identity = uuid.uuid4().hex
        tell(f"{title}: {error}, so that its earlier trials cannot be found: it trains anew.")
    for letters in range(LETTERS, len(identity) + 1):
        name = f"{title}@{identity[:letters]}"
        known = names.entries().get(name)
        if known is None or known.identity == identity:
            break
    if known is None:
        names.register(name, make(name, value), "this session", identity=identity)
    return name


def _external(name: str, value: Any) -> type:
    """An adapter of a callable object."""
    namespace = {"payload": (value,), "__doc__": External.__doc__}  # a function by itself would become a method
    return make_dataclass(
        name, [("target", str, field(default=name))], bases=(External,), frozen=True, namespace=namespace
    )


def _frozen_dataset(name: str, value: Examples) -> type:
    """A data set of these examples."""
    facts = {"payload": (value,), "load": _load_payload, "weighted": value.weights is not None}
    namespace = {"tasks": ("*",), "__doc__": "Examples that were given as arrays.", **facts}
    return make_dataclass(name, [], bases=(Dataset,), frozen=True, namespace=namespace)


def _load_payload(self: Any) -> Examples:
    found: Examples
    (found,) = self.payload
    return found


def _hold(name: str, value: Any) -> type:
    """A class without fields, each instance of which is like the object: a field of it is no plain value."""
    namespace = {"__init__": _become(value), "__dataclass_fields__": {}, "__doc__": value.__doc__}
    return type(name, (type(value),), namespace)


def _become(value: Any) -> Callable[[Any], None]:
    def init(self: Any) -> None:
        self.__dict__.update(vars(value))

    return init
