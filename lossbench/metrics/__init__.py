"""Metrics: the quality of predictions, whatever loss trained them. All replicas of a stack are computed at once.

A replica with a prediction that is not finite gets NaN; the others keep their values. Half precision is computed in
single precision.
"""

from typing import Any

from lossbench import registry
from lossbench.interfaces import Metric as _Metric
from lossbench.metrics.boxes import AP50, AP75, CentreError, MeanIOU, SizeError
from lossbench.metrics.classification import AUROC, F1, Accuracy, BalancedAccuracy, BrierScore, LogLoss, MacroF1
from lossbench.metrics.multilabel import HammingAccuracy, MeanAveragePrecision, SubsetAccuracy
from lossbench.metrics.regression import MAE, MAPE, R2, RMSE, MedianAbsoluteError
from lossbench.metrics.retrieval import MAPAtR, RecallAt1
from lossbench.metrics.sequence import CharacterErrorRate, SequenceAccuracy

__all__ = [
    "AP50",
    "AP75",
    "AUROC",
    "F1",
    "MAE",
    "MAPE",
    "R2",
    "RMSE",
    "Accuracy",
    "BalancedAccuracy",
    "BrierScore",
    "CentreError",
    "CharacterErrorRate",
    "HammingAccuracy",
    "LogLoss",
    "MAPAtR",
    "MacroF1",
    "MeanAveragePrecision",
    "MeanIOU",
    "MedianAbsoluteError",
    "RecallAt1",
    "SequenceAccuracy",
    "SizeError",
    "SubsetAccuracy",
    "get",
    "list_names",
]


def get(name: str, **fields: Any) -> _Metric:
    """Return the metric called `name` with its fields set; raises `UnknownName`, which suggests the nearest name."""
    return registry.metrics.get(name, **fields)


def list_names(task: str | None = None) -> list[str]:
    """List the names of all metrics, or of those that fit `task`."""
    return registry.metrics.names(task)
