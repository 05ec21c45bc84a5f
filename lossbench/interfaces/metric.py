"""The interface of metrics, and their common treatment of NaN."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.types import Array


def widen(prediction: Tensor) -> Tensor:
    """Convert half precision to single precision."""
    return prediction if prediction.dtype in {torch.float32, torch.float64} else prediction.float()


def is_finite(prediction: Tensor) -> Tensor:
    """Return True where all numbers of a prediction are finite: `[R, N, D]` to `[R, N]`."""
    # the largest is NaN where any is; isfinite() of all takes 5x as long
    return prediction.abs().amax(-1).isfinite()


def mask_invalid(values: Tensor, valid: Tensor) -> Tensor:
    """Set values that are not valid to NaN."""
    return torch.where(valid, values, torch.nan)


class Metric(ABC):
    """A number per replica of a stack, from point predictions and targets, as the task gives them.

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
    """The way from scores per example to the metric: mean | root (of their mean) | linear | none (without scores)."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric of each replica, `[R]`."""


class ScoredMetric(Metric):
    """A metric with one score per example, by which other test examples can be taken into account."""

    @abstractmethod
    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one score per example, `[R, N]`."""


class ExampleMetric(ScoredMetric):
    """A metric that is the mean (`transform`: its root) of one score per example."""

    transform: ClassVar[str] = "mean"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over examples, or its root."""
        mean = self.score_examples(prediction, target).mean(-1)
        return mean.sqrt() if self.transform == "root" else mean


class LinearisedMetric(ScoredMetric):
    r"""A metric that is no mean over examples, with each example's influence on it.

    As a function T(w) of weights of the examples, of which it knows the proportions only, the metric varies with the
    examples as the mean of T plus

    .. math:: \psi_i = N \, \partial T / \partial w_i \; \text{at} \; w = 1

    does, to first order. The mean of these influences is 0.
    Reference: Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6 (the infinitesimal
    jackknife), https://doi.org/10.1137/1.9781611970319
    """

    transform: ClassVar[str] = "linear"

    @abstractmethod
    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the amount that each example adds to the metric, `[R, N]`, of mean 0."""

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric plus each example's influence, `[R, N]`: their mean is the metric."""
        return self(prediction, target).unsqueeze(-1) + self.compute_influence(prediction, target)


def linearise(metric: ScoredMetric, prediction: Tensor, target: Tensor) -> Tensor:
    """Return scores `[R, N]` whose mean is the metric, by a first-order expansion where it is a root."""
    scores = metric.score_examples(prediction, target)
    if metric.transform != "root":
        return scores
    # sqrt(x) is about sqrt(M) + (x - M) / (2 sqrt(M)) near the mean M; at M = 0 all scores are 0
    mean = scores.mean(-1, keepdim=True)
    root = mean.sqrt()
    return root + (scores - mean) / torch.where(root > 0, 2 * root, 1)


def is_better(metric: Metric, new: Tensor, old: Tensor) -> Tensor:
    """Return True where `new` is better than `old`; NaN never is."""
    return new > old if metric.higher_is_better else new < old


def get_worst(metric: Metric) -> float:
    """Return the infinity that every value is better than."""
    return -torch.inf if metric.higher_is_better else torch.inf


def to_numpy(values: Tensor) -> Array:
    """Copy results from the device, as float64."""
    return values.detach().double().cpu().numpy()
