"""Losses for wrong labels: bounded, symmetric in the classes, or mixed with the model's own predictions."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, check_index_shape
from lossbench.losses.primitives import log_likelihood, one_minus_p, pick_target
from lossbench.numerics.softmax import log_softmax, softmax
from lossbench.types import Encoding, Problem, Requirement, Space
from lossbench.validation import (
    check_at_least,
    check_below_one,
    check_between,
    check_count,
    check_nonnegative,
    check_positive,
    check_share,
)

ELR_CLAMP = 1e-4
"""The authors' code keeps probabilities this far from 0 and 1."""
LARGEST_POWER = 1e38
"""The largest power that fields may lead to, which float32 must hold."""
NEWTON_STEPS = 7
"""Newton steps to the normaliser; 6 reach float64's rounding for up to 10,000 classes and temperatures up to 10."""


@dataclass(frozen=True)
class GeneralizedCrossEntropy(Loss):
    r"""Between cross-entropy (q to 0) and one minus the probability (q = 1).

    .. math:: \ell = \frac{1 - p_y^q}{q}

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, at most 1/q.
    Raises `InvalidValue` if the shapes do not fit or q is not in (0, 1].
    Reference: Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels,
    2018, https://arxiv.org/abs/1805.07836
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("keras.losses.CategoricalGeneralizedCrossEntropy, q 0.5 by default", "GCE", "L_q loss")
    use_when = "some of the labels are wrong at random"
    pitfall = "near q = 1 it hardly learns from what it gets wrong: many classes need a smaller q or more epochs"
    convex = False
    bounded = True
    q: float = 0.7

    def __post_init__(self) -> None:
        check_positive(self, q=self.q)
        check_share(self, q=self.q)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        # 1 - p^q = -expm1(q log p): from log p, as the gradient of p ** q is infinite at p = 0
        return (-(self.q * log_likelihood(prediction, target)).expm1() / self.q).squeeze(-1)


@dataclass(frozen=True)
class ELR(Loss):
    r"""Cross-entropy, and a reward for staying near the running mean of one's own earlier probabilities.

    .. math:: \ell = -\log p_y + \lambda\log\left(1 - \textstyle\sum_c t_c p_c\right), \quad
        t \leftarrow \beta t + (1 - \beta)\, p / \textstyle\sum_c p_c

    t is moved first and takes no gradient. As in the authors' code, p is clamped to [1e-4, 1 - 1e-4] except in the
    first term.

    prediction: ``[..., B, C]`` logits; target, index: ``[..., B]``, class indices and positions in the training split;
    state t: ``[..., n_examples, C]``. Returns losses ``[..., B]``, which may be negative, and the next state. Raises
    `InvalidValue` if the shapes do not fit, beta is not in [0, 1] or lam is negative.
    Reference: Liu et al., Early-Learning Regularization Prevents Memorization of Noisy Labels, 2020,
    https://arxiv.org/abs/2007.00151
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    requires = (Requirement.STATE, Requirement.INDEX)
    aliases = ("elr_loss of github.com/shengliu66/ELR", "early-learning regularization")
    use_when = "labels are wrong and the model would memorise them late in training"
    pitfall = "it remembers a row per training example, so each must keep its index"
    held_still: ClassVar = {"beta": 1.0}
    beta: float = 0.7
    lam: float = 3.0

    def __post_init__(self) -> None:
        check_share(self, beta=self.beta)
        check_nonnegative(self, lam=self.lam)

    def init_state(self, problem: Problem) -> Tensor:
        """Return the running means, from zero: `[n_examples, C]`."""
        return torch.zeros(problem.n_examples, problem.n_outputs)

    def __call__(self, prediction: Tensor, target: Tensor, *, state: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return one value per example, and the next state."""
        nll = -log_likelihood(prediction, target)
        # in the wider of the two types: 1 - 1e-4 is 1 in bfloat16
        wide = torch.promote_types(prediction.dtype, state.dtype)
        p = softmax(prediction.to(wide)).clamp(ELR_CLAMP, 1 - ELR_CLAMP)
        # the state holds a running mean per training example; move those of this batch: [..., B, C]
        places = index.unsqueeze(-1).expand(prediction.shape)
        share = (p / p.sum(-1, keepdim=True)).detach()
        mean = self.beta * state.gather(-2, places) + (1 - self.beta) * share
        reward = (1 - (mean * p).sum(-1, keepdim=True)).log()
        return (nll + self.lam * reward).squeeze(-1), state.scatter(-2, places, mean.to(state.dtype))


@dataclass(frozen=True)
class MAESoftmax(Loss):
    r"""The absolute distance between the softmax and the one-hot target, summed over classes.

    .. math:: \ell = \sum_c |p_c - [c = y]| = 2(1 - p_y), \quad p = \text{softmax}(z)

    Its sum over all possible targets is 2(C - 1) whatever the prediction, which makes it robust to symmetric noise.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, at most 2. Raises
    `InvalidValue` if the shapes do not fit.
    Reference: Ghosh, Kumar and Sastry, Robust Loss Functions under Label Noise for Deep Neural Networks, 2017,
    https://arxiv.org/abs/1712.09482
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("MAE of the label-noise literature (`mae` here is regression's)", "L1 on softmax")
    use_when = "many labels are wrong, classes are few and training may be long"
    pitfall = "its gradient vanishes where it is wrong, so it may never learn some classes. Some code has 1 - p_y: half"
    convex = False
    bounded = True
    symmetric = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        # 2 (1 - p) = -2 expm1(log p)
        return -2 * log_likelihood(prediction, target).expm1().squeeze(-1)


@dataclass(frozen=True)
class ReverseCrossEntropy(Loss):
    r"""The cross-entropy with target and prediction swapped, log 0 being taken for -A.

    .. math:: \ell = -\sum_c p_c\log [c = y] = A\,(1 - p_y), \quad \log 0 := -A, \; p = \text{softmax}(z)

    With A = 4 (minus_log_zero), as in the paper, it is twice `mae_softmax`.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, at most A. Raises
    `InvalidValue` if the shapes do not fit or minus_log_zero is not positive.
    Reference: Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, 2019,
    https://arxiv.org/abs/1908.06112
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("RCE", "ReverseCrossEntropy of github.com/HanxunH/Active-Passive-Losses, at minus_log_zero = 9.21")
    use_when = "as mae_softmax, of which it is a multiple: with adaptive optimisers there is no difference"
    pitfall = "published code clamps 0 to 1e-4, which makes A 9.21"
    convex = False
    bounded = True
    symmetric = True
    minus_log_zero: float = 4.0

    def __post_init__(self) -> None:
        check_positive(self, minus_log_zero=self.minus_log_zero)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        # A (1 - p) = -A expm1(log p)
        return -(self.minus_log_zero * log_likelihood(prediction, target).expm1()).squeeze(-1)


@dataclass(frozen=True)
class SymmetricCrossEntropy(Loss):
    r"""Cross-entropy and its reverse, weighed: one learns, the other bears wrong labels.

    .. math:: \ell = -\alpha\log p_y + \beta A\,(1 - p_y), \quad p = \text{softmax}(z)

    A (minus_log_zero) stands for -log 0 in the `reverse_cross_entropy`.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit, alpha or beta is negative or minus_log_zero is not positive.

    The authors take alpha = 0.1, beta = 1 for 10 classes and alpha = 6, beta = 0.1 for 100.
    Reference: Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, 2019,
    https://arxiv.org/abs/1908.06112
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("SCE", "symmetric learning", "poly1 with epsilon = beta A / alpha, times alpha")
    use_when = "some of the labels are wrong, and mae_softmax alone learns too slowly"
    pitfall = "published code clamps 0 to 1e-4, which makes A 9.21 and not 4; alpha must grow with the classes"
    alpha: float = 0.1
    beta: float = 1.0
    minus_log_zero: float = 4.0

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta)
        check_positive(self, minus_log_zero=self.minus_log_zero)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        log_p = log_likelihood(prediction, target)
        # alpha (-log p) + beta A (1 - p), with 1 - p = -expm1(log p)
        return -(self.alpha * log_p + self.beta * self.minus_log_zero * log_p.expm1()).squeeze(-1)


