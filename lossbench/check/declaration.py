"""Checks of a loss's declarations: class facts, docstring, fields."""

import inspect
import math
import re
from collections.abc import Iterable
from dataclasses import Field, fields, is_dataclass, replace
from enum import Enum
from typing import Any, get_type_hints

from lossbench.check.assertions import assert_close
from lossbench.check.calls import draw_call
from lossbench.check.contract import CheckFailed, NotApplicable, is_built_in
from lossbench.errors import InvalidValue, LossbenchError, describe_error
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Encoding, Head, Requirement, Space

PARTS = (".. math::", "Returns", "Raises", "Reference:", "https://")
"""The parts of a built-in loss's docstring."""
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
    # 1. types of the facts
    tasks: object = loss.tasks
    if not tasks or not isinstance(tasks, tuple | list):
        raise CheckFailed(f'tasks: got {tasks!r}, expected a tuple of names such as ("regression",)')
    for fact, kind in (("space", Space), ("encoding", Encoding), ("head", Head)):
        if not isinstance(value := getattr(loss, fact, None), kind):
            raise CheckFailed(f"{fact}: got {value!r}, expected a {kind.__name__}")

    # 2. the head gives predictions of the space that the loss takes
    spaces_of_head: dict[Head, list[str]] = {}
    for space, facts in SPACES.items():
        spaces_of_head.setdefault(facts.head, []).append(space)
    for head, spaces in spaces_of_head.items():
        # a linear layer suits any other space as well, and so do heads that belong to no space
        if head is not Head.LINEAR and (loss.head is head) != (loss.space in spaces):
            raise CheckFailed(f"got head {loss.head} with space {loss.space}: {head} goes with {', '.join(spaces)}")

    # 3. static fields and flaws
    _check_names("static_fields", loss.static_fields, [f.name for f in fields(loss)] if is_dataclass(loss) else [])
    if loss.flaws and is_built_in(loss):
        raise CheckFailed(f"flaws: got {', '.join(loss.flaws)}, expected none in a built-in loss")

    # 4. `requires` and the keyword arguments of the call are the same
    _check_names("requires", loss.requires, list(Requirement))
    parameters = inspect.signature(loss.__call__).parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    accepted = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if missing := [str(name) for name in loss.requires if name not in accepted and not takes_any]:
        raise CheckFailed(f"requires: got {', '.join(missing)}, which __call__ does not take")
    mandatory = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    if undeclared := mandatory - set(map(str, loss.requires)):
        raise CheckFailed(f"__call__ asks for {', '.join(sorted(undeclared))}, which `requires` does not declare")


def _check_names(fact: str, names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := [str(name) for name in names if name not in known]:
        raise CheckFailed(f"{fact}: got {', '.join(unknown)}, expected names of {', '.join(known) or 'nothing'}")


def docstring_is_complete(loss: Loss) -> None:
    """The docstring says what it is; a built-in one has formula, shapes, errors, reference, names and advice."""
    doc = inspect.cleandoc(type(loss).__doc__ or "")
    if not doc or doc.startswith(f"{type(loss).__name__}("):  # a dataclass writes its signature by itself
        raise CheckFailed("got no docstring, expected at least a sentence and the formula")
    if not is_built_in(loss):
        return
    if missing := [part for part in PARTS if part not in doc]:
        raise CheckFailed(f"the docstring lacks {', '.join(missing)}")
    if not loss.aliases:
        raise CheckFailed("aliases: got none, expected its names in other libraries")
    for line in (loss.use_when, loss.pitfall, *loss.aliases):
        if not 2 < len(line) < 160:
            raise CheckFailed(f"got {line!r}, expected a line of advice, or a name, of less than 160 characters")


def fields_are_documented(loss: Loss) -> None:
    """Every field is named in the docstring."""
    names = [f.name for f in _get_fields(loss)]
    doc = type(loss).__doc__ or ""
    if missing := [name for name in names if not re.search(rf"\b{name}\b", doc)]:
        raise CheckFailed(f"the docstring does not name {', '.join(missing)}")


def fields_are_validated(loss: Loss) -> str:
    """A value that makes no sense (NaN, a text for a number) raises InvalidValue, which names the field."""
    names, hints, untested = [f.name for f in _get_fields(loss)], get_type_hints(type(loss)), []
    for name in names:
        kind = hints.get(name)
        if inspect.isclass(kind) and issubclass(kind, Enum):
            kind = Enum
        values = NONSENSE.get(kind, ()) if inspect.isclass(kind) else ()
        if not values:
            untested.append(name)
        for value in values:
            _check_refused(loss, name, value)
    return f"not tried, for their types: {', '.join(untested)}" if untested else ""


def _check_refused(loss: Loss, name: str, value: Any) -> None:
    try:
        replace(loss, **{name: value})  # type: ignore[type-var]
    except InvalidValue as error:
        if name not in str(error):
            raise CheckFailed(f"{name}={value!r} is refused with {str(error)!r}, which does not name it") from error
    except LossbenchError:
        pass
    except Exception as error:
        raise CheckFailed(f"{name}={value!r} raises {describe_error(error)}, expected InvalidValue") from error
    else:
        raise CheckFailed(f"{name}={value!r} is taken, expected InvalidValue (lossbench.validation has checks)")


def whole_numbers_are_floats(loss: Loss) -> None:
    """A field set to 1 acts as 1.0."""
    for name in list_float_fields(loss):
        try:
            of_int, of_float = (replace(loss, **{name: value}) for value in (1, 1.0))  # type: ignore[type-var]
        except LossbenchError:  # 1 is outside the field's range
            continue
        call = draw_call(loss)
        message = f"{name}=1 against {name}=1.0"
        assert_close(call.evaluate(of_int), call.evaluate(of_float), message, rtol=1e-9, atol=1e-12)


def list_float_fields(loss: Loss) -> list[str]:
    """Return the fields in which the replicas of a stack may differ; raise `NotApplicable` if there is none."""
    hints = get_type_hints(type(loss))
    names = [f.name for f in _get_fields(loss) if hints.get(f.name) is float and f.name not in loss.static_fields]
    if not names:
        raise NotApplicable("it has no field of floats")
    return names


def _get_fields(loss: Any) -> "tuple[Field[Any], ...]":
    if not is_dataclass(loss):
        raise CheckFailed(f"{type(loss).__name__} is no dataclass, expected @dataclass(frozen=True)")
    if not fields(loss):
        raise NotApplicable("it has no fields")
    return fields(loss)
