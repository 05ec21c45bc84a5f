"""Regression: D real targets per example."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling, Task
from lossbench.interfaces.task import robust_scale
from lossbench.tasks.refusals import refusal
from lossbench.types import Array, Encoding, Examples, Head, Problem, Space

FLOOR = 1e-6
"""Least positive prediction, in units of the scale: log p and y / p stay finite when softplus underflows."""
REACH = 10.0
"""Log rates go with the raw output up to this far from the centre (a factor of 22,026), then with its logarithm."""
_PAIRS = (Space.MEAN_LOG_SCALE, Space.ZERO_INFLATED)


@dataclass(frozen=True)
class Regression(Task):
    r"""D real targets per example: targets `[N, D]`, float.

    Standardised by the median and 1.4826 MAD of the training targets, which outliers do not move:

    .. math:: y = \mathrm{shift} + \mathrm{scale} \cdot u

    Raw output: `[..., D]`, the standardised values u; with a mean_scale head `[..., 2 D]`, means then log scales. Given
    such a head, a loss that takes values sees the means.
    """

    spaces: ClassVar[tuple[Space, ...]] = (
        Space.VALUE,
        Space.ORIGINAL,
        Space.POSITIVE,
        Space.LOG_RATE,
        Space.MEAN_LOG_SCALE,
        Space.ZERO_INFLATED,
    )
    encodings: ClassVar[tuple[Encoding, ...]] = (
        Encoding.VALUE,
        Encoding.ORIGINAL,
        Encoding.POSITIVE,
        Encoding.ABOVE_ZERO,
    )
    heads: ClassVar[tuple[Head, ...]] = (Head.LINEAR, Head.MEAN_SCALE)
    metrics: ClassVar[tuple[str, ...]] = ("mae", "rmse", "r2", "median_absolute_error")
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "mse",
        "data": "diabetes",
        "model": "mlp",
        "corruption": "one_sided_outliers",
    }
    settings: ClassVar[Mapping[str, float]] = {"epochs": 30, "batch_size": 64, "lr": 0.003}
    side_by_side: ClassVar[bool] = True
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "data": ("diabetes", "friedman1", "poisson_counts"),
        "corruption": ("one_sided_outliers", "symmetric_outliers", "feature_outliers"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("mse", "mae", "huber", "tukey")
    target_share: ClassVar[float] = 0.25

    def count_outputs(self, examples: Examples) -> int:
        """D; raises `Incompatible` unless the targets are `[N, D]` floats."""
        targets = examples.targets
        if targets.ndim != 2 or not np.issubdtype(targets.dtype, np.floating):
            raise Incompatible(
                f"The regression task takes float targets of shape [N, D]. Got {targets.dtype} of shape "
                f"{list(targets.shape)}."
            )
        return int(targets.shape[1])

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """D, or 2 D for means and log scales."""
        if head not in self.heads:
            raise refusal("regression", head, self.heads)
        return problem.n_outputs * (2 if head is Head.MEAN_SCALE else 1)

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Median and 1.4826 MAD of each target, `[D]`; where the MAD is 0 its standard deviation, then 1."""
        return robust_scale(targets)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Standardised values or `[mean, log scale]` as they come; the others in original units.

        Positive: scale · (softplus(u + shift / scale) + 1e-6), which tends to shift + scale · u from above.
        Log rate: log(centre) + u · scale / centre, where the centre is the positive value of u = 0. So a rate starts
        where a positive value does and moves as fast, and with it the learning rate means the same.
        """
        if space in _PAIRS and raw.shape[-1] != 2 * scaling.shift.shape[-1]:
            raise Incompatible("A loss that takes two outputs per target needs head=mean_scale.")
        match space:
            case Space.VALUE:
                return _means(raw, scaling)
            case Space.ORIGINAL:
                return scaling.shift + scaling.scale * _means(raw, scaling)
            case Space.POSITIVE:
                u = _means(raw, scaling) + scaling.shift / scaling.scale
                return scaling.scale * (softplus(u) + FLOOR)
            case Space.LOG_RATE:
                return _log_rates(raw, scaling)
            case Space.MEAN_LOG_SCALE:
                return raw
            case Space.ZERO_INFLATED:
                return torch.cat([_log_rates(raw, scaling), _second(raw, scaling)], -1)
        raise refusal("regression", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Targets `[..., D]` standardised, or in original units."""
        match encoding:
            case Encoding.VALUE:
                return (target - scaling.shift) / scaling.scale
            case Encoding.ORIGINAL | Encoding.POSITIVE | Encoding.ABOVE_ZERO:
                return target.to(scaling.shift.dtype)
        raise refusal("regression", encoding, self.encodings)

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for targets that are not finite, or negative or 0 where they must not be."""
        if encoding not in self.encodings:
            raise refusal("regression", encoding, self.encodings)
        if n := int((~np.isfinite(targets)).sum()):
            raise Incompatible(f"{n} of {targets.size} training targets are not finite.")
        if encoding is Encoding.POSITIVE and (n := int((targets < 0).sum())):
            raise Incompatible(
                f"The loss takes targets that are not negative; {n} of {targets.size} training targets are, "
                f"the smallest being {targets.min():.6g}."
            )
        if encoding is Encoding.ABOVE_ZERO and (n := int((targets <= 0).sum())):
            raise Incompatible(
                f"The loss takes targets above 0; {n} of {targets.size} training targets are not, the smallest being "
                f"{targets.min():.6g}."
            )

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """The prediction in original units, `[..., D]`: the link's value, else shift + scale · mean.

        Of a rate with zeros in excess it is the mean, (1 - their share) · rate.
        """
        match space:
            case Space.POSITIVE:
                return self.convert(raw, space, scaling)
            case Space.LOG_RATE:
                return _log_rates(raw, scaling).exp()
            case Space.ZERO_INFLATED:
                return _log_rates(raw, scaling).exp() * (-_second(raw, scaling)).sigmoid()
        return self.convert(raw, Space.ORIGINAL, scaling)

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """The median of each target, `[n, D]`: the best constant for the mean absolute error.

        (The mean would be the best for the squared error; one constant serves all metrics.)
        """
        return np.tile(np.median(targets, axis=0), (n, 1))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """None: there are no classes."""
        return None


def _means(raw: Tensor, scaling: Scaling) -> Tensor:
    return torch.narrow(raw, -1, 0, scaling.shift.shape[-1])


def _second(raw: Tensor, scaling: Scaling) -> Tensor:
    n = scaling.shift.shape[-1]
    return torch.narrow(raw, -1, n, n)


def _log_rates(raw: Tensor, scaling: Scaling) -> Tensor:
    # a median below 0, which only clean targets that are not counts have, counts as 0
    centre = softplus((scaling.shift / scaling.scale).clamp_min(0))
    steps = _means(raw, scaling) / centre
    # without an edge, so that a rate far off still has a gradient, and exp() cannot overflow
    reached = steps.clamp(-REACH, REACH) + steps.sign() * relu(steps.abs() - REACH).log1p()
    return (centre * scaling.scale).log() + reached