@dataclass(frozen=True)
class BootstrappingSoft(Loss):
    r"""Cross-entropy against a mixture of the label and the prediction itself.

    .. math:: \ell = -\sum_c \big(\beta\,[c = y] + (1 - \beta)\, p_c\big)\log p_c, \quad p = \text{softmax}(z)

    The gradient flows through both p: the second part is the entropy, which is made small.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in nats. Raises `InvalidValue`
    if the shapes do not fit or beta is not a share.
    Reference: Reed et al., Training Deep Neural Networks on Noisy Labels with Bootstrapping, 2014,
    https://arxiv.org/abs/1412.6596
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("soft bootstrapping", "minimum entropy regularisation")
    use_when = "few labels are wrong and the model is right about most of them early"
    pitfall = "some code detaches the mixture, which is another gradient. At 0.95 it is hardly more than cross_entropy"
    beta: float = 0.95

    def __post_init__(self) -> None:
        check_share(self, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        logs = log_softmax(prediction)
        negative_entropy = (logs.exp() * logs).sum(-1, keepdim=True)  # sum_c p_c log p_c, [..., 1]
        return -(self.beta * pick_target(logs, target) + (1 - self.beta) * negative_entropy).squeeze(-1)


@dataclass(frozen=True)
class BootstrappingHard(Loss):
    r"""Cross-entropy against a mixture of the label and the class that the model would choose.

    .. math:: \ell = -\beta\log p_y - (1 - \beta)\max_c\log p_c, \quad p = \text{softmax}(z)

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in nats. Raises `InvalidValue`
    if the shapes do not fit or beta is not a share.
    Reference: Reed et al., Training Deep Neural Networks on Noisy Labels with Bootstrapping, 2014,
    https://arxiv.org/abs/1412.6596
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("hard bootstrapping", "self-labelling with weight 1 - beta")
    use_when = "some labels are wrong and the model is right about most of them early"
    pitfall = "it trusts the model from the first step on, when its belief is worth nothing yet"
    beta: float = 0.8

    def __post_init__(self) -> None:
        check_share(self, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        logs = log_softmax(prediction)
        # the largest log probability is that of the class that the model would choose
        return -(self.beta * pick_target(logs, target) + (1 - self.beta) * logs.amax(-1, keepdim=True)).squeeze(-1)


@dataclass(frozen=True)
class ForwardCorrection(Loss):
    r"""Cross-entropy of what would be observed, if the predicted class were mislabelled as it is known to be.

    .. math:: \ell = -\log\sum_i T_{iy}\, p_i, \quad T_{ij} = P(\text{label } j \mid \text{class } i), \;
        p = \text{softmax}(z)

    ``transition`` holds the rows of T. Without it labels are taken to be wrong with probability ``noise``, each wrong
    class alike: :math:`T_{ii} = 1 - \text{noise}`, elsewhere noise / (C - 1).

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in nats. Raises `InvalidValue`
    if the shapes do not fit, noise is not a share, or transition is no square matrix of shares whose rows sum to 1 and
    whose columns hold something.
    Reference: Patrini et al., Making Deep Neural Networks Robust to Label Noise: A Loss Correction Approach, 2017,
    https://arxiv.org/abs/1609.03683
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("forward loss correction", "F-correction", "noise transition matrix")
    use_when = "it is known how labels go wrong: measured on a part with clean labels, or set by the corruption"
    pitfall = "it undoes only the noise that it is told of; at (C - 1) / C and above labels say nothing true"
    noise: float = 0.2
    transition: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        check_share(self, noise=self.noise)
        if self.transition not in ((), []) and not _is_transition_matrix(self.transition):
            raise InvalidValue(
                "The 'transition' parameter of ForwardCorrection must be a square matrix of shares, each row with the "
                f"sum 1 and each column with a value above 0. Got {self.transition!r} instead."
            )
        # lists come from the command line, and a frozen dataclass must be hashable
        object.__setattr__(self, "transition", tuple(tuple(map(float, row)) for row in self.transition))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_index_shape(prediction, target)
        n_classes = prediction.shape[-1]
        if not self.transition:
            # log((1 - noise) p_y + noise (1 - p_y) / (C - 1)), as a sum of two numbers given by their logarithms
            log_p = log_likelihood(prediction, target)
            noise = torch.zeros_like(log_p) + self.noise
            others = one_minus_p(log_p).log() - math.log(n_classes - 1)
            return -torch.logaddexp((1 - noise).log() + log_p, noise.log() + others).squeeze(-1)
        if len(self.transition) != n_classes:
            raise InvalidValue(
                f"The 'transition' parameter of ForwardCorrection has {len(self.transition)} rows, and there are "
                f"{n_classes} classes."
            )
        # log sum_i T_iy p_i, with the column y of T for each example: [..., C]
        columns = prediction.new_tensor(self.transition).mT.log()
        return -(log_softmax(prediction) + columns[target.long()]).logsumexp(-1, keepdim=True).squeeze(-1)


def _is_transition_matrix(value: Any) -> bool:
    """Return True for a square matrix of shares, each row with the sum 1 and each column with a value above 0."""
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):  # no numbers, or rows of several lengths
        return False
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return False
    shares = (matrix >= 0) & (matrix <= 1)
    return bool(shares.all() and (abs(matrix.sum(1) - 1) < 1e-6).all() and (matrix > 0).any(0).all())


@dataclass(frozen=True)
class JensenShannon(Loss):
    r"""The weighted Jensen-Shannon divergence from label to prediction: between cross-entropy and the mean error.

    .. math:: \ell = \frac{\pi\, D(e_y \| m) + (1 - \pi)\, D(p \| m)}{-(1 - \pi)\log(1 - \pi)}, \quad
        m = \pi e_y + (1 - \pi) p, \; D = \text{KL}

    Cross-entropy as :math:`\pi` goes to 0, :math:`1 - p_y` (half of `mae_softmax`) as it goes to 1. It depends on the
    target's probability alone.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in nats, at most
    :math:`1 + \pi\log\pi / ((1 - \pi)\log(1 - \pi))`. Raises `InvalidValue` if the shapes do not fit or pi is not in
    (0, 1).
    Reference: Englesson and Azizpour, Generalized Jensen-Shannon Divergence Loss for Learning with Noisy Labels, 2021,
    https://arxiv.org/abs/2105.04522
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("JS loss", "JensenShannonDivergenceWeightedScaled of github.com/erikenglesson/GJS")
    use_when = "some of the labels are wrong: a pi near 0 for few, near 1 for many"
    pitfall = "timm's JsdCrossEntropy is another: it compares augmented views. No consistency term here, which GJS adds"
    convex = False
    bounded = True
    pi: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1, pi=self.pi)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        log_p = log_likelihood(prediction, target)
        p, pi = log_p.exp(), torch.zeros_like(log_p) + self.pi
        log_m = (pi + (1 - pi) * p).log()
        # of the other classes only their sum 1 - p_y matters: there log p - log m = -log(1 - pi)
        scale = -(1 - pi) * (-pi).log1p()
        return (-log_p.expm1() + ((1 - pi) * p * (log_p - log_m) - pi * log_m) / scale).squeeze(-1)


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
    aliases = ("Taylor-CE", "t-CE")
    use_when = "some of the labels are wrong: few terms for many, more terms for few"
    pitfall = "order 1 learns as slowly as mae_softmax; high orders memorise wrong labels as cross_entropy does"
    convex = False
    bounded = True
    order: int = 2

    def __post_init__(self) -> None:
        check_count(self, order=self.order)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        x = -log_likelihood(prediction, target).expm1()  # 1 - p
        # Horner's rule: x (1 + x (1/2 + x (1/3 + ...))), from the inside
        series = torch.zeros_like(x)
        for j in range(self.order, 0, -1):
            series = x * (1 / j + series)
        return series.squeeze(-1)


