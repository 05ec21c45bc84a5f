"""Weights from the residuals of a regression."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lossbench.interfaces import Weighting
from lossbench.types import Encoding, Requirement, Space
from lossbench.validation import check_choice, check_nonnegative

_USUAL = {"huber": 1.345, "tukey": 4.685, "cauchy": 2.385}  # 95% efficiency on normal residuals (Holland, Welsch 1977)


@dataclass(frozen=True)
class IRLS(Weighting):
    r"""Iteratively reweighted least squares: turns the squared error into a robust loss, step by step.

    .. math:: w = \psi(u) / u, \quad u = \sqrt{\tfrac1D \sum_d (r_d / s_d)^2}

    huber: min(1, k / u); tukey: (1 - (u/k)^2)^2 within k, else 0; cauchy: 1 / (1 + (u/k)^2). With mse / 2 the gradient
    is that of the robust loss with the constant k·s. prediction, target: `[..., B, D]`, standardised; residual_scale:
    `[..., 1, D]`, s = 1.4826 MAD of the residuals. Returns `[..., B]`, detached, in [0, 1]: *not* normalised, because
    the sum of the weights is what makes the losses agree.
    constant: k; 0 for the usual one (1.345, 4.685, 2.385: 95% efficiency on normal residuals).
    Reference: Holland, Welsch, Robust regression using iteratively reweighted least-squares, 1977,
    https://doi.org/10.1080/03610927708827533
    """

    tasks = ("regression",)
    space = Space.VALUE
    encodings = (Encoding.VALUE,)
    requires = (Requirement.RESIDUAL_SCALE,)
    static_fields = ("constant",)  # 0 stands for another number
    use_when = "some targets are wrong, and you want to keep mse"
    function: str = "huber"
    constant: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self, _USUAL, function=self.function)
        check_nonnegative(self, constant=self.constant)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return weights from the residuals in units of their scale."""
        residual = (prediction - target).detach() / requires[Requirement.RESIDUAL_SCALE]  # [..., B, D]
        k = self.constant or _USUAL[self.function]
        # a length over the D outputs, so that one wrong output fades the example: u / k, [..., B]
        u = residual.square().mean(-1).sqrt() / k
        if self.function == "huber":
            return 1 / u.clamp_min(1)  # min(1, k / u) without a division by 0
        if self.function == "tukey":
            return (1 - u.square()).clamp_min(0).square()
        return 1 / (1 + u.square())
