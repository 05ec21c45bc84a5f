"""Checks of what a loss says of itself: class facts, docstring, fields."""

import inspect
import math
import re
from collections.abc import Iterable
from dataclasses import Field, fields, is_dataclass, replace
from enum import Enum
from typing import Any, get_type_hints

from lossbench.check.comparison import agree
from lossbench.check.contract import CheckFailed, NotApplicable, built_in
from lossbench.check.samples import call_for
from lossbench.errors import InvalidValue, LossbenchError, describe_error
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Encoding, Head, Requirement, Space

PARTS = (".. math::", "Returns", "Raises", "Reference:", "https://")
"""What the docstring of a built-in loss holds."""
NONSENSE: dict[type, tuple[Any, ...]] = {
    float: (math.nan, "nonsense"),
    int: (math.nan, 1.5, "nonsense"),
    bool: ("nonsense",),
    str: (math.nan,),
    Enum: ("nonsense",),
}
"""Values that a field of a type must refuse."""


def facts_are_declared(loss: Loss) -> None:
    """Tasks, space, encoding, head and needs are declared and fit each other and the call."""
    tasks: object = loss.tasks
    if not tasks or not isinstance(tasks, tuple | list):
        raise CheckFailed(f'tasks: found {tasks!r}, wanted a tuple of names such as ("regression",)')
    for fact, kind in (("space", Space), ("encoding", Encoding), ("head", Head)):
        if not isinstance(found := getattr(loss, fact, None), kind):
            raise CheckFailed(f"{fact}: found {found!r}, wanted a {kind.__name__}")
    _check_head(loss)
    _check_names("static_fields", loss.static_fields, _names(loss))
    if loss.flaws and built_in(loss):
        raise CheckFailed(f"flaws: found {', '.join(loss.flaws)}, wanted none in a built-in loss")
    _check_needs(loss)


def _names(loss: Any) -> list[str]:
    return [f.name for f in fields(loss)] if is_dataclass(loss) else []


def _check_head(loss: Loss) -> None:
    """Raise `CheckFailed` for a head that gives predictions of other spaces than the loss takes."""
    of_head: dict[Head, list[str]] = {}
    for space, facts in SPACES.items():
        of_head.setdefault(facts.head, []).append(space)
    for head, spaces in of_head.items():
        # any other space takes what a linear layer gives, and so do heads that are bound to none
        if head is not Head.LINEAR and (loss.head is head) != (loss.space in spaces):
            raise CheckFailed(f"found head {loss.head} with space {loss.space}: {head} goes with {', '.join(spaces)}")


def _check_names(fact: str, given: Iterable[str], known: Iterable[str]) -> None:
    if strange := [str(n) for n in given if n not in known]:
        raise CheckFailed(f"{fact}: found {', '.join(strange)}, wanted names of {', '.join(known) or 'nothing'}")


def _check_needs(loss: Loss) -> None:
    _check_names("requires", loss.requires, list(Requirement))
    parameters = inspect.signature(loss.__call__).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if missing := [str(n) for n in loss.requires if n not in named and not open_ended]:
        raise CheckFailed(f"requires: found {', '.join(missing)}, which __call__ does not take")
    asked = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    if undeclared := asked - set(map(str, loss.requires)):
        raise CheckFailed(f"__call__ asks for {', '.join(sorted(undeclared))}, which `requires` does not declare")


def docstring_is_complete(loss: Loss) -> None:
    """The docstring says what it is; a built-in one has formula, shapes, errors, reference, names and advice."""
    doc = inspect.cleandoc(type(loss).__doc__ or "")
    if not doc or doc.startswith(f"{type(loss).__name__}("):  # what a dataclass writes by itself
        raise CheckFailed("found no docstring, wanted at least a sentence and the formula")
    if not built_in(loss):
        return
    if missing := [part for part in PARTS if part not in doc]:
        raise CheckFailed(f"the docstring lacks {', '.join(missing)}")
    if not loss.aliases:
        raise CheckFailed("aliases: found none, wanted its names in other libraries")
    for line in (loss.use_when, loss.pitfall, *loss.aliases):
        if not 2 < len(line) < 160:
            raise CheckFailed(f"found {line!r}, wanted a line of advice, or a name, of less than 160 characters")


def fields_are_documented(loss: Loss) -> None:
    """Every field is named in the docstring."""
    own = _fields(loss)
    doc = type(loss).__doc__ or ""
    if missing := [f.name for f in own if not re.search(rf"\b{f.name}\b", doc)]:
        raise CheckFailed(f"the docstring does not name {', '.join(missing)}")


def fields_are_validated(loss: Loss) -> str:
    """A value that makes no sense (NaN, a text for a number) raises InvalidValue, which names the field."""
    own = _fields(loss)
    known = {f.name: _nonsense(loss, f.name) for f in own}
    for name, values in known.items():
        for value in values:
            _check_refused(loss, name, value)
    unknown = [name for name, values in known.items() if not values]
    return f"not tried, for their types: {', '.join(unknown)}" if unknown else ""


def _nonsense(loss: Loss, name: str) -> tuple[Any, ...]:
    hint = get_type_hints(type(loss)).get(name)
    kind = Enum if inspect.isclass(hint) and issubclass(hint, Enum) else hint
    return NONSENSE.get(kind, ()) if inspect.isclass(kind) else ()


def _check_refused(loss: Loss, name: str, value: Any) -> None:
    try:
        replace(loss, **{name: value})  # type: ignore[type-var]
    except InvalidValue as error:
        if name not in str(error):
            raise CheckFailed(f"{name}={value!r} is refused with {str(error)!r}, which does not name it") from error
    except LossbenchError:
        pass
    except Exception as error:
        raise CheckFailed(f"{name}={value!r} raises {describe_error(error)}, wanted InvalidValue") from error
    else:
        raise CheckFailed(f"{name}={value!r} is taken, wanted InvalidValue (lossbench.validation has checks)")


def whole_numbers_are_floats(loss: Loss) -> None:
    """A field set to 1 acts as 1.0."""
    for name in float_fields(loss):
        try:
            whole, same = (replace(loss, **{name: one}) for one in (1, 1.0))  # type: ignore[type-var]
        except LossbenchError:  # it cannot be 1
            continue
        call = call_for(loss)
        agree(call.of(whole), call.of(same), f"{name}=1 against {name}=1.0", rtol=1e-9, atol=1e-12)


def float_fields(loss: Loss) -> list[str]:
    """Fields in which the rows of a stack may differ, or `NotApplicable`."""
    hints = get_type_hints(type(loss))
    free = [f.name for f in _fields(loss) if hints.get(f.name) is float and f.name not in loss.static_fields]
    if not free:
        raise NotApplicable("it has no field of floats")
    return free


def _fields(loss: Any) -> "tuple[Field[Any], ...]":
    if not is_dataclass(loss):
        raise CheckFailed(f"{type(loss).__name__} is no dataclass, wanted @dataclass(frozen=True)")
    own = fields(loss)
    if not own:
        raise NotApplicable("it has no fields")
    return own
