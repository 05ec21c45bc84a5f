"""A weighting: a frozen dataclass that makes one multiplier per example."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lossbench import Weighting
from lossbench.validation import check_between


@dataclass(frozen=True)
class Tilted(Weighting):
    r"""Examples count by the exponential of their loss.

    .. math:: w_i = B \, \frac{e^{t \ell_i}}{\sum_j e^{t \ell_j}}

    losses: ``[..., B]``. Returns ``[..., B]``, of mean 1 over the batch. tilt: t; below 0 large losses fade, above 0
    they rule, and 0 changes nothing. Raises `InvalidValue` if it is not in (-100, 100).
    Reference: Li et al., Tilted Empirical Risk Minimization, 2021, https://arxiv.org/abs/2007.01162
    """

    tasks = ("regression",)
    use_when = "outliers should fade (tilt below 0), or the worst cases matter most (above 0)"
    pitfall = "the tilt is in units of one over the loss: what is strong for one loss is weak for another"
    tilt: float = -1.0

    def __post_init__(self) -> None:
        check_between(self, -100, 100, tilt=self.tilt)

    def __call__(self, losses: Tensor, prediction: None, target: None, **requires: Any) -> Tensor:
        """The weights; prediction and target are None, as none is declared."""
        return losses.shape[-1] * (self.tilt * losses).softmax(-1)
