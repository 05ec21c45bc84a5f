"""Weights that do not depend on predictions: all alike, or those that come with the data."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench.interfaces import Weighting
from lossbench.types import Requirement


@dataclass(frozen=True)
class NoWeighting(Weighting):
    """Every example counts the same: weights of 1."""

    name = "none"
    tasks = ("*",)
    per_example = False

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return ones like `losses`."""
        return torch.ones_like(losses)


@dataclass(frozen=True)
class Sample(Weighting):
    r"""The weights that come with the data, one per example.

    .. math:: w_i \, N / \sum_j w_j

    sample_weight: `[..., B]`, in which the data set's `weights` have been scaled to mean 1 over the training split, so
    that only their ratios count. Returns `[..., B]`. Training is refused, with the reason, on data without weights and
    where those of the training split are all 0. Validation and test are not weighed.
    """

    tasks = ("*",)
    requires = (Requirement.SAMPLE_WEIGHT,)
    aliases = ("sample_weight of scikit-learn's and keras' fit()",)
    use_when = "the data says how much each example counts: a survey's weights, or how sure an annotator was"
    pitfall = "the metrics do not weigh: they are of the data as it lies"

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the examples' weights."""
        weights: Tensor = requires[Requirement.SAMPLE_WEIGHT]
        return weights.to(losses.dtype)
