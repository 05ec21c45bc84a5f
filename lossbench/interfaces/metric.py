"""A metric: how well a prediction does, whatever loss it was trained with."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.types import Array


class Metric(ABC):
    """A number per row of a stack from point predictions and targets, as the task gives them.

    prediction: `[R, N, D]` in original units, `[R, N, C]` class scores, or `[R, N, 1]` scores of the positive class;
    target: `[R, N, D]`, or `[R, N]` class indices.
    """

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it fits."""
    higher_is_better: ClassVar[bool]
    """The direction."""
    limit: ClassVar[float] = 0.0
    """The value of a perfect prediction."""
    transform: ClassVar[str] = "none"
    """How the mean of the per-example scores becomes the metric: mean | root | none (it is no mean over examples)."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The metric of each row, `[R]`."""


class ExampleMetric(Metric):
    """A metric that is the mean (`transform`: its root) of one score per example."""

    transform: ClassVar[str] = "mean"

    @abstractmethod
    def scores(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One score per example, `[R, N]`."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over examples, or its root."""
        mean = self.scores(prediction, target).mean(-1)
        return mean.sqrt() if self.transform == "root" else mean


def better(metric: Metric, new: Tensor, old: Tensor) -> Tensor:
    """Where `new` is better than `old`; NaN never is."""
    return new > old if metric.higher_is_better else new < old


def worst(metric: Metric) -> float:
    """What any value is better than."""
    return -torch.inf if metric.higher_is_better else torch.inf


def as_numpy(values: Tensor) -> Array:
    """Results leave the device as float64."""
    return values.detach().double().cpu().numpy()
