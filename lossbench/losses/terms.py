"""Terms that losses of several families share, right in value and gradient also at extremes."""

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import same_shape


def residual(prediction: Tensor, target: Tensor) -> Tensor:
    """Prediction minus target, of the same shape."""
    same_shape(prediction, target)
    return prediction - target


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
