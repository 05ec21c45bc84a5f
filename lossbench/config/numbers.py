"""The settings that are numbers, validated; where rows of a stack may differ in one, lists of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from lossbench.config.schema import THE_EXPERIMENT, as_numbers, check_setting
from lossbench.errors import InvalidValue
from lossbench.interfaces import Task
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.settings import Setting, settings_of
from lossbench.types import Choice, Optimizer, Trial
from lossbench.validation import check_count, check_share


def optimizers(plain: Mapping[str, Any], task: Task) -> list[Optimizer]:
    """One per combination of the listed numbers, in their order."""
    values = {one.name: _values(one, plain, task) for one in settings_of(Optimizer)}
    made = [Optimizer(**dict(zip(values, own, strict=True))) for own in product(*values.values())]
    return list(dict.fromkeys(map(_without_the_unused, made)))


def _values(one: Setting, plain: Mapping[str, Any], task: Task) -> list[Any]:
    given = one.read(plain)
    given = task.settings[one.name] if given is None else given
    if one.listed:
        return as_numbers(one.path, given)
    check_setting(one, given)
    return [given]


def _without_the_unused(given: Optimizer) -> Optimizer:
    """What does not act is set to its default, so that equal trainings are equal settings."""
    plain = Optimizer()
    unused = [*(("beta1", "beta2", "eps") if given.name == "sgd" else ("momentum",))]
    unused += ["clip"] if given.clip_mode == "none" else []
    return replace(given, **{name: getattr(plain, name) for name in unused})


def sizes(plain: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The settings that all trials of a command share, as fields of `Trial`: all but head and metric."""
    if plain["workers"] is not None:
        check_count(THE_EXPERIMENT, workers=plain["workers"])
    found = {}
    for one in settings_of(Trial):
        value = one.read(plain)
        if value is None:
            if one.name not in task.settings:
                continue  # the loss's own, or chosen elsewhere
            value = one.type(task.settings[one.name])
        check_setting(one, value)
        found[one.name] = float(value) if one.type is float else value
    return found


def seeds(given: Any) -> tuple[int, ...]:
    """A number of seeds, or the seeds themselves."""
    if isinstance(given, bool) or not isinstance(given, int | Sequence) or isinstance(given, str):
        raise InvalidValue(f"seeds must be a number of seeds, or a list such as [3,7]. Got {given!r} instead.")
    found = range(given) if isinstance(given, int) else given
    if not len(found) or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in found):
        raise InvalidValue(f"seeds must be a number from 1, or a list of whole numbers from 0. Got {given!r} instead.")
    if max(found) >= FIRST_TUNING_SEED:
        raise InvalidValue(
            f"Seeds from {FIRST_TUNING_SEED} on are for tuning: trials that choose settings and are not reported. "
            f"Got {max(found)}: use lower ones."
        )
    return tuple(dict.fromkeys(found))


def rates(given: Sequence[float], corruption: Choice) -> tuple[float, ...]:
    """Corruption rates, rising; without corruption there is but one."""
    if not given:
        raise InvalidValue("rates=[] asks for nothing. Give at least one, for example rates=[0,0.2].")
    for rate in given:
        check_share(THE_EXPERIMENT, rates=rate)
    if corruption.name == "none":
        return (0.0,)
    return tuple(sorted(set(map(float, given))))
