"""Losses for wrong labels: functions of the target's probability, or of clipped logits, that cannot run away."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.losses.classification import log_likelihood
from lossbench.losses.modulated import missing
from lossbench.types import Encoding, Space
from lossbench.validation import check_at_least, check_count, check_positive


@dataclass(frozen=True)
class TaylorCrossEntropy(Loss):
    r"""The first terms of the Taylor series of cross-entropy about a sure prediction.

    .. math:: \ell = \sum_{j=1}^{n}\frac{(1 - p_y)^j}{j}, \quad p = \text{softmax}(z)

    n (order) = 1 is half of `mae_softmax`; the more terms, the nearer to cross-entropy.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, at most 1 + 1/2 + ... + 1/n.
    Raises `InvalidValue` if the shapes do not fit or order is no whole number of at least 1.
    Reference: Feng et al., Can Cross Entropy Loss Be Robust to Label Noise?, 2020,
    https://doi.org/10.24963/ijcai.2020/305
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("Taylor-CE", "t-CE")
    use_when = "some of the labels are wrong: few terms for many, more terms for few"
    beware = "order 1 learns as slowly as mae_softmax; high orders memorise wrong labels as cross_entropy does"
    convex = False
    bounded = True
    order: int = 2

    def __post_init__(self) -> None:
        check_count(self, order=self.order)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        x = -log_likelihood(prediction, target).expm1()
        total = torch.zeros_like(x)
        for j in range(self.order, 0, -1):  # Horner's rule
            total = x * (1 / j + total)
        return total.squeeze(-1)


LARGEST = 1e38
"""The largest power that float32 is to hold."""


def _check_power(owner: "AGCE | AUL", largest: float) -> None:
    if owner.q * math.log(largest) > math.log(LARGEST):
        raise InvalidValue(
            f"The parameters of {type(owner).__name__} must keep {largest:g} to the power q below {LARGEST:g}. "
            f"Got a={owner.a!r}, q={owner.q!r}."
        )


@dataclass(frozen=True)
class AGCE(Loss):
    r"""Asymmetric generalised cross-entropy: generalised cross-entropy with the probability moved away from 0.

    .. math:: \ell = \frac{(a + 1)^q - (a + p_y)^q}{q}, \quad p = \text{softmax}(z)

    At a = 0 it is `generalized_cross_entropy`; the larger a, the nearer to a line. "Asymmetric": the optimum does not
    move as long as the right class is the most frequent label of each input.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit or a or q is not positive.
    Reference: Zhou et al., Asymmetric Loss Functions for Learning with Noisy Labels, 2021,
    https://arxiv.org/abs/2106.03110
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("AGCELoss of github.com/hitcszx/ALFs", "asymmetric generalised cross-entropy")
    use_when = "many labels are wrong, and generalized_cross_entropy still memorises them"
    beware = "as flat as mae_softmax where it is wrong, so it may never learn some classes; a and q are per data set"
    convex = False
    bounded = True
    a: float = 0.6
    q: float = 0.6

    def __post_init__(self) -> None:
        check_positive(self, a=self.a, q=self.q)
        _check_power(self, self.a + 1)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        p = log_likelihood(prediction, target).exp()
        return (((self.a + 1) ** self.q - (self.a + p) ** self.q) / self.q).squeeze(-1)


@dataclass(frozen=True)
class AUL(Loss):
    r"""Asymmetric unhinged loss: a power of what the target's probability lacks of a.

    .. math:: \ell = \frac{(a - p_y)^q - (a - 1)^q}{q}, \quad p = \text{softmax}(z)

    At q = 1 it is half of `mae_softmax`.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit, a is below 1 or q is not positive.
    Reference: Zhou et al., Asymmetric Loss Functions for Learning with Noisy Labels, 2021,
    https://arxiv.org/abs/2106.03110
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("AUELoss of github.com/hitcszx/ALFs", "asymmetric unhinged loss")
    use_when = "as agce"
    beware = "as flat as mae_softmax where it is wrong; its size grows as a to the power q - 1: tune the learning rate"
    convex = False
    bounded = True
    a: float = 6.3
    q: float = 1.5

    def __post_init__(self) -> None:
        check_at_least(self, 1, a=self.a)
        check_positive(self, q=self.q)
        _check_power(self, self.a)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        lacking = missing(log_likelihood(prediction, target))
        return ((((self.a - 1) + lacking) ** self.q - (self.a - 1) ** self.q) / self.q).squeeze(-1)


