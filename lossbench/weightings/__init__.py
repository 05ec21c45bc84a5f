"""Weightings: a multiplier per example, label or term, from labels, data, losses, predictions or gradients."""

from typing import Any

from lossbench import registry
from lossbench.interfaces import Scheme as _Scheme
from lossbench.weightings.classes import Balanced, Classes, EffectiveNumber, InverseSqrt, PosWeight
from lossbench.weightings.difficulty import GHM, Focal
from lossbench.weightings.examples import NoWeighting, Sample
from lossbench.weightings.residuals import IRLS
from lossbench.weightings.schedules import Deferred
from lossbench.weightings.selection import SelfPaced, Trimmed
from lossbench.weightings.terms import DWA, GradNorm, PCGrad, Random, Uncertainty

__all__ = [
    "DWA",
    "GHM",
    "IRLS",
    "Balanced",
    "Classes",
    "Deferred",
    "EffectiveNumber",
    "Focal",
    "GradNorm",
    "InverseSqrt",
    "NoWeighting",
    "PCGrad",
    "PosWeight",
    "Random",
    "Sample",
    "SelfPaced",
    "Trimmed",
    "Uncertainty",
    "get",
    "list_names",
]


def get(name: str, **fields: Any) -> _Scheme:
    """Return the weighting called `name` with its fields set.

    Raises `UnknownName` with the nearest name and all of them.
    """
    return registry.weightings.get(name, **fields)


def list_names(task: str | None = None) -> list[str]:
    """List the names of all weightings, or of those that fit `task`."""
    return registry.weightings.names(task)
