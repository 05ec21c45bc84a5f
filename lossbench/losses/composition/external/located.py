"""What an import path leads to, and what is made of it."""

import functools
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from importlib import import_module
from numbers import Real
from typing import Any

import torch
from torch import get_default_dtype, nn, tensor

from lossbench.errors import InvalidValue

TENSORS = ("weight", "pos_weight")
"""Parameters that take tensors, whatever their annotation."""


def made(path: str, params: Mapping[str, Any], unreduced: bool, payload: tuple[Any, ...] = ()) -> Any:
    """What `path` leads to, with `params` given: an instance of a class, or a function.

    unreduced: a parameter called `reduction` that `params` leave open is set to none. payload: the object in place
    of what the path leads to, if there is one; a module is copied, lest trials share it.
    """
    if payload and isinstance(payload[0], nn.Module):
        return _copied(path, payload[0], params, unreduced)
    found = _callable(path, payload[0]) if payload else located(path)
    known = _parameters(found)
    settings = {name: _as_tensor(name, value, known.get(name)) for name, value in params.items()}
    if unreduced and "reduction" in known:
        settings.setdefault("reduction", "none")
    _check_names(path, settings, known)
    if not isinstance(found, type):
        return functools.partial(found, **settings)
    try:
        with torch.random.fork_rng(devices=[]):  # trainable parameters are drawn again, from the trial's generator
            instance = found(**settings)
    except Exception as error:  # a stranger's constructor may raise anything
        raise InvalidValue(f"{path} cannot be made with {dict(params)}: {error}") from error
    return instance


def _copied(path: str, module: nn.Module, params: Mapping[str, Any], unreduced: bool) -> nn.Module:
    if params:
        raise InvalidValue(f"{path} was made already: params cannot change it. Got {dict(params)}.")
    copy = deepcopy(module)
    if unreduced and isinstance(getattr(copy, "reduction", None), str):
        copy.__dict__["reduction"] = "none"  # as torch's own losses and those that follow them read it with each call
    return copy


def method_of(path: str, instance: Any, name: str) -> Callable[..., Any]:
    """What is called of an instance: a method, or itself for `forward`."""
    if name == "forward":
        return _callable(path, instance)
    if not isinstance(name, str) or not hasattr(instance, name):
        raise InvalidValue(f"{path} has no method {name!r}.{_nearest(str(name), dir(instance))}")
    return _callable(f"{path}.{name}", getattr(instance, name))


def signature(call: Callable[..., Any]) -> list[inspect.Parameter]:
    """What a call takes beyond what `params` have given; of what says nothing of itself, nothing."""
    # nn.Module's own __call__ takes anything and hands it to forward
    plain = isinstance(call, nn.Module) and type(call).__call__ is nn.Module.__call__
    try:
        known = inspect.signature(call.forward if plain else call).parameters.values()  # type: ignore[attr-defined]
    except (TypeError, ValueError):  # functions written in C have none
        return []
    given = call.keywords if isinstance(call, functools.partial) else {}
    return [p for p in known if p.name not in given]


def located(path: str) -> Callable[..., Any]:
    """What a dotted path leads to; the error for a wrong one names the nearest attribute."""
    names = path.split(".") if isinstance(path, str) else [""]
    if not all(name.isidentifier() for name in names):
        raise InvalidValue(f"The 'target' must be an import path such as torch.nn.HuberLoss. Got {path!r} instead.")
    found = _imported(names[0])
    if found is None:
        raise InvalidValue(f"{path!r} leads nowhere: there is no package {names[0]!r}. Is it installed?")
    for i, name in enumerate(names[1:], 1):
        inside = getattr(found, name, None)
        inside = _imported(".".join(names[: i + 1])) if inside is None else inside
        if inside is None:
            raise InvalidValue(f"{'.'.join(names[:i])} has no {name!r}.{_nearest(name, dir(found))}")
        found = inside
    return _callable(path, found)


def _imported(name: str) -> Any:
    """The module called `name`; None if there is none."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise InvalidValue(f"{name!r} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything
        raise InvalidValue(f"{name!r} cannot be imported: {error}") from error


def _callable(path: str, found: Any) -> Callable[..., Any]:
    if not callable(found):
        raise InvalidValue(f"{path} must be a class or a function. Got {found!r:.80} instead.")
    return found


def _parameters(found: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(found).parameters
    except (TypeError, ValueError):  # functions written in C have none
        return {"": inspect.Parameter("_", inspect.Parameter.VAR_KEYWORD)}


def _check_names(path: str, settings: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> None:
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in settings.keys() - known.keys():
        raise InvalidValue(f"{path} has no parameter {name!r}.{_nearest(name, known)} It has: {', '.join(known)}.")


def _as_tensor(name: str, value: Any, parameter: inspect.Parameter | None) -> Any:
    annotated = parameter is not None and "Tensor" in str(parameter.annotation)
    if not isinstance(value, list) or not (annotated or name in TENSORS):
        return value
    numbers = all(isinstance(v, Real) for v in value)
    return tensor(value, dtype=get_default_dtype()) if numbers else value


def _nearest(name: str, choices: Any) -> str:
    near = get_close_matches(name, choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
