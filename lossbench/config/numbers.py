"""The settings that are numbers, validated; where rows of a stack may differ in one, lists of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from numbers import Real
from typing import Any

from lossbench.errors import InvalidValue, unknown
from lossbench.interfaces import Task
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Choice, Optimizer
from lossbench.validation import (
    check_below_one,
    check_between,
    check_count,
    check_nonnegative,
    check_positive,
    check_share,
)

OPTIMIZERS, SCHEDULES, CLIPS = ("adamw", "sgd"), ("constant", "cosine"), ("none", "norm", "value", "per_tensor")
LISTED = {
    "lr": check_positive,
    "optimizer.weight_decay": check_nonnegative,
    "optimizer.warmup": check_share,
    "clip.threshold": check_positive,
}
"""Numbers in which rows of a stack may differ: each takes a list. Their checks."""
HERE = type("the experiment", (), {})()
"""Named in messages: The 'lr' parameter of the experiment must be ..."""


def optimizers(plain: Mapping[str, Any], task: Task) -> list[Optimizer]:
    """One per combination of the listed numbers, in their order."""
    given, clip = dict(plain["optimizer"]), plain["clip"]
    check_positive(HERE, **{"optimizer.eps": given["eps"]})
    check_value("optimizer.name", given["name"], OPTIMIZERS)
    check_value("optimizer.schedule", given["schedule"], SCHEDULES)
    check_value("clip.mode", clip["mode"], CLIPS)
    check_below_one(HERE, **{f"optimizer.{n}": given[n] for n in ("momentum", "beta1", "beta2")})
    betas = (given.pop("beta1"), given.pop("beta2"))
    lrs = listed("lr", task.settings["lr"] if plain["lr"] is None else plain["lr"])
    decays, warmups = (listed(f"optimizer.{n}", given.pop(n)) for n in ("weight_decay", "warmup"))
    made = [
        Optimizer(lr=lr, weight_decay=decay, warmup=warmup, betas=betas, clip_mode=clip["mode"], clip=at, **given)
        for lr, decay, warmup, at in product(lrs, decays, warmups, listed("clip.threshold", clip["threshold"]))
    ]
    return list(dict.fromkeys(map(_without_the_unused, made)))


def listed(setting: str, given: Any) -> list[float]:
    """One of `LISTED` as a list: a single number is a list of one. Raises `InvalidValue`."""
    values = given if isinstance(given, list) else [given]
    if not values:
        raise InvalidValue(f"{setting}=[] asks for nothing. Give at least one number.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InvalidValue(f"{setting} must be a number, or a list of numbers. Got {value!r} instead.")
        LISTED[setting](HERE, **{setting: float(value)})
    return [float(value) for value in values]


def _without_the_unused(given: Optimizer) -> Optimizer:
    """What does not act is set to its default, so that equal trainings are equal settings."""
    plain = Optimizer()
    unused = [*(("betas", "eps") if given.name == "sgd" else ("momentum",))]
    unused += ["clip"] if given.clip_mode == "none" else []
    return replace(given, **{name: getattr(plain, name) for name in unused})


def check_value(setting: str, given: str, allowed: Sequence[str]) -> None:
    """Raise `UnknownName` for what is not among the `allowed`."""
    if given not in allowed:
        raise unknown(setting, given, allowed, "Its values")


def sizes(plain: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The numbers that all trials of a command share, as fields of `Trial`."""
    epochs = task.settings["epochs"] if plain["epochs"] is None else plain["epochs"]
    batch_size = int(task.settings["batch_size"]) if plain["batch_size"] is None else plain["batch_size"]
    check_positive(HERE, epochs=epochs)
    check_count(HERE, batch_size=batch_size, evaluations=plain["evaluations"])
    if plain["workers"] is not None:
        check_count(HERE, workers=plain["workers"])
    check_between(HERE, 0, 1, **{f"split.{n}": v for n, v in plain["split"].items()})
    check_value("validation", plain["validation"], ("corrupted", "clean"))
    check_value("precision", plain["precision"], ("32", "bf16", "64"))
    return {
        "epochs": float(epochs),
        "batch_size": batch_size,
        "evaluations": plain["evaluations"],
        "validation": plain["validation"],
        "precision": plain["precision"],
        "split_test": plain["split"]["test"],
        "split_validation": plain["split"]["validation"],
    }


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
        check_share(HERE, rates=rate)
    if corruption.name == "none":
        return (0.0,)
    return tuple(sorted(set(map(float, given))))
