"""Import paths of third-party losses: find the object, and build the loss from it."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from importlib import import_module, invalidate_caches
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import get_default_dtype, nn, tensor

from lossbench.errors import InvalidValue
from lossbench.sources import limit_import_time

TENSORS = ("weight", "pos_weight")
"""Parameters that take tensors, whatever their annotation."""


def build(path: str, params: Mapping[str, Any], unreduced: bool, payload: tuple[Any, ...] = ()) -> Any:
    """Build the loss at `path` with `params`: an instance of a class, or a function.

    unreduced: a parameter called `reduction` that `params` leave open is set to none. payload: an object in place of
    the path, if there is one; a module is copied, so that trials do not share it.
    """
    # 1. a module is there already: copy it
    if payload and isinstance(payload[0], nn.Module):
        if params:
            raise InvalidValue(f"{path} was made already: params cannot change it. Got {dict(params)}.")
        copy = deepcopy(payload[0])
        if unreduced and isinstance(getattr(copy, "reduction", None), str):
            copy.__dict__["reduction"] = "none"  # torch's losses, and those that follow them, read it at each call
        return copy
    # 2. find the class or function, and match the parameters with its signature
    target = _check_callable(path, payload[0]) if payload else find(path)
    try:
        known: Mapping[str, inspect.Parameter] = inspect.signature(target).parameters
    except (TypeError, ValueError):  # functions written in C have no signature: any name may fit
        known = {"": inspect.Parameter("_", inspect.Parameter.VAR_KEYWORD)}
    settings = {name: _to_tensor(name, value, known.get(name)) for name, value in params.items()}
    if unreduced and "reduction" in known:
        settings.setdefault("reduction", "none")
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for name in settings.keys() - known.keys():
            raise InvalidValue(f"{path} has no parameter {name!r}.{_suggest(name, known)} It has: {', '.join(known)}.")
    # 3. a function keeps the parameters for each call, a class takes them now
    if not isinstance(target, type):
        return functools.partial(target, **settings)
    try:
        with torch.random.fork_rng(devices=[]):  # trainable parameters are drawn again, from the trial's generator
            instance = target(**settings)
    except (Exception, SystemExit) as error:  # a third-party constructor may raise anything
        raise InvalidValue(f"{path} cannot be made with {dict(params)}: {error}") from error
    return instance


def get_method(path: str, instance: Any, name: str) -> Callable[..., Any]:
    """Return the method of an instance that is called; the instance itself for `forward`."""
    if name == "forward":
        return _check_callable(path, instance)
    if not isinstance(name, str) or not hasattr(instance, name):
        raise InvalidValue(f"{path} has no method {name!r}.{_suggest(str(name), dir(instance))}")
    return _check_callable(f"{path}.{name}", getattr(instance, name))


def read_signature(call: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a call that `params` have not set; none if it has no signature."""
    # nn.Module's own __call__ takes anything and hands it to forward
    plain = isinstance(call, nn.Module) and type(call).__call__ is nn.Module.__call__
    try:
        known = inspect.signature(call.forward if plain else call).parameters.values()  # type: ignore[attr-defined]
    except (TypeError, ValueError):  # functions written in C have none
        return []
    fixed = call.keywords if isinstance(call, functools.partial) else {}
    return [p for p in known if p.name not in fixed]


def find(path: str) -> Callable[..., Any]:
    """Return the object at a dotted path; the error for a wrong path names the nearest attribute."""
    names = path.split(".") if isinstance(path, str) else [""]
    if not all(name.isidentifier() for name in names):
        raise InvalidValue(f"The 'target' must be an import path such as torch.nn.HuberLoss. Got {path!r} instead.")
    # files and packages of the current folder, as for `python -m`; behind all else, so that they hide nothing
    if (
        sys.path
        and Path.cwd() not in map(Path, sys.path)
        and (Path(f"{names[0]}.py").is_file() or Path(names[0]).is_dir())
    ):
        sys.path.append(str(Path.cwd()))
        invalidate_caches()
    target = _import_module(names[0])
    if target is None:
        raise InvalidValue(
            f"{path!r} leads nowhere: there is no package {names[0]!r}, and no file {names[0]}.py in {Path.cwd()}. "
            "Is it installed?"
        )
    for i, name in enumerate(names[1:], 1):
        # an attribute, or a submodule that is not imported yet
        inside = getattr(target, name, None)
        inside = _import_module(".".join(names[: i + 1])) if inside is None else inside
        if inside is None:
            raise InvalidValue(f"{'.'.join(names[:i])} has no {name!r}.{_suggest(name, dir(target))}")
        target = inside
    return _check_callable(path, target)


def _import_module(name: str) -> Any:
    """Import the module called `name`; return None if there is none."""
    try:
        with limit_import_time():
            return import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise InvalidValue(f"{name!r} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # a third-party module may raise anything
        raise InvalidValue(f"{name!r} cannot be imported: {error}") from error


def _check_callable(path: str, target: Any) -> Callable[..., Any]:
    if not callable(target):
        raise InvalidValue(f"{path} must be a class or a function. Got {target!r:.80} instead.")
    return target


def _to_tensor(name: str, value: Any, parameter: inspect.Parameter | None) -> Any:
    annotated = parameter is not None and "Tensor" in str(parameter.annotation)
    if not isinstance(value, list) or not (annotated or name in TENSORS):
        return value
    numbers = all(isinstance(v, Real) for v in value)
    return tensor(value, dtype=get_default_dtype()) if numbers else value


def _suggest(name: str, choices: Any) -> str:
    near = get_close_matches(name, choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
