"""Primitives of the formulas of several families, right in value and gradient also at extremes."""

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import check_index_shape, check_same_shape
from lossbench.numerics.softmax import NARROW, log_softmax

FULL = (torch.float32, torch.float64)
"""Types that are wide enough to add up large sums."""


def residual(prediction: Tensor, target: Tensor) -> Tensor:
    """Return prediction minus target; raise `InvalidValue` unless they have the same shape."""
    check_same_shape(prediction, target)
    return prediction - target


def sum_last_axis(values: Tensor) -> Tensor:
    """Return the sum over the last axis, `[..., D]` to `[...]`, also fast where that is short."""
    if values.shape[-1] == 1:
        return values.squeeze(-1)
    if values.shape[-1] < NARROW and values.is_cpu and values.dtype in FULL:
        return values @ values.new_ones(values.shape[-1])  # a short sum is fastest as a matrix product
    return values.sum(-1)


def mean(values: Tensor) -> Tensor:
    """Return the mean over the last axis, `[..., D]` to `[...]`."""
    if values.shape[-1] == 1:
        return values.squeeze(-1)
    # torch's mean divides the gradient once for each value; but float16 cannot hold large sums
    return sum_last_axis(values) / values.shape[-1] if values.dtype in FULL else values.mean(-1)


def is_stacked(field: object) -> bool:
    """Return True if a float field holds a value per replica: torch's own functions take plain floats only."""
    return isinstance(field, Tensor)


def as_tensor(field: float | Tensor, like: Tensor) -> Tensor:
    """Return a field as a tensor of the type and device of `like`."""
    # adding to zeros needs no copy from the host, at which a GPU would wait
    return like.new_zeros(()) + field


def masked_logsumexp(values: Tensor, kept: Tensor, axis: int = -1) -> Tensor:
    """Return log sum exp(values) over the kept values, the axis staying; the lowest number if none is kept."""
    # the lowest number and not -inf: where all values are -inf, the gradient of logsumexp is NaN
    return torch.where(kept, values, torch.finfo(values.dtype).min).logsumexp(axis, keepdim=True)


def softplus(values: Tensor) -> Tensor:
    """Return log(1 + exp(values))."""
    # log(1 + e^x) = -log sigmoid(-x); torch's softplus is a straight line from 20 on, which shows in float64
    return -functional.logsigmoid(-values)


def log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """Return the log probability of each target class, `[..., 1]`: the last axis stays, for fields `[R, 1, 1]`."""
    return pick_target(log_softmax(logits), target)


def pick_target(values: Tensor, target: Tensor) -> Tensor:
    """Return the value of each target class, `[..., 1]`, from those of all classes, `[..., C]`."""
    check_index_shape(values, target)
    return values.gather(-1, target.long().unsqueeze(-1))


def one_minus_p(log_p: Tensor) -> Tensor:
    """Return one minus a probability, above 0, from the logarithm of the probability."""
    # 1 - p = -expm1(log p) keeps the digits of a p near 1; at 0 a power below 1 would have an infinite gradient
    return -log_p.expm1().clamp(max=-torch.finfo(log_p.dtype).tiny)
