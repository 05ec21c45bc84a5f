"""Regression: D real-valued targets per example."""

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
from lossbench.tasks.refusals import make_refusal
from lossbench.types import Array, Encoding, Examples, Head, Problem, Space

FLOOR = 1e-6
"""The least positive prediction, in units of the scale: log p and y / p stay finite when softplus underflows."""
LINEAR_RANGE = 10.0
"""Log rates are linear in the raw output up to this distance from the centre (a factor of 22,026), then logarithmic."""
_TWO_OUTPUTS = (Space.MEAN_LOG_SCALE, Space.ZERO_INFLATED)


@dataclass(frozen=True)
class Regression(Task):
    r"""D real-valued targets per example: targets `[N, D]`, float.

    They are standardised by median and 1.4826 MAD of the training targets, which outliers do not move:

    .. math:: y = \mathrm{shift} + \mathrm{scale} \cdot u

    Raw output: `[..., D]`, the standardised values u; with a mean_scale head `[..., 2 D]`, means then log scales. With
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
        """Return D; raises `Incompatible` unless the targets are `[N, D]` floats."""
        targets = examples.targets
        if targets.ndim != 2 or not np.issubdtype(targets.dtype, np.floating):
            raise Incompatible(
                f"The regression task takes float targets of shape [N, D]. Got {targets.dtype} of shape "
                f"{list(targets.shape)}."
            )
        return int(targets.shape[1])

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return D, or 2 D for means and log scales."""
        if head not in self.heads:
            raise make_refusal("regression", head, self.heads)
        return problem.n_outputs * (2 if head is Head.MEAN_SCALE else 1)

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Return median and 1.4826 MAD of each target, `[D]`; where the MAD is 0 the standard deviation, then 1."""
        return robust_scale(targets)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Return standardised values or `[mean, log scale]` unchanged, and the other spaces in original units.

        Positive: scale · (softplus(u + shift / scale) + 1e-6), which tends to shift + scale · u from above.
        Log rate: log(centre) + u · scale / centre, where the centre is the positive value of u = 0. So a rate starts at
        the same value as a positive prediction and changes as fast: the same learning rate fits both.
        """
        if space in _TWO_OUTPUTS and raw.shape[-1] != 2 * scaling.shift.shape[-1]:
            raise Incompatible("A loss that takes two outputs per target needs head=mean_scale.")
        match space:
            case Space.VALUE:
                return _get_first(raw, scaling)
            case Space.ORIGINAL:
                return scaling.shift + scaling.scale * _get_first(raw, scaling)
            case Space.POSITIVE:
                u = _get_first(raw, scaling) + scaling.shift / scaling.scale
                return scaling.scale * (softplus(u) + FLOOR)
            case Space.LOG_RATE:
                return _compute_log_rates(raw, scaling)
            case Space.MEAN_LOG_SCALE:
                return raw
            case Space.ZERO_INFLATED:
                return torch.cat([_compute_log_rates(raw, scaling), _get_second(raw, scaling)], -1)
        raise make_refusal("regression", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the targets, `[..., D]`, standardised or in original units."""
        match encoding:
            case Encoding.VALUE:
                return (target - scaling.shift) / scaling.scale
            case Encoding.ORIGINAL | Encoding.POSITIVE | Encoding.ABOVE_ZERO:
                return target.to(scaling.shift.dtype)
        raise make_refusal("regression", encoding, self.encodings)

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for targets that are not finite, or negative or 0 where the loss forbids it."""
        if encoding not in self.encodings:
            raise make_refusal("regression", encoding, self.encodings)
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
        """Return the prediction in original units, `[..., D]`: the link's value, else shift + scale · mean.

        For a zero-inflated rate it is the mean, (1 - share of excess zeros) · rate.
        """
        match space:
            case Space.POSITIVE:
                return self.convert(raw, space, scaling)
            case Space.LOG_RATE:
                return _compute_log_rates(raw, scaling).exp()
            case Space.ZERO_INFLATED:
                return _compute_log_rates(raw, scaling).exp() * (-_get_second(raw, scaling)).sigmoid()
        return self.convert(raw, Space.ORIGINAL, scaling)

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return the median of each target, `[n, D]`: the best constant for the mean absolute error.

        (The mean would be the best for the squared error; the same constant serves all metrics.)
        """
        return np.tile(np.median(targets, axis=0), (n, 1))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Return None: there are no classes."""
        return None


def _get_first(raw: Tensor, scaling: Scaling) -> Tensor:
    """Return the first output per target, `[..., D]`: the means of a mean_scale head, else all."""
    return torch.narrow(raw, -1, 0, scaling.shift.shape[-1])


def _get_second(raw: Tensor, scaling: Scaling) -> Tensor:
    """Return the second output per target of a mean_scale head, `[..., D]`."""
    n = scaling.shift.shape[-1]
    return torch.narrow(raw, -1, n, n)


def _compute_log_rates(raw: Tensor, scaling: Scaling) -> Tensor:
    # the positive value of u = 0, in units of the scale; a median below 0 (impossible for counts) becomes 0
    centre = softplus((scaling.shift / scaling.scale).clamp_min(0))
    offset = _get_first(raw, scaling) / centre
    # beyond the linear range only log1p of the rest: there still is a gradient, and exp() cannot overflow
    rest = relu(offset.abs() - LINEAR_RANGE)
    bounded = offset.clamp(-LINEAR_RANGE, LINEAR_RANGE) + offset.sign() * rest.log1p()
    return (centre * scaling.scale).log() + bounded
