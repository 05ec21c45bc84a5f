"""Checks of parameters at construction, worded as scikit-learn words them."""

import math
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from numbers import Real

from lossbench.errors import InvalidValue

_demands: ContextVar[dict[str, str] | None] = ContextVar("_demands", default=None)
"""The demands that `collect_demands` collects, by parameter; None outside of it."""


def collect_demands(make: Callable[[], object]) -> dict[str, str]:
    """Return the demand on each parameter ("a float in the range (0, inf)") that `make()` checks."""
    demands: dict[str, str] = {}
    token = _demands.set(demands)
    try:
        make()
    finally:
        _demands.reset(token)
    return demands


def _check(owner: object, values: dict[str, object], demand: str, is_valid: Callable[[object], bool]) -> None:
    """Raise `InvalidValue` for the first invalid value; tell `collect_demands` what was demanded."""
    if (demands := _demands.get()) is not None:
        demands.update(dict.fromkeys(values, demand))
    for name, value in values.items():
        if not is_valid(value):
            raise InvalidValue(
                f"The {name!r} parameter of {type(owner).__name__} must be {demand}. Got {value!r} instead."
            )


def _check_numbers(owner: object, values: dict[str, object], demand: str, is_valid: Callable[[float], bool]) -> None:
    def is_valid_number(value: object) -> bool:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        return is_number and is_valid(float(value))  # type: ignore[arg-type]

    _check(owner, values, demand, is_valid_number)


def check_positive(owner: object, **values: object) -> None:
    """Each value must lie in (0, inf)."""
    _check_numbers(owner, values, "a float in the range (0, inf)", lambda v: 0 < v < float("inf"))


def check_nonnegative(owner: object, **values: object) -> None:
    """Each value must lie in [0, inf)."""
    _check_numbers(owner, values, "a float in the range [0, inf)", lambda v: 0 <= v < float("inf"))


def check_at_least(owner: object, least: float, **values: object) -> None:
    """Each value must lie in [least, inf)."""
    _check_numbers(owner, values, f"a float in the range [{least:g}, inf)", lambda v: least <= v < float("inf"))


def check_share(owner: object, **values: object) -> None:
    """Each value must lie in [0, 1]."""
    _check_numbers(owner, values, "a float in the range [0, 1]", lambda v: 0 <= v <= 1)


def check_below_one(owner: object, **values: object) -> None:
    """Each value must lie in [0, 1)."""
    _check_numbers(owner, values, "a float in the range [0, 1)", lambda v: 0 <= v < 1)


def check_inside_one(owner: object, **values: object) -> None:
    """Each value must lie in (0, 1)."""
    check_between(owner, 0, 1, **values)


def check_at_most(owner: object, most: float, **values: object) -> None:
    """Each value must lie in [-inf, most]."""
    _check_numbers(owner, values, f"a float in the range [-inf, {most:g}]", lambda v: v <= most)


def check_between(owner: object, low: float, high: float, **values: object) -> None:
    """Each value must lie in the open interval (low, high)."""
    _check_numbers(owner, values, f"a float in the range ({low:g}, {high:g})", lambda v: low < v < high)


def check_count(owner: object, least: int = 1, **values: object) -> None:
    """Each value must be a whole number of at least `least`."""
    demand = f"an int in the range [{least}, inf)"
    # int(inf) raises, NaN compares as False
    _check_numbers(owner, values, demand, lambda v: v == int(v) and v >= least if v < float("inf") else False)


def check_number(owner: object, **values: object) -> None:
    """Each value must be a number; infinite ones are fine."""
    _check_numbers(owner, values, "a float", lambda v: not math.isnan(v))


def check_whole(owner: object, **values: object) -> None:
    """Each value must be a whole number."""
    _check_numbers(owner, values, "an int", lambda v: abs(v) < float("inf") and v == int(v))


def check_switch(owner: object, **values: object) -> None:
    """Each value must be true or false."""
    _check(owner, values, "true or false", lambda v: isinstance(v, bool))


def check_choice(owner: object, choices: Iterable[str], **values: object) -> None:
    """Each value must be one of `choices`."""
    choices = tuple(choices)
    _check(owner, values, f"one of {', '.join(choices)}", lambda v: v in choices)


def check_range(owner: object, low: float, high: float) -> None:
    """The values must hold 0 <= low <= high, and high > 0."""
    check_nonnegative(owner, low=low)
    check_positive(owner, high=high)
    if low > high:
        raise InvalidValue(
            f"The 'low' parameter of {type(owner).__name__} must not be above 'high'. Got {low!r} and {high!r} instead."
        )