@dataclass(frozen=True)
class AExp(Loss):
    r"""Asymmetric exponential loss of the target's probability.

    .. math:: \ell = e^{-p_y / a}, \quad p = \text{softmax}(z)

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, from exp(-1/a) to 1: never 0.
    Raises `InvalidValue` if the shapes do not fit or a is not positive.
    Reference: Zhou et al., Asymmetric Loss Functions for Learning with Noisy Labels, 2021,
    https://arxiv.org/abs/2106.03110
    """

    name = "aexp"
    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("AEL", "AExpLoss of github.com/hitcszx/ALFs", "asymmetric exponential loss")
    use_when = "as agce"
    beware = "the larger a, the flatter: its gradient is at most 1/a times that of the probability"
    convex = False
    bounded = True
    symmetric = False
    a: float = 2.5

    def __post_init__(self) -> None:
        check_positive(self, a=self.a)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        return (-log_likelihood(prediction, target).exp() / self.a).exp().squeeze(-1)


@dataclass(frozen=True)
class LogitClip(Loss):
    r"""Cross-entropy of logits whose length is clipped, which bounds it.

    .. math:: \ell = -\log\text{softmax}\left(z \min(1, \tau / \|z\|)\right)_y

    With C classes it lies between :math:`\log(1 + (C - 1)\,e^{\mp\tau\sqrt{C / (C - 1)}})`.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in nats. Raises `InvalidValue`
    if the shapes do not fit or tau is not positive.
    Reference: Wei et al., Mitigating Memorization of Noisy Labels by Clipping the Model Prediction, 2023,
    https://arxiv.org/abs/2212.04055
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("LogitClip", "LC-CE", "cross-entropy with clipped logits")
    use_when = "some of the labels are wrong, and cross_entropy's behaviour near 0 is to be kept"
    beware = "clipped in training only: beyond tau nothing fits the logits' length, so log loss looks bad"
    convex = False
    bounded = True
    symmetric = False
    tau: float = 2.0

    def __post_init__(self) -> None:
        check_positive(self, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        length = torch.linalg.vector_norm(prediction, dim=-1, keepdim=True).clamp(min=self.tau)
        return -log_likelihood(prediction * (self.tau / length), target).squeeze(-1)


@dataclass(frozen=True)
class PHuberCE(Loss):
    r"""Cross-entropy that goes on as a straight line in the probability below 1/tau: its gradient by p is clipped.

    .. math:: \ell = -\log p_y \;\text{if}\; p_y > 1/\tau, \quad 1 + \log\tau - \tau p_y \;\text{otherwise},
        \quad p = \text{softmax}(z)

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, at most 1 + log tau. Raises
    `InvalidValue` if the shapes do not fit or tau is below 1 (where it is 1 - p: half of `mae_softmax`).
    Reference: Menon et al., Can Gradient Clipping Mitigate Label Noise?, 2020,
    https://openreview.net/forum?id=rklB76EKPr
    """

    name = "phuber_ce"
    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("PHuber-CE", "partially Huberised cross-entropy", "PHuberCrossEntropy of github.com/dmizr/phuber")
    use_when = "some of the labels are wrong; it is cross_entropy where the model half agrees with the label"
    beware = "many classes start below 1/tau, where it is as flat as mae_softmax: a tau above C lets it start"
    convex = False
    bounded = True
    tau: float = 10.0

    def __post_init__(self) -> None:
        check_at_least(self, 1, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        log_p = log_likelihood(prediction, target)
        log_tau = (torch.zeros_like(log_p) + self.tau).log()
        line = 1 + log_tau - (log_tau + log_p).exp()
        return torch.where(log_p > -log_tau, -log_p, line).squeeze(-1)
