"""The bi-tempered logistic loss: cross-entropy with tempered logarithm and exponential."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, one_axis_less
from lossbench.types import Encoding, Space
from lossbench.validation import check_at_least, check_share

STEPS = 7
"""Newton steps to the normaliser; 6 reach float64's rounding for up to 10,000 classes and temperatures up to 10."""


def _ratio(u: Tensor, s: Tensor) -> Tensor:
    """`expm1(s u) / s`, u at s = 0: of u = log x the tempered logarithm of temperature 1 - s."""
    return torch.where(s == 0, u, (s * u).expm1() / torch.where(s == 0, 1, s))


def _log_exp(x: Tensor, s: Tensor) -> Tensor:
    """`log1p(s x) / s`, x at s = 0: the logarithm of the tempered exponential of x."""
    return torch.where(s == 0, x, (s * x).log1p() / torch.where(s == 0, 1, s))


def tempered_log_softmax(logits: Tensor, s: Tensor) -> Tensor:
    r"""Logarithms of probabilities with heavy tails, `[..., C]`, float32 or wider; s is 1 - temperature, at most 0.

    .. math:: p_c = \exp_t(z_c - \lambda), \quad \exp_t(x) = (1 + (1 - t) x)^{1 / (1 - t)}

    lambda is such that p sums to 1. With F the sum, :math:`F^{1 - t}` is a concave, increasing function of lambda (a
    power mean of affine functions), so Newton's method from below climbs to the root and never passes it. One step
    more, with a gradient, gives lambda the gradient of the implicit function:
    :math:`\partial\lambda / \partial z_c = p_c^t / \sum_k p_k^t`.
    """
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    with torch.no_grad():
        wide, wide_s = shifted.double(), s.double()
        normaliser = torch.zeros_like(wide[..., :1])  # the largest term alone is 1 here, so the root is not below
        for _ in range(STEPS):
            normaliser = _closer(normaliser, wide, wide_s)
    return _log_exp(shifted - _implicit(normaliser.to(shifted.dtype), shifted, s), s)


def _closer(normaliser: Tensor, logits: Tensor, s: Tensor) -> Tensor:
    """One Newton step for F^(1 - t) = 1; at t = 1 for log F = 0, of which it is the limit."""
    logs = _log_exp(logits - normaliser, s)
    total = logs.exp().sum(-1, keepdim=True)  # from C down to 1: nothing overflows
    return normaliser + _ratio(total.log(), s) * total ** (1 - s) / ((1 - s) * logs).exp().sum(-1, keepdim=True)


def _implicit(normaliser: Tensor, logits: Tensor, s: Tensor) -> Tensor:
    """The normaliser with its gradient by the logits."""
    logs = _log_exp(logits - normaliser, s)
    slope = ((1 - s) * logs).exp().sum(-1, keepdim=True).detach()
    return normaliser + (logs.exp().sum(-1, keepdim=True) - 1) / slope


@dataclass(frozen=True)
class BiTempered(Loss):
    r"""Cross-entropy with a bounded logarithm (t1 below 1) and a softmax with heavy tails (t2 above 1).

    .. math:: \ell = -\log_{t_1} p_y - \frac{1 - \sum_c p_c^{2 - t_1}}{2 - t_1}, \quad
        p_c = \exp_{t_2}(z_c - \lambda)

    with :math:`\log_t x = (x^{1 - t} - 1) / (1 - t)`, :math:`\exp_t` its inverse and lambda such that p sums to 1;
    cross-entropy at t1 = t2 = 1. The gradient through lambda is that of the implicit function.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, for t1 < 1 at most
    1 / (1 - t1). Raises `InvalidValue` if the shapes do not fit, t1 is not in [0, 1] or t2 is below 1.
    Reference: Amid et al., Robust Bi-Tempered Logistic Loss Based on Bregman Divergences, 2019,
    https://arxiv.org/abs/1906.03361
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("bi_tempered_logistic_loss of github.com/google/bi-tempered-loss", "Bregman divergence, tempered")
    use_when = "some labels are wrong: t1 bounds what far outliers cost, t2 what lies near the decision"
    beware = "its probabilities are tempered: a softmax of its scores is surer than they are. Two knobs to tune"
    t1: float = 0.8
    t2: float = 1.2

    def __post_init__(self) -> None:
        check_share(self, t1=self.t1)
        check_at_least(self, 1, t2=self.t2)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        wide = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        s1, s2 = (torch.zeros_like(wide[..., :1]) + 1 - t for t in (self.t1, self.t2))
        logs = tempered_log_softmax(wide, s2)
        own = _ratio(logs.gather(-1, target.long().unsqueeze(-1)), s1)
        spread = (1 - ((1 + s1) * logs).exp().sum(-1, keepdim=True)) / (1 + s1)
        return -(own + spread).squeeze(-1)
