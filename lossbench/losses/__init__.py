"""The built-in losses, and `get` and `names` for all that are registered."""

from lossbench import registry
from lossbench.interfaces.loss import Loss as _Loss
from lossbench.losses.classification import (
    BCE,
    ELR,
    Brier,
    CrossEntropy,
    Focal,
    GeneralizedCrossEntropy,
    LogitAdjusted,
)
from lossbench.losses.embedding import ArcFace
from lossbench.losses.external import External
from lossbench.losses.margin import Hinge, MultiMargin
from lossbench.losses.overlap import Dice
from lossbench.losses.regression import MAE, MSE, MSLE, BarronAdaptive, GaussianNLL, Huber, LogCosh, Tukey

__all__ = [
    "BCE",
    "ELR",
    "MAE",
    "MSE",
    "MSLE",
    "ArcFace",
    "BarronAdaptive",
    "Brier",
    "CrossEntropy",
    "Dice",
    "External",
    "Focal",
    "GaussianNLL",
    "GeneralizedCrossEntropy",
    "Hinge",
    "Huber",
    "LogCosh",
    "LogitAdjusted",
    "MultiMargin",
    "Tukey",
    "get",
    "names",
]


def get(name: str, **fields: object) -> _Loss:
    """The loss registered under `name`, built in or not, with its fields set.

    >>> get("huber", delta=2.0)
    Huber(delta=2.0)
    """
    return registry.losses.get(name, **fields)


def names(task: str | None = None) -> list[str]:
    """Names of all registered losses, or of those that fit `task`."""
    return registry.losses.names(task)
