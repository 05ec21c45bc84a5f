"""Terms that losses of several families share, right in value and gradient also at extremes."""

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import check_index_shape, check_same_shape
from lossbench.numerics.softmax import NARROW, log_softmax

FULL = (torch.float32, torch.float64)
"""Types whose sums keep their digits."""


def residual(prediction: Tensor, target: Tensor) -> Tensor:
    """Prediction minus target, of the same shape."""
    check_same_shape(prediction, target)
    return prediction - target


def total(values: Tensor) -> Tensor:
    """The sum over the last axis, `[..., D]` to `[...]`, also fast where that is short."""
    if values.shape[-1] == 1:
        return values.squeeze(-1)
    if values.shape[-1] < NARROW and values.is_cpu and values.dtype in FULL:
        return values @ values.new_ones(values.shape[-1])
    return values.sum(-1)


def mean(values: Tensor) -> Tensor:
    """The mean over the last axis, `[..., D]` to `[...]`."""
    if values.shape[-1] == 1:
        return values.squeeze(-1)
    # torch's mean divides the gradient once for each value; but float16 cannot hold large sums
    return total(values) / values.shape[-1] if values.dtype in FULL else values.mean(-1)


def stacked(field: object) -> bool:
    """Whether a float field holds a value per row of a stack: torch's own functions take plain floats only."""
    return isinstance(field, Tensor)


def as_tensor(field: float | Tensor, like: Tensor) -> Tensor:
    """A field as a tensor, without a copy from the host, at which a GPU would wait."""
    return like.new_zeros(()) + field


def log_sum(values: Tensor, kept: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of the sum of exp(values) over what is kept, the axis staying; of nothing, the lowest number."""
    # not -inf: the gradient of logsumexp is NaN where all are
    return torch.where(kept, values, torch.finfo(values.dtype).min).logsumexp(axis, keepdim=True)


def softplus(values: Tensor) -> Tensor:
    """log(1 + exp(values)); torch's is a straight line from 20 on, which shows in float64."""
    return -functional.logsigmoid(-values)


def log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """The log probability of each target class, `[..., 1]`: the last axis stays, for fields `[r, 1, 1]`."""
    return pick_target(log_softmax(logits), target)


def pick_target(values: Tensor, target: Tensor) -> Tensor:
    """Return the value of each target class, `[..., 1]`, from those of all classes, `[..., C]`."""
    check_index_shape(values, target)
    return values.gather(-1, target.long().unsqueeze(-1))


def missing(log_p: Tensor) -> Tensor:
    """One minus a probability, from its logarithm; above 0, so that a power below 1 has a finite gradient."""
    return -log_p.expm1().clamp(max=-torch.finfo(log_p.dtype).tiny)
