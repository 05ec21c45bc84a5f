"""`@lossbench.loss`: a plain function as a loss."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields, make_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from lossbench import registry
from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces import Loss
from lossbench.interfaces.encodings import DEFAULT_ENCODING
from lossbench.interfaces.spaces import DEFAULT_SPACE
from lossbench.types import Encoding, Head, Requirement, Space
from lossbench.validation import check_number, check_switch, check_whole

E = TypeVar("E", bound=StrEnum)
CLAIMS = ("convex", "bounded", "robust", "symmetric", "held_still", "flaws")
FACTS = ("use_when", "pitfall", "aliases", "static_fields", *CLAIMS)
CHECKS: dict[Any, Callable[..., None]] = {float: check_number, int: check_whole, bool: check_switch}
"""The check of a field's value, by the field's annotation."""


def loss(
    tasks: Sequence[str] | str,
    space: Space | str = DEFAULT_SPACE,
    encoding: Encoding | str = DEFAULT_ENCODING,
    head: Head | str = Head.LINEAR,
    requires: Sequence[Requirement | str] = (),
    batch_level: bool = False,
    name: str | None = None,
    **facts: Any,
) -> Callable[[Callable[..., Any]], type[Loss]]:
    """Make a loss of a function `(prediction, target, *, field=default, ...)` that returns one value per example.

    Keyword arguments with a default become fields, those that `requires` names are given at each call. `facts`:
    use_when, pitfall, aliases, static_fields, convex, bounded, robust, symmetric, held_still, flaws. Raises
    `InvalidValue` for a signature that does not fit; the class raises it for a field that is no number (whole number,
    switch) but should be.
    """
    if callable(tasks):
        raise InvalidValue('@lossbench.loss needs to know the tasks: @lossbench.loss(tasks=("regression",)).')
    for fact in facts.keys() - set(FACTS):
        arguments = [*inspect.signature(loss).parameters, *FACTS]
        raise make_unknown("argument of @lossbench.loss:", fact, set(arguments) - {"facts"}, "It takes")
    required = tuple(_parse_member(Requirement, "requires", n) for n in _to_tuple(requires))

    def decorate(function: Callable[..., Any]) -> type[Loss]:
        # 1. the arguments with a default become fields
        loss_fields = _read_fields(function, required)
        names = [n for n, _, _ in loss_fields]

        def call(self: Loss, prediction: Tensor, target: Tensor, **extras: Any) -> Any:
            return function(prediction, target, **{n: getattr(self, n) for n in names}, **extras)

        # 2. the class: facts as class attributes, the function as its formula
        namespace = {
            "tasks": _to_tuple(tasks),
            "space": _parse_member(Space, "space", space),
            "encoding": _parse_member(Encoding, "encoding", encoding),
            "head": _parse_member(Head, "head", head),
            "requires": required,
            "batch_level": batch_level,
            **facts,
            "__post_init__": _check_fields,
            "__call__": call,
            "__doc__": function.__doc__,
        }
        kind = make_dataclass(function.__name__, loss_fields, bases=(Loss,), namespace=namespace, frozen=True)
        kind.__module__ = function.__module__  # make_dataclass takes it from Python 3.12 on
        # 3. registered under the file where the function stands, for messages about clashes
        registry.losses.register(name or function.__name__, kind, Path(inspect.getfile(function)).name)
        return kind

    return decorate


def _read_fields(function: Callable[..., Any], requires: tuple[Requirement, ...]) -> list[tuple[str, Any, Any]]:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 2 or any(p.default is not p.empty for p in parameters[:2]):
        raise InvalidValue(f"A loss function takes (prediction, target, ...). {function.__name__} does not.")
    optional = [p for p in parameters[2:] if p.name not in requires]
    for p in optional:
        if p.default is p.empty:
            raise InvalidValue(f"The argument {p.name!r} of {function.__name__} needs a default: it becomes a field.")
        if isinstance(p.default, list | dict | set):
            raise InvalidValue(f"The default of {p.name!r} of {function.__name__} must not be mutable: use a tuple.")
    return [(p.name, type(p.default) if p.annotation is p.empty else p.annotation, p.default) for p in optional]


def _check_fields(self: Any) -> None:
    """Refuse numbers that are no numbers and switches that are no switches; ranges are known to the author only."""
    for f in fields(self):
        if check := CHECKS.get(f.type):
            check(self, **{f.name: getattr(self, f.name)})


def _to_tuple(names: Sequence[Any] | str) -> tuple[Any, ...]:
    # a single name stays whole: tuple("regression") would be its letters
    return (names,) if isinstance(names, str) else tuple(names)


def _parse_member(kind: type[E], name: str, value: str) -> E:
    if value not in list(kind):
        raise InvalidValue(f"The {name!r} of a loss must be of {', '.join(kind)}. Got {value!r} instead.")
    return kind(value)
