"""Corruptions of training and validation examples, drawn for every example at once.

The values depend on the examples and the generator only, never on the corruption rate.
"""

from typing import Any

from lossbench import registry
from lossbench.corruptions.boxes import BoxJitter, BoxOutliers, BoxSwap, BoxTruncation
from lossbench.corruptions.features import FeatureOutliers
from lossbench.corruptions.identities import WrongIdentities
from lossbench.corruptions.labels import AsymmetricFlips, SymmetricFlips
from lossbench.corruptions.multilabel import LabelFlips, MissingPositives
from lossbench.corruptions.none import NoCorruption
from lossbench.corruptions.transcripts import TokenDeletions, TokenInsertions, TokenSubstitutions
from lossbench.corruptions.values import HeavyTails, OneSidedOutliers, SymmetricOutliers
from lossbench.interfaces import Corruption as _Corruption

__all__ = [
    "AsymmetricFlips",
    "BoxJitter",
    "BoxOutliers",
    "BoxSwap",
    "BoxTruncation",
    "FeatureOutliers",
    "HeavyTails",
    "LabelFlips",
    "MissingPositives",
    "NoCorruption",
    "OneSidedOutliers",
    "SymmetricFlips",
    "SymmetricOutliers",
    "TokenDeletions",
    "TokenInsertions",
    "TokenSubstitutions",
    "WrongIdentities",
    "get",
    "list_names",
]


def get(name: str, **fields: Any) -> _Corruption:
    """Return the corruption called `name` with its fields set.

    Raises `UnknownName` with the nearest name and all of them.
    """
    return registry.corruptions.get(name, **fields)


def list_names(task: str | None = None) -> list[str]:
    """List the names of all corruptions, or of those that fit `task`."""
    return registry.corruptions.names(task)
