"""Any existing loss, a class or a function of another library, from its import path."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from importlib import import_module
from numbers import Real
from typing import Any, TypeVar

from torch import Tensor, get_default_dtype, nn, tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.types import Encoding, Space
from lossbench.validation import check_choice, check_switch

ROLES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "prediction": lambda prediction, target: prediction,
    "target": lambda prediction, target: target,
    "residual": lambda prediction, target: prediction - target,
}
TENSORS = ("weight", "pos_weight")
"""Parameters that take tensors, whatever their annotation."""

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True)
class _Built:
    # no part of an External's value: any two compare equal, so those who compare attributes see no difference
    call: Callable[..., Any] = field(compare=False)


@dataclass(frozen=True)
class External(Loss):
    r"""Any existing loss, unchanged: a class (``torch.nn.HuberLoss``) or a function, found by its import path.

    .. math:: \ell = \text{target}(\text{params})(\text{arguments})

    ``params`` go to a class's constructor, or with each call to a function; a list of numbers becomes a tensor where
    the parameter is annotated as one or is called ``weight`` or ``pos_weight``. ``arguments`` are the call's, in order:
    prediction, target, residual. ``reduction="auto"`` asks for values per example (``reduction="none"``) where that is
    a parameter that ``params`` leave open and the loss is not ``coupled``; ``keep`` leaves it alone.

    prediction, target: one batch ``[N, ...]``, in ``space`` and ``encoding``: values; in an experiment that says
    nothing else, what the task's default loss takes. Returns ``[N]``, the mean over any further axes; if ``coupled``
    the mean over all axes, ``[]``. Raises `InvalidValue` if the path leads nowhere, the parameters do not fit, the loss
    has trainable ones, or a call gives one value in all and is not ``coupled``.
    Reference: PyTorch, loss functions, https://docs.pytorch.org/docs/stable/nn.html#loss-functions

    >>> import torch
    >>> huber = External(target="torch.nn.HuberLoss", params={"delta": 2.0})
    >>> huber(torch.tensor([[1.0], [5.0]]), torch.zeros(2, 1))
    tensor([0.5000, 8.0000])
    """

    family = "composition"
    tasks = ("*",)
    known_as = ("any nn.Module or function of prediction and target",)
    use_when = "the loss exists elsewhere, and is to be compared as it is"
    beware = "space, encoding and the order of the arguments are taken on trust: a wrong one trains, and badly"
    target: str
    params: dict[str, Any] = field(default_factory=dict)
    space: Space | None = None  # type: ignore[misc,assignment]  # a class fact of other losses
    encoding: Encoding | None = None  # type: ignore[misc,assignment]
    arguments: list[str] = field(default_factory=lambda: ["prediction", "target"])
    reduction: str = "auto"
    coupled: bool = False  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", _member(self, Space, "space"))
        object.__setattr__(self, "encoding", _member(self, Encoding, "encoding"))
        check_choice(self, ("auto", "keep"), reduction=self.reduction)
        check_switch(self, coupled=self.coupled)
        for role in self.arguments:
            check_choice(self, ROLES, arguments=role)
        self._build()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example of one batch, or one in all if `coupled`."""
        given = (ROLES[role](prediction, target) for role in self.arguments)
        return self._per_example(self._ready(prediction)(*given), len(prediction))

    def _ready(self, like: Tensor) -> Callable[..., Any]:
        # where and in the type that the predictions are; does nothing from the second call on
        built = self.__dict__.get("_built") or self._build()
        if isinstance(built.call, nn.Module):
            built.call.to(like)
            return built.call
        if isinstance(built.call, functools.partial):
            moved = {n: v.to(like) if isinstance(v, Tensor) else v for n, v in built.call.keywords.items()}
            return functools.partial(built.call.func, **moved)
        return built.call

    def _build(self) -> _Built:
        built = _Built(made(self.target, self.params, self.reduction == "auto" and not self.coupled))
        self.__dict__["_built"] = built
        return built

    def _per_example(self, result: Any, n: int) -> Tensor:
        if not isinstance(result, Tensor):
            raise InvalidValue(f"{self.target} must return a tensor. Got {type(result).__name__} instead.")
        if self.coupled:
            return result.mean()
        if result.shape[:1] != (n,):
            raise InvalidValue(
                f"{self.target} must return one value per example, shape [{n}, ...]. Got {list(result.shape)}: if it "
                "couples the examples of a batch, set coupled=true."
            )
        return result.flatten(1).mean(1) if result.dim() > 1 else result


def made(path: str, params: Mapping[str, Any], unreduced: bool) -> Callable[..., Any]:
    """What `path` leads to, with `params` given: an instance of a class, or a function."""
    found = located(path)
    known = _parameters(found)
    settings = {name: _as_tensor(name, value, known.get(name)) for name, value in params.items()}
    if unreduced and "reduction" in known:
        settings.setdefault("reduction", "none")
    _check_names(path, settings, known)
    if not isinstance(found, type):
        return functools.partial(found, **settings)
    try:
        instance = found(**settings)
    except Exception as error:  # a stranger's constructor may raise anything
        raise InvalidValue(f"{path} cannot be made with {dict(params)}: {error}") from error
    if isinstance(instance, nn.Module) and any(True for _ in instance.parameters()):
        raise InvalidValue(
            f"{path} has trainable parameters, which External does not train: write a Loss class for it."
        )
    return _callable(path, instance)


def located(path: str) -> Callable[..., Any]:
    """What a dotted path leads to; the error for a wrong one names the nearest attribute."""
    names = path.split(".") if isinstance(path, str) else [""]
    if not all(name.isidentifier() for name in names):
        raise InvalidValue(f"The 'target' must be an import path such as torch.nn.HuberLoss. Got {path!r} instead.")
    found = _imported(names[0])
    if found is None:
        raise InvalidValue(f"{path!r} leads nowhere: there is no package {names[0]!r}. Is it installed?")
    for i, name in enumerate(names[1:], 1):
        if not hasattr(found, name) and _imported(".".join(names[: i + 1])) is None:
            raise InvalidValue(f"{'.'.join(names[:i])} has no {name!r}.{_nearest(name, dir(found))}")
        found = getattr(found, name)
    return _callable(path, found)


def _imported(name: str) -> Any:
    """The module called `name`; None if there is none."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise InvalidValue(f"{name!r} cannot be imported: {error}") from error
    except Exception as error:  # a stranger's module may raise anything
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


def _member(owner: External, kind: type[S], name: str) -> S:
    value = getattr(owner, name)
    if value is None:
        return kind("value")
    check_choice(owner, list(kind), **{name: value})
    return kind(value)
