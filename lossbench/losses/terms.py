"""Terms that losses of several families share, right in value and gradient also at extremes."""

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import same_shape
from lossbench.numerics.softmax import NARROW

FULL = (torch.float32, torch.float64)
"""Types whose sums keep their digits."""


def residual(prediction: Tensor, target: Tensor) -> Tensor:
    """Prediction minus target, of the same shape."""
    same_shape(prediction, target)
    return prediction - target


def standardised(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The residual in units of the predicted scale, and the logarithm of that scale, `[..., D]` each."""
    location, log_scale = prediction.chunk(2, -1)
    return residual(location, target) * (-log_scale).exp(), log_scale


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


def barron(x: Tensor, alpha: Tensor) -> Tensor:
    """Barron's general loss of scaled residuals for alpha below 2 and not 0, where no limit form is needed."""
    b = 2 - alpha
    return b / alpha * (alpha / 2 * (x.square() / b).log1p()).expm1()
