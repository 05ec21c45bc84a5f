"""The parts of an experiment: small abstract classes with declared facts."""

from lossbench.interfaces.corruption import Corrupted, Corruption
from lossbench.interfaces.dataset import Dataset
from lossbench.interfaces.loss import Loss, LossModule
from lossbench.interfaces.metric import Metric
from lossbench.interfaces.model import Model
from lossbench.interfaces.task import Scaling, Task
from lossbench.interfaces.weighting import Level, Misfit, Scheme, TermWeighting, Weighting

__all__ = [
    "Corrupted",
    "Corruption",
    "Dataset",
    "Level",
    "Loss",
    "LossModule",
    "Metric",
    "Misfit",
    "Model",
    "Scaling",
    "Scheme",
    "Task",
    "TermWeighting",
    "Weighting",
]
