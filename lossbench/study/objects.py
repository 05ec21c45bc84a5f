"""Objects as choices: a loss, a module, a function or a data set in place of a name.

An object of a registered or importable class becomes that class's name with its fields, and an importable function its
import path, as one would type them on the command line. Any other object is registered under a name made of its class
and its identity (`MyLoss@3f2a`). The trial holds the name, the registry the object.
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
GROUP_BY_PLURAL = {plural: group for group, plural in LISTS.items()}


def convert_objects(settings: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Return the settings with a name, or a mapping, for each object among the choices.

    tell: receives a line about an object whose source cannot be read. Raises `InvalidValue` for objects that cannot
    be a choice of their group.
    """
    converted = dict(settings)
    for key, value in settings.items():
        if key in GROUPS:
            converted[key] = _convert_choice(key, value, tell)
        elif key in GROUP_BY_PLURAL and not isinstance(value, str) and value is not None:
            values = list(value) if isinstance(value, list | tuple) else [value]
            converted[key] = [_convert_choice(GROUP_BY_PLURAL[key], item, tell) for item in values]
    return converted


def _convert_choice(group: str, value: Any, tell: Tell) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {key: _convert_nested(group, item, tell) for key, item in value.items()}
    names = GROUPS[group]
    kind = value if isclass(value) else type(value)
    if issubclass(kind, names.interface):
        return _convert_part(names, value, kind, tell)
    if group == "data" and isinstance(value, Examples):
        _check_examples(value)
        return _register_object(names, type(value).__name__, value, _make_dataset_class, tell)
    if group == "loss" and callable(value):
        # a module, function or class of another library
        if (isclass(value) or isroutine(value)) and _is_importable(value):
            return {"name": "external", "target": f"{value.__module__}.{value.__qualname__}"}
        name = getattr(value, "__name__", type(value).__name__)
        title = "function" if name == "<lambda>" else name
        return _register_object(names, title, value, _make_external_class, tell)
    others = {"loss": ", an nn.Module, a function of prediction and target", "data": ", lossbench.Examples"}
    hint = ""
    if isinstance(value, nn.Module):
        hint = " (put a network into a lossbench.Model: the head is added to its trunk)"
    raise InvalidValue(
        f"{group} must be a name, a mapping with a name and fields, or a lossbench.{names.interface.__name__}"
        f"{others.get(group, '')}. Got {type(value).__name__}{hint} instead."
    )


def _convert_nested(group: str, value: Any, tell: Tell) -> Any:
    """Convert the objects inside a choice, such as the terms of a combined loss."""
    if isinstance(value, list | tuple):
        return [_convert_nested(group, item, tell) for item in value]
    if isinstance(value, Mapping):
        return {key: _convert_nested(group, item, tell) for key, item in value.items()}
    is_choice = callable(value) or isinstance(value, GROUPS[group].interface)
    return _convert_choice(group, value, tell) if is_choice else value


def _check_examples(examples: Examples) -> None:
    """Raise `InvalidValue` unless inputs and targets are arrays of one length."""
    for name in ("inputs", "targets"):
        array = getattr(examples, name)
        if not isinstance(array, np.ndarray) or not array.ndim:
            raise InvalidValue(f"The {name} of Examples must be a NumPy array. Got {type(array).__name__} instead.")
    n_inputs, n_targets = len(examples.inputs), len(examples.targets)
    if n_inputs != n_targets:
        raise InvalidValue(f"Examples must have as many inputs as targets. Got {n_inputs} and {n_targets} instead.")


def _convert_part(names: Registry[Any], value: Any, kind: type, tell: Tell) -> dict[str, Any] | str:
    """Return an object or class of a lossbench interface as its class's name with the fields that were set."""
    # 1. the fields; if one holds a tensor, say, the object is registered as it is
    try:
        plain = {} if isclass(value) else _list_plain_fields(value)
    except TypeError:
        return _register_object(names, kind.__name__, value, _make_frozen_class, tell)
    # 2. the class: registered already, found again by an import, or of this session alone
    name = next((n for n, entry in names.entries().items() if entry.kind is kind), None)
    if name is None and _is_importable(kind):
        name = to_snake_case(kind.__name__)
        names.register(name, kind, Path(str(modules[kind.__module__].__file__)).name)
    if name is None:
        name = _register_object(names, kind.__name__, kind, lambda *_: kind, tell)
    return {"name": name, **plain}


def _list_plain_fields(value: Any) -> dict[str, Any]:
    """Return the fields as YAML knows them. Raises TypeError for other values."""

    def convert(item: Any) -> Any:
        """Convert what JSON does not know and YAML does: NumPy's numbers, and paths."""
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, PurePath):
            return str(item)
        raise TypeError

    values = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
    return dict(json.loads(json.dumps(values, default=convert)))


def _is_importable(value: Any) -> bool:
    """Return True if another process would find this very object under its module and name."""
    name = getattr(value, "__module__", None) or ""
    module = modules.get(name)
    if name == "__main__" or getattr(module, "__file__", None) is None:
        return False
    try:
        return attrgetter(value.__qualname__)(module) is value
    except AttributeError:  # made inside a function
        return False


def _register_object(names: Registry[Any], title: str, value: Any, make: Callable[[str, Any], type], tell: Tell) -> str:
    """Register an object and return its name, which is the same for equal objects.

    make: returns the class to register, from the name and the object.
    """
    try:
        identity = identify(value)
    except Unidentified as error:
        identity = uuid.uuid4().hex
        tell(f"{title}: {error}, so that its earlier trials cannot be found: it trains anew.")
    for letters in range(LETTERS, len(identity) + 1):  # the shortest name that no other object has
        name = f"{title}@{identity[:letters]}"
        known = names.entries().get(name)
        if known is None or known.identity == identity:
            break
    if known is None:
        names.register(name, make(name, value), "this session", identity=identity)
    return name


def _make_external_class(name: str, value: Any) -> type:
    """Return an adapter class around a callable object."""
    namespace = {"payload": (value,), "__doc__": External.__doc__}  # a function by itself would become a method
    return make_dataclass(
        name, [("target", str, field(default=name))], bases=(External,), frozen=True, namespace=namespace
    )


def _make_dataset_class(name: str, value: Examples) -> type:
    """Return a data set class of these examples."""

    def load(self: Any) -> Examples:
        examples: Examples
        (examples,) = self.payload
        return examples

    namespace = {
        "payload": (value,),
        "load": load,
        "weighted": value.weights is not None,
        "tasks": ("*",),
        "__doc__": "Examples that were given as arrays.",
    }
    return make_dataclass(name, [], bases=(Dataset,), frozen=True, namespace=namespace)


def _make_frozen_class(name: str, value: Any) -> type:
    """Return a class without fields, each instance of which equals the object: a field of it is no plain value."""

    def init(self: Any) -> None:
        self.__dict__.update(vars(value))

    namespace = {"__init__": init, "__dataclass_fields__": {}, "__doc__": value.__doc__}
    return type(name, (type(value),), namespace)
