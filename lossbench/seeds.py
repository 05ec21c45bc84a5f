"""Seeds and ids: every random number and every id comes from a hash of just the fields that it may depend on.

Nothing draws from a global generator. All losses of a comparison thereby share data, initial weights, batch order and
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
    """The random numbers that a seed is for."""

    TEST = "test split"
    SPLIT = "train/validation split"
    TRUNK = "trunk"
    HEAD = "head"
    LOSS = "loss parameters"
    ORDER = "order"
    CORRUPTION = "corruption"


FIRST_SPELLINGS: dict[str, str] = {"Trial.corruption_rate": "rate", "loss/external.batch_level": "coupled"}
"""Names that enter hashes: from today's spelling to that of the release that first used the name.

A field has its class, as `Trial.corruption_rate`; a choice its group, as `loss/huber`; a choice's field both, as
`loss/huber.delta`; a word that a field holds stands as `metric=mae`. A renamed thing thereby keeps its seeds and ids.
"""


def hash_values(*parts: object) -> str:
    """Return the SHA-256 of plain values, the same in every process and on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_convert_to_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _convert_to_plain(value: object) -> object:
    if isinstance(value, Trial):
        return _spell_trial(value)
    if is_dataclass(value) and not isinstance(value, type):
        # fields outside comparisons are no part of the identity: a path says nothing about the data that lie there
        name = type(value).__name__
        return {_spell_first(f"{name}.{f.name}"): getattr(value, f.name) for f in fields(value) if f.compare}
    raise TypeError(f"cannot hash {type(value).__name__}")


def _spell_first(name: str) -> str:
    """Return the last part of a name in its first spelling."""
    return FIRST_SPELLINGS.get(name, re.split(r"[./=]", name)[-1])


def _spell_trial(trial: Trial) -> dict[str, object]:
    """Return the fields that a trial's id is the hash of, in the first spellings."""
    spelt: dict[str, object] = {}
    for f in fields(trial):
        value = getattr(trial, f.name)
        if not enters_hashes(f, value):
            continue
        if isinstance(value, Choice):
            value = _spell_choice(f.name, value)
        elif isinstance(value, Optimizer):
            value = _spell_optimizer(value)
        elif isinstance(value, str):
            value = FIRST_SPELLINGS.get(f"{f.name}={value}", value)
        spelt[_spell_first(f"Trial.{f.name}")] = value
    return spelt


def _spell_optimizer(optimizer: Optimizer) -> dict[str, object]:
    spelt: dict[str, object] = {}
    for f in fields(optimizer):
        value = getattr(optimizer, f.name)
        if enters_hashes(f, value):
            if isinstance(value, str):
                value = FIRST_SPELLINGS.get(f"optimizer.{f.name}={value}", value)
            spelt[_spell_first(f"Optimizer.{f.name}")] = value
    spelt["betas"] = [spelt.pop("beta1"), spelt.pop("beta2")]  # one field, when ids were first made
    return spelt


def _spell_choice(group: str, choice: Choice) -> dict[str, str]:
    name = FIRST_SPELLINGS.get(f"{group}/{choice.name}", choice.name)
    settings: dict[str, Any] = {}
    if choice.settings != "{}":  # most choices have none
        settings = _spell_mapping(group, {"name": choice.name, **json.loads(choice.settings)})
        settings.pop("name")
    return {"name": name, "settings": json.dumps(settings, sort_keys=True)}


def _spell_mapping(group: str, choice: dict[str, Any]) -> dict[str, Any]:
    """Return a choice that is a mapping, and the choices inside it, in the first spellings."""
    name = str(choice["name"])
    spelt: dict[str, Any] = {"name": FIRST_SPELLINGS.get(f"{group}/{name}", name)}
    for key, value in choice.items():
        if key != "name":
            spelt[_spell_first(f"{group}/{name}.{key}")] = _spell_value(group, value)
    return spelt


def _spell_value(group: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_spell_value(group, item) for item in value]
    return _spell_mapping(group, value) if isinstance(value, dict) and "name" in value else value


def derive_seed(purpose: Purpose, trial: Trial, *extra: object) -> int:
    """Return a 63-bit seed from the fields that `purpose` may depend on: never the loss, never the corruption rate.

    As the corruption rate is no part of the hash, a higher rate corrupts the examples of a lower one and more.
    """
    task, dataset, model, corruption = (
        _spell_choice(group, getattr(trial, group)) for group in ("task", "data", "model", "corruption")
    )
    data = (task, dataset, trial.split_test, trial.split_validation)
    fields_of: dict[Purpose, tuple[object, ...]] = {
        Purpose.TEST: (task, dataset, trial.split_test),
        Purpose.SPLIT: (*data, trial.seed),
        Purpose.TRUNK: (model, trial.seed),
        Purpose.HEAD: (model, trial.seed),
        Purpose.LOSS: (model, trial.seed),
        Purpose.ORDER: (*data, trial.seed),
        Purpose.CORRUPTION: (*data, corruption, trial.seed),
    }
    return int(hash_values(purpose.value, *fields_of[purpose], *extra)[:16], 16) >> 1


@cache
def trial_id(trial: Trial) -> str:
    """Return 16 hex digits from all that the trial's numbers depend on; finished trials are found by this id."""
    return hash_values("trial", trial)[:16]


def group_stacks(trials: Iterable[Trial]) -> tuple[Stack, ...]:
    """Group trials that can train together into stacks, in the order in which their kinds first appear."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in dict.fromkeys(trials):
        groups.setdefault(trial.stack_key, []).append(trial)
    return tuple(Stack(tuple(group)) for group in groups.values())
