"""Where every random number and every id comes from: a hash of just the fields that it may depend on.

Nothing draws from a global generator. All losses of a comparison so share data, initial weights, batch order and
corrupted examples: the comparison is paired.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from lossbench.types import Choice, Optimizer, Stack, Trial, enters_hashes

FIRST_TUNING_SEED = 10_000
"""Trials with this seed or a higher one choose settings and are not reported; reported ones have lower seeds."""


class Purpose(StrEnum):
    """What a seed is for."""

    TEST = "test split"
    SPLIT = "train/validation split"
    TRUNK = "trunk"
    HEAD = "head"
    LOSS = "loss parameters"
    ORDER = "order"
    CORRUPTION = "corruption"


FIRST_SPELLINGS: dict[str, str] = {"Trial.corruption_rate": "rate", "loss/external.batch_level": "coupled"}
"""What enters a hash, by today's spelling: the spelling of the release that first drew from it.

A field by its class, as `Trial.corruption_rate`; a choice by its group, as `loss/huber`; a choice's field as
`loss/huber.delta`; a word that a field holds as `metric=mae`. A renamed thing so keeps its seeds and its ids.
"""


def hash_values(*parts: object) -> str:
    """The SHA-256 of plain values, the same in every process and on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Trial):
        return _identity(value)
    if is_dataclass(value) and not isinstance(value, type):
        # not what is left out of comparisons: a path says nothing about the data that lie there
        return {_first(f"{type(value).__name__}.{f.name}"): getattr(value, f.name) for f in fields(value) if f.compare}
    raise TypeError(f"cannot hash {type(value).__name__}")


def _first(spelling: str) -> str:
    """Return the last part of a name as it was first spelt."""
    return FIRST_SPELLINGS.get(spelling, re.split(r"[./=]", spelling)[-1])


def _identity(trial: Trial) -> dict[str, object]:
    """Return what a trial's id is the hash of, in the first spellings."""
    found: dict[str, object] = {}
    for f in fields(trial):
        value = getattr(trial, f.name)
        if not enters_hashes(f, value):
            continue
        if isinstance(value, Choice):
            value = _choice_identity(f.name, value)
        elif isinstance(value, Optimizer):
            value = _optimizer_identity(value)
        elif isinstance(value, str):
            value = _first_word(f.name, value)
        found[_first(f"Trial.{f.name}")] = value
    return found


def _first_word(field: str, value: str) -> str:
    return FIRST_SPELLINGS.get(f"{field}={value}", value)


def _optimizer_identity(optimizer: Optimizer) -> dict[str, object]:
    own = {f.name: v for f in fields(optimizer) if enters_hashes(f, v := getattr(optimizer, f.name))}
    own = {n: _first_word(f"optimizer.{n}", v) if isinstance(v, str) else v for n, v in own.items()}
    betas = [own.pop("beta1"), own.pop("beta2")]  # one field, when ids were first made
    return {_first(f"Optimizer.{n}"): v for n, v in own.items()} | {"betas": betas}


def _choice_identity(group: str, choice: Choice) -> dict[str, str]:
    own = {} if choice.settings == "{}" else _spelt(group, {"name": choice.name, **json.loads(choice.settings)})
    own.pop("name", None)
    return {"name": _first_name(group, choice.name), "settings": json.dumps(own, sort_keys=True)}


def _first_name(group: str, name: str) -> str:
    return FIRST_SPELLINGS.get(f"{group}/{name}", name)


def _spelt(group: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a choice as a mapping, with the choices inside it, in the first spellings."""
    name = str(given["name"])
    found: dict[str, Any] = {"name": _first_name(group, name)}
    for key, value in given.items():
        if key != "name":
            found[_first(f"{group}/{name}.{key}")] = _spelt_value(group, value)
    return found


def _spelt_value(group: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_spelt_value(group, one) for one in value]
    return _spelt(group, value) if isinstance(value, dict) and "name" in value else value


def derive_seed(purpose: Purpose, trial: Trial, *extra: object) -> int:
    """A 63-bit seed from what `purpose` may depend on: never the loss, never (but for corruption's kind) the rate.

    A higher corruption rate contains the rows of a lower one because the rate is no part of the hash.
    """
    task, dataset, model, corruption = (
        _choice_identity(group, getattr(trial, group)) for group in ("task", "data", "model", "corruption")
    )
    data = (task, dataset, trial.split_test, trial.split_validation)
    depends: dict[Purpose, tuple[object, ...]] = {
        Purpose.TEST: (task, dataset, trial.split_test),
        Purpose.SPLIT: (*data, trial.seed),
        Purpose.TRUNK: (model, trial.seed),
        Purpose.HEAD: (model, trial.seed),
        Purpose.LOSS: (model, trial.seed),
        Purpose.ORDER: (*data, trial.seed),
        Purpose.CORRUPTION: (*data, corruption, trial.seed),
    }
    return int(hash_values(purpose.value, *depends[purpose], *extra)[:16], 16) >> 1


@cache
def trial_id(trial: Trial) -> str:
    """Sixteen hex digits from all that the trial's numbers depend on; finished trials are found by it."""
    return hash_values("trial", trial)[:16]


def group_stacks(trials: Iterable[Trial]) -> tuple[Stack, ...]:
    """Trials that can train together, together; in the order in which their kinds first appear."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in dict.fromkeys(trials):
        groups.setdefault(trial.stack_key, []).append(trial)
    return tuple(Stack(tuple(group)) for group in groups.values())
