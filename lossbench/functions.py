"""`@lossbench.loss`: a plain function as a loss."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lossbench import registry
from lossbench.errors import InvalidValue
from lossbench.interfaces import Loss
from lossbench.types import Encoding, Head, Need, Space


def loss(
    tasks: Sequence[str],
    space: Space | str = Space.VALUE,
    encoding: Encoding | str = Encoding.VALUE,
    head: Head | str = Head.LINEAR,
    needs: Sequence[Need | str] = (),
    coupled: bool = False,
    name: str | None = None,
    **facts: Any,
) -> Callable[[Callable[..., Any]], type[Loss]]:
    """Make a loss of a function `(prediction, target, *, field=default, ...)` that returns one value per example.

    Keyword arguments with a default become fields, those that `needs` names are given at each call. `facts`: use_when,
    beware, known_as, scalar_fields. Raises `InvalidValue` for a signature that does not fit.
    """

    def decorate(function: Callable[..., Any]) -> type[Loss]:
        wanted = tuple(Need(n) for n in needs)
        given = _fields(function, wanted)
        names = [n for n, _, _ in given]

        def __call__(self: Loss, prediction: Tensor, target: Tensor, **extras: Any) -> Any:
            return function(prediction, target, **{n: getattr(self, n) for n in names}, **extras)

        namespace = {
            "tasks": tuple(tasks),
            "space": Space(space),
            "encoding": Encoding(encoding),
            "head": Head(head),
            "needs": wanted,
            "coupled": coupled,
            **facts,
            "__call__": __call__,
            "__doc__": function.__doc__,
        }
        kind = make_dataclass(
            function.__name__, given, bases=(Loss,), namespace=namespace, frozen=True, module=function.__module__
        )
        registry.losses.register(name or function.__name__, kind, Path(inspect.getfile(function)).name)
        return kind

    return decorate


def _fields(function: Callable[..., Any], needs: tuple[Need, ...]) -> list[tuple[str, Any, Any]]:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 2 or any(p.default is not p.empty for p in parameters[:2]):
        raise InvalidValue(f"A loss function takes (prediction, target, ...). {function.__name__} does not.")
    extra = [p for p in parameters[2:] if p.name not in needs]
    for p in extra:
        if p.default is p.empty:
            raise InvalidValue(f"The argument {p.name!r} of {function.__name__} needs a default: it becomes a field.")
    return [(p.name, type(p.default) if p.annotation is p.empty else p.annotation, p.default) for p in extra]