def _check_power(owner: "AGCE | AUL", largest: float) -> None:
    if owner.q * math.log(largest) > math.log(LARGEST_POWER):
        raise InvalidValue(
            f"The parameters of {type(owner).__name__} must keep {largest:g} to the power q below {LARGEST_POWER:g}. "
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
    aliases = ("AGCELoss of github.com/hitcszx/ALFs", "asymmetric generalised cross-entropy")
    use_when = "many labels are wrong, and generalized_cross_entropy still memorises them"
    pitfall = "as flat as mae_softmax where it is wrong, so it may never learn some classes; a and q are per data set"
    convex = False
    bounded = True
    a: float = 0.6
    q: float = 0.6

    def __post_init__(self) -> None:
        check_positive(self, a=self.a, q=self.q)
        _check_power(self, self.a + 1)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
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
    aliases = ("AUELoss of github.com/hitcszx/ALFs", "asymmetric unhinged loss")
    use_when = "as agce"
    pitfall = "as flat as mae_softmax where it is wrong; its size grows as a to the power q - 1: tune the learning rate"
    convex = False
    bounded = True
    a: float = 6.3
    q: float = 1.5

    def __post_init__(self) -> None:
        check_at_least(self, 1, a=self.a)
        check_positive(self, q=self.q)
        _check_power(self, self.a)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        # a - p = (a - 1) + (1 - p), which keeps the digits at a = 1
        error = one_minus_p(log_likelihood(prediction, target))
        return ((((self.a - 1) + error) ** self.q - (self.a - 1) ** self.q) / self.q).squeeze(-1)


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
    aliases = ("AEL", "AExpLoss of github.com/hitcszx/ALFs", "asymmetric exponential loss")
    use_when = "as agce"
    pitfall = "the larger a, the flatter: its gradient is at most 1/a times that of the probability"
    convex = False
    bounded = True
    symmetric = False
    a: float = 2.5

    def __post_init__(self) -> None:
        check_positive(self, a=self.a)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
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
    aliases = ("LogitClip", "LC-CE", "cross-entropy with clipped logits")
    use_when = "some of the labels are wrong, and cross_entropy's behaviour near 0 is to be kept"
    pitfall = "clipped in training only: beyond tau nothing fits the logits' length, so log loss looks bad"
    convex = False
    bounded = True
    symmetric = False
    tau: float = 2.0

    def __post_init__(self) -> None:
        check_positive(self, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        # min(1, tau / length) = tau / max(length, tau)
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
    aliases = ("PHuber-CE", "partially Huberised cross-entropy", "PHuberCrossEntropy of github.com/dmizr/phuber")
    use_when = "some of the labels are wrong; it is cross_entropy where the model half agrees with the label"
    pitfall = "many classes start below 1/tau, where it is as flat as mae_softmax: a tau above C lets it start"
    convex = False
    bounded = True
    tau: float = 10.0

    def __post_init__(self) -> None:
        check_at_least(self, 1, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        log_p = log_likelihood(prediction, target)
        # both branches in logarithms: p > 1/tau is log p > -log tau, and tau p = exp(log tau + log p)
        log_tau = (torch.zeros_like(log_p) + self.tau).log()
        line = 1 + log_tau - (log_tau + log_p).exp()
        return torch.where(log_p > -log_tau, -log_p, line).squeeze(-1)


def _normalise_cost(costs: Tensor, target: Tensor) -> Tensor:
    """Return the target's share of the costs `[..., C]` of all classes, `[..., 1]`."""
    total = costs.sum(-1, keepdim=True)  # 0 if all lie below anl_ce's p_min, or there is one class only
    return pick_target(costs, target) / torch.where(total > 0, total, 1)


@dataclass(frozen=True)
class NormalizedCrossEntropy(Loss):
    r"""Cross-entropy as a share of what all possible targets would cost.

    .. math:: \ell = \frac{\log p_y}{\sum_c \log p_c}, \quad p = \text{softmax}(z)

    Its sum over all possible targets is 1, which makes it robust to symmetric noise.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in [0, 1]. Raises
    `InvalidValue` if the shapes do not fit.
    Reference: Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, 2020,
    https://arxiv.org/abs/2006.13554
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("NCE", "NormalizedCrossEntropy of github.com/HanxunH/Active-Passive-Losses")
    use_when = "as the active half of nce_rce, nce_mae and anl_ce; alone only to see what the other half adds"
    pitfall = "it also falls when the other classes' probabilities spread out, so alone it learns slowly and underfits"
    convex = False
    bounded = True
    symmetric = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        return _normalise_cost(-log_softmax(prediction), target).squeeze(-1)


@dataclass(frozen=True)
class NormalizedFocal(Loss):
    r"""The focal loss of a softmax as a share of what all possible targets would cost.

    .. math:: \ell = \frac{(1 - p_y)^\gamma\log p_y}{\sum_c (1 - p_c)^\gamma\log p_c}, \quad p = \text{softmax}(z)

    Its sum over all possible targets is 1, which makes it robust to symmetric noise.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in [0, 1]. Raises
    `InvalidValue` if the shapes do not fit or gamma is negative.
    Reference: Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, 2020,
    https://arxiv.org/abs/2006.13554
    """

    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("NFL", "NormalizedFocalLoss of github.com/HanxunH/Active-Passive-Losses")
    use_when = "as normalized_cross_entropy, fading where the target is likely already"
    pitfall = "alone it underfits. The authors' code takes no gradient through the fading factor; here it flows"
    convex = False
    bounded = True
    symmetric = True
    gamma: float = 0.5

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        logs = log_softmax(prediction)
        return _normalise_cost(-(one_minus_p(logs) ** self.gamma) * logs, target).squeeze(-1)


@dataclass(frozen=True)
class NCEAndRCE(Loss):
    r"""Normalised cross-entropy, which raises the target, and reverse cross-entropy, which lowers the others.

    .. math:: \ell = \alpha\,\frac{\log p_y}{\sum_c \log p_c} + \beta A\,(1 - p_y), \quad p = \text{softmax}(z)

    A (minus_log_zero) stands for -log 0 in the `reverse_cross_entropy`. Both parts have a constant sum over all
    possible targets.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit, alpha or beta is negative or minus_log_zero is not positive.

    The authors take alpha = beta = 1 for 10 classes, alpha = 10 and beta = 0.1 for 100.
    Reference: Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, 2020,
    https://arxiv.org/abs/2006.13554
    """

    name = "nce_rce"
    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("NCE+RCE", "APL", "NCEandRCE of github.com/HanxunH/Active-Passive-Losses")
    use_when = "many labels are wrong, at random"
    pitfall = "that code's A is 9.21, not the 4 of the first paper; a published normalised RCE has a wrong (K-1)/4"
    convex = False
    bounded = True
    symmetric = True
    alpha: float = 1.0
    beta: float = 1.0
    minus_log_zero: float = 4.0

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta)
        check_positive(self, minus_log_zero=self.minus_log_zero)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        active, passive = _compute_active_and_passive(prediction, target)
        return (self.alpha * active + self.beta * self.minus_log_zero * passive).squeeze(-1)


@dataclass(frozen=True)
class NCEAndMAE(Loss):
    r"""Normalised cross-entropy, which raises the target, and the mean absolute error, which lowers the others.

    .. math:: \ell = \alpha\,\frac{\log p_y}{\sum_c \log p_c} + 2\beta\,(1 - p_y), \quad p = \text{softmax}(z)

    Both parts have a constant sum over all possible targets.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit or alpha or beta is negative.

    The authors take alpha = beta = 1 for 10 classes, alpha = 10 and beta = 0.1 for 100.
    Reference: Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, 2020,
    https://arxiv.org/abs/2006.13554
    """

    name = "nce_mae"
    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("NCE+MAE", "APL", "NCEandMAE of github.com/HanxunH/Active-Passive-Losses", "nce_rce with A = 2")
    use_when = "many labels are wrong, at random"
    pitfall = "the authors' code has 1 - p_y for the error, so their beta is twice ours"
    convex = False
    bounded = True
    symmetric = True
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        active, passive = _compute_active_and_passive(prediction, target)
        return (self.alpha * active + 2 * self.beta * passive).squeeze(-1)


def _compute_active_and_passive(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return normalised cross-entropy, and one minus the target's probability: `[..., 1]` each."""
    logs = log_softmax(prediction)
    active = _normalise_cost(-logs, target)
    return active, -pick_target(logs, target).expm1()


@dataclass(frozen=True)
class ANLCE(Loss):
    r"""Normalised cross-entropy, and a normalised cross-entropy turned upside down that looks at all classes.

    .. math:: \ell = \alpha\,\frac{\log p_y}{\sum_c \log p_c}
        + \beta\left(1 - \frac{A + \log p_y}{\sum_c (A + \log p_c)}\right), \quad A = -\log p_{\min}

    with p the softmax, clamped at :math:`p_{\min}` (p_min) in the second part, where it has no gradient below (it must
    be below 1 / C). Both parts have a constant sum over all possible targets: 1 and C - 1.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, at most alpha + beta. Raises
    `InvalidValue` if the shapes do not fit, alpha or beta is negative or p_min is not in (0, 1).

    The authors take alpha = beta = 5 for CIFAR-10, and add a small multiple of the absolute sum of the model's weights,
    which is no part of a loss here.
    Reference: Ye et al., Active Negative Loss Functions for Learning with Noisy Labels, 2023,
    https://papers.neurips.cc/paper_files/paper/2023/hash/15f4cefb0e143c7ad9d40e879b0a9d0c-Abstract-Conference.html
    """

    name = "anl_ce"
    family = "label noise"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("ANL-CE", "NCE+NNCE", "github.com/Virusdoll/Active-Negative-Loss")
    use_when = "many labels are wrong, at random, and nce_rce underfits"
    pitfall = "the authors add an L1 penalty on the weights, which is not here; accuracy is bought with log loss"
    convex = False
    bounded = True
    symmetric = True
    alpha: float = 5.0
    beta: float = 5.0
    p_min: float = 1e-7

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta)
        check_positive(self, p_min=self.p_min)
        check_below_one(self, p_min=self.p_min)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        logs = log_softmax(prediction)
        # max(log p, log p_min) + A = relu(log p - log p_min): 0 for a class that is clamped
        lowest = (torch.zeros_like(logs[..., :1]) + self.p_min).log()
        passive = 1 - _normalise_cost((logs - lowest).relu(), target)
        return (self.alpha * _normalise_cost(-logs, target) + self.beta * passive).squeeze(-1)


def _tempered_log(u: Tensor, s: Tensor) -> Tensor:
    """Return `expm1(s u) / s`, u at s = 0: of u = log x the tempered logarithm of temperature 1 - s."""
    return torch.where(s == 0, u, (s * u).expm1() / torch.where(s == 0, 1, s))


def _log_tempered_exp(x: Tensor, s: Tensor) -> Tensor:
    """Return `log1p(s x) / s`, x at s = 0: the logarithm of the tempered exponential of x."""
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
    # 1. Newton's method for F^(1 - t) = 1; at t = 1 for log F = 0, of which it is the limit
    with torch.no_grad():
        wide, wide_s = shifted.double(), s.double()
        root = torch.zeros_like(wide[..., :1])  # the largest term alone is 1 here, so lambda is not below
        for _ in range(NEWTON_STEPS):
            logs = _log_tempered_exp(wide - root, wide_s)  # log of the terms of F, [..., C]
            total = logs.exp().sum(-1, keepdim=True)  # F, from C down to 1: nothing overflows
            slope = ((1 - wide_s) * logs).exp().sum(-1, keepdim=True)  # sum_c p_c^t = -dF / dlambda
            root = root + _tempered_log(total.log(), wide_s) * total ** (1 - wide_s) / slope
    # 2. one step more for F = 1, whose slope is a constant: it has the gradient of the implicit function
    normaliser = root.to(shifted.dtype)
    logs = _log_tempered_exp(shifted - normaliser, s)
    slope = ((1 - s) * logs).exp().sum(-1, keepdim=True).detach()
    normaliser = normaliser + (logs.exp().sum(-1, keepdim=True) - 1) / slope
    return _log_tempered_exp(shifted - normaliser, s)


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
    aliases = ("bi_tempered_logistic_loss of github.com/google/bi-tempered-loss", "Bregman divergence, tempered")
    use_when = "some labels are wrong: t1 bounds what far outliers cost, t2 what lies near the decision"
    pitfall = "its probabilities are tempered: a softmax of its scores is surer than they are. Two knobs to tune"
    t1: float = 0.8
    t2: float = 1.2

    def __post_init__(self) -> None:
        check_share(self, t1=self.t1)
        check_at_least(self, 1, t2=self.t2)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_index_shape(prediction, target)
        wide = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        s1, s2 = (torch.zeros_like(wide[..., :1]) + 1 - t for t in (self.t1, self.t2))
        logs = tempered_log_softmax(wide, s2)
        log_p = _tempered_log(logs.gather(-1, target.long().unsqueeze(-1)), s1)  # log_t1 p_y
        # (1 - sum_c p_c^(2 - t1)) / (2 - t1), with s1 = 1 - t1
        spread = (1 - ((1 + s1) * logs).exp().sum(-1, keepdim=True)) / (1 + s1)
        return -(log_p + spread).squeeze(-1)
