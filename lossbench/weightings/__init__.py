"""Weightings: one multiplier per example or label, from the labels, the data, the losses or the predictions."""

from typing import Any

from lossbench import registry
from lossbench.interfaces import Weighting as _Weighting
from lossbench.weightings.classes import Balanced, Classes, EffectiveNumber, InverseSqrt, PosWeight
from lossbench.weightings.difficulty import GHM, Focal
from lossbench.weightings.examples import NoWeighting, Sample
from lossbench.weightings.residuals import IRLS
from lossbench.weightings.schedules import Deferred
from lossbench.weightings.selection import SelfPaced, Trimmed

__all__ = [
    "GHM",
    "IRLS",
    "Balanced",
    "Classes",
    "Deferred",
    "EffectiveNumber",
    "Focal",
    "InverseSqrt",
    "NoWeighting",
    "PosWeight",
    "Sample",
    "SelfPaced",
    "Trimmed",
    "get",
    "names",
]


def get(name: str, **fields: Any) -> _Weighting:
    """The weighting called `name` with its fields set; raises `UnknownName` with the nearest name and all of them."""
    return registry.weightings.get(name, **fields)


def names(task: str | None = None) -> list[str]:
    """The names of all weightings, or of those that fit `task`."""
    return registry.weightings.names(task)
