"""One loss of a third party: a plain function that knows nothing of stacks."""

import torch
from torch import Tensor

import lossbench
from lossbench.interfaces.loss import check_same_shape


@lossbench.loss(
    tasks=("regression",),
    use_when="outliers are gross and easy to tell: whatever is farther off than cut should have no pull",
    pitfall="no gradient beyond cut, which is in units of the target: a bad start may never recover",
    aliases=("truncated absolute error",),
)
def trimmed_mae(prediction: Tensor, target: Tensor, *, cut: float = 3.0) -> Tensor:
    r"""The absolute error, held constant from ``cut`` on.

    .. math:: \ell(r) = \min(|r|, \text{cut})

    prediction, target: ``[N, D]`` in the standardised target's units, as is cut. Returns ``[N]``: the mean over D.
    Raises `InvalidValue` if the shapes differ.
    Reference: Hampel et al., Robust Statistics: The Approach Based on Influence Functions, 1986,
    https://doi.org/10.1002/9781118186435
    """
    check_same_shape(prediction, target)
    distance = (prediction - target).abs()
    losses, near = torch.full_like(distance, cut), distance <= cut
    losses[near] = distance[near]
    return losses.mean(1)
