"""Where every random number comes from: a hash of just the fields that a purpose may depend on.

Nothing draws from a global generator. All losses of a comparison so share data, initial weights, batch order and
corrupted examples: the comparison is paired.
"""

import hashlib
import json
from dataclasses import fields, is_dataclass
from enum import StrEnum

from lossbench.types import Trial

FIRST_TUNING_SEED = 10_000
"""Trials with this seed or a higher one choose settings and are not reported; reported ones have lower seeds."""


def is_tuning(seed: int) -> bool:
    """Whether a trial with this seed chooses settings, and is no part of any result."""
    return seed >= FIRST_TUNING_SEED


class Purpose(StrEnum):
    """What a seed is for."""

    TEST = "test split"
    SPLIT = "train/validation split"
    TRUNK = "trunk"
    HEAD = "head"
    LOSS = "loss parameters"
    ORDER = "order"
    CORRUPTION = "corruption"


def stable_hash(*parts: object) -> str:
    """The SHA-256 of plain values, the same in every process and on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        # not what is left out of comparisons: a path says nothing about the data that lie there
        return {f.name: getattr(value, f.name) for f in fields(value) if f.compare}
    raise TypeError(f"cannot hash {type(value).__name__}")


def seed_for(purpose: Purpose, trial: Trial, *extra: object) -> int:
    """A 63-bit seed from what `purpose` may depend on: never the loss, never (but for corruption's kind) the rate.

    A higher corruption rate contains the rows of a lower one because the rate is no part of the hash.
    """
    data = (trial.task, trial.data, trial.split_test, trial.split_validation)
    depends: dict[Purpose, tuple[object, ...]] = {
        Purpose.TEST: (trial.task, trial.data, trial.split_test),
        Purpose.SPLIT: (*data, trial.seed),
        Purpose.TRUNK: (trial.model, trial.seed),
        Purpose.HEAD: (trial.model, trial.seed),
        Purpose.LOSS: (trial.model, trial.seed),
        Purpose.ORDER: (*data, trial.seed),
        Purpose.CORRUPTION: (*data, trial.corruption, trial.seed),
    }
    return int(stable_hash(purpose.value, *depends[purpose], *extra)[:16], 16) >> 1
