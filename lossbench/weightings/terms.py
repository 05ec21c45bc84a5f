"""Weights of the terms of a combined loss, which change as training goes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces import TermWeighting
from lossbench.types import Requirement
from lossbench.validation import check_nonnegative, check_positive

_FLOOR = 1e-12
"""Smallest divisor, for a loss or a gradient that has vanished."""


@dataclass(frozen=True)
class Uncertainty(TermWeighting):
    r"""Weights by the noise that each term is learned to have: noisy goals count less.

    .. math:: \sum_k e^{-s_k} \ell_k + s_k

    That is twice the published sum, so that all weights are 1 at the start. The log variances :math:`s_k` are trained
    with the model, without weight decay; where they rest a term's weight is one over its loss. losses: `[..., K]`;
    parameters: `log_variance` `[..., K]`, from 0. Returns `[..., K]`, above 0: *not* normalised, because the size of
    the weights is what is learned.
    Reference: Kendall, Gal, Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics, 2018, https://arxiv.org/abs/1705.07115
    """

    requires = (Requirement.PARAMETERS,)
    aliases = ("homoscedastic uncertainty weighting", "UW")
    use_when = "several outputs have noise of different size, and nobody wants to tune weights"
    pitfall = (
        "losses below zero (likelihoods) have no such weight; the weights of a term that is fitted exactly explode"
    )

    def init_parameters(self, n_terms: int) -> dict[str, Tensor]:
        """Return one log variance per term, 0."""
        return {"log_variance": torch.zeros(n_terms)}

    def __call__(self, losses: Tensor, **requires: Any) -> Tensor:
        """Return one over the variances."""
        weights: Tensor = (-requires[Requirement.PARAMETERS]["log_variance"]).exp()
        return weights

    def penalty(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the sum of the log variances, which keeps them from running to infinity."""
        return parameters["log_variance"].sum(-1)


@dataclass(frozen=True)
class DWA(TermWeighting):
    r"""Dynamic weight average: more for the terms whose loss falls more slowly than the others'.

    .. math:: w_k = K\, \text{softmax}_k(r_k / T), \quad r_k = \bar\ell_k(e - 1) / \bar\ell_k(e - 2)

    with the mean losses of the last two epochs e; 1 during the first two. losses: `[..., K]`; temperature T above 0:
    the larger, the more alike the weights. Returns `[..., K]`, of mean 1 over the terms. Raises `InvalidValue` if the
    temperature is not positive.
    Reference: Liu, Johns, Davison, End-to-End Multi-Task Learning with Attention, 2019,
    https://arxiv.org/abs/1803.10704
    """

    requires = (Requirement.STATE, Requirement.EPOCH)
    aliases = ("dynamic weight averaging",)
    use_when = "some goals are learned long before others"
    pitfall = "it looks at ratios of losses: one that is zero or negative, as a likelihood may be, has no meaning here"
    temperature: float = 2.0

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def init_state(self, n_terms: int, generator: torch.Generator) -> Tensor:
        """Return this epoch's number, sum of losses and steps, and the means of the last two epochs: `[5, K]`."""
        return torch.zeros(5, n_terms)

    def __call__(self, losses: Tensor, **requires: Any) -> tuple[Tensor, Tensor]:
        """Return weights from the two epochs before this one, and the next state."""
        epoch, total, steps, last, before = requires[Requirement.STATE].unbind(-2)
        ends = epoch < requires[Requirement.EPOCH]
        # 1. at the first step of an epoch the epoch that has ended becomes the last one
        before, last = torch.where(ends, last, before), torch.where(ends, total / steps, last)
        # 2. count this step
        total, steps = (torch.where(ends, 0, x) + y for x, y in ((total, losses), (steps, 1)))
        epoch = torch.full_like(losses, requires[Requirement.EPOCH])
        # 3. the more slowly a loss fell between the last two epochs, the larger its weight; from the third epoch on
        ratio = last / before.clamp_min(_FLOOR)
        weights = losses.shape[-1] * functional.softmax(ratio / self.temperature, -1)
        weights = torch.where(epoch >= 2, weights, 1)
        return weights, torch.stack([epoch, total, steps, last, before], -2)


@dataclass(frozen=True)
class Random(TermWeighting):
    r"""Weights drawn anew at every step: the plainest scheme, which others have to beat.

    .. math:: w_k = K\, \text{softmax}_k(u_k), \quad u_k \sim N(0, 1)

    losses: `[..., K]`. The numbers depend on the trial's seed. Returns `[..., K]`, of mean 1 over the terms.
    Reference: Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning, 2022,
    https://arxiv.org/abs/2111.10603
    """

    requires = (Requirement.STATE,)
    aliases = ("RLW", "random loss weighting")
    use_when = "as a baseline: a scheme that is no better than this one is not worth its trouble"
    pitfall = "the weights' noise is noise of the gradient: it may want a lower learning rate"

    def init_state(self, n_terms: int, generator: torch.Generator) -> Tensor:
        """Return one counter per term."""
        return init_counters(n_terms, generator)

    def __call__(self, losses: Tensor, **requires: Any) -> tuple[Tensor, Tensor]:
        """Return the weights of this step."""
        uniform, state = draw_uniform(requires[Requirement.STATE])
        # ndtri, the inverse of the normal distribution function, turns uniform numbers into normal ones
        weights = functional.softmax(torch.special.ndtri(uniform), -1) * losses.shape[-1]
        return weights.to(losses.dtype), state


@dataclass(frozen=True)
class GradNorm(TermWeighting):
    r"""Moves the weights until each term's gradient has the size that its progress asks for.

    .. math:: w_k \leftarrow w_k - \eta\, \text{sign}(w_k n_k - \bar n\, q_k^\alpha)\, n_k, \quad
        q_k = \frac{\ell_k / \ell_k(0)}{\text{mean}_j\, \ell_j / \ell_j(0)}

    :math:`n_k` is the norm of the term's gradient in the layers that all share (all but the head), :math:`\bar n` the
    mean of the weighted ones. losses: `[..., K]`; alpha: how strongly terms that lag behind are pulled, from 0; rate
    :math:`\eta`, with norms in units of :math:`\bar n`. Returns `[..., K]`, of mean 1 over the terms, from 1 on. Raises
    `InvalidValue` if alpha is negative or the rate is not positive.
    Reference: Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks,
    2018, https://arxiv.org/abs/1711.02257
    """

    name = "gradnorm"
    requires = (Requirement.STATE, Requirement.GRAMIAN)
    aliases = ("gradient normalization",)
    use_when = "one goal's gradient drowns the others'"
    pitfall = "a backward pass per term; a model without shared layers has nothing to balance"
    alpha: float = 1.5
    rate: float = 0.025

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha)
        check_positive(self, rate=self.rate)

    def init_state(self, n_terms: int, generator: torch.Generator) -> Tensor:
        """Return the weights and the first losses, `[2, K]`; a first loss of zero stands for "none yet"."""
        return torch.stack([torch.ones(n_terms), torch.zeros(n_terms)])

    def __call__(self, losses: Tensor, **requires: Any) -> tuple[Tensor, Tensor]:
        """Return the weights so far, and the next ones."""
        weights, first = requires[Requirement.STATE].unbind(-2)
        first = torch.where(first == 0, losses, first)
        # 1. gradient norms, the roots of the Gramian's diagonal, in units of their weighted mean
        norms = requires[Requirement.GRAMIAN].diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        norms = norms / (weights * norms).mean(-1, keepdim=True).clamp_min(_FLOOR)
        # 2. a term that has fallen less than the mean of all lags behind
        progress = losses / first
        lag = progress / progress.mean(-1, keepdim=True).clamp_min(_FLOOR)
        # 3. a step along the gradient of sum_k |w_k n_k - q_k^alpha|; weights stay positive and keep mean 1
        moved = weights - self.rate * (weights * norms - lag**self.alpha).sign() * norms
        moved = moved.clamp_min(1e-3)
        return weights, torch.stack([moved / moved.mean(-1, keepdim=True), first], -2)


@dataclass(frozen=True)
class PCGrad(TermWeighting):
    r"""Gradient surgery: takes out of each term's gradient what goes against another's.

    .. math:: g_k \leftarrow g_k - \min\left(0, \frac{g_k \cdot g_j}{g_j \cdot g_j}\right) g_j \;\text{for all}\; j

    in an order that is drawn for each k and step from the trial's seed; then the sum. Gradients are those of the layers
    that all share (all but the head), and the sum is one of the terms with weights, which the head gets as well.
    losses: `[..., K]`. Returns `[..., K]`, at least 0: *not* normalised; 1 where no gradients disagree.
    Reference: Yu et al., Gradient Surgery for Multi-Task Learning, 2020, https://arxiv.org/abs/2001.06782
    """

    name = "pcgrad"
    requires = (Requirement.STATE, Requirement.GRAMIAN)
    aliases = ("torchjd.aggregation.PCGrad", "gradient surgery", "projecting conflicting gradients")
    use_when = "what helps one goal undoes another"
    pitfall = "a backward pass per term; where gradients agree it is the plain sum"

    def init_state(self, n_terms: int, generator: torch.Generator) -> Tensor:
        """Return a counter for each pair of terms."""
        return init_counters(n_terms * n_terms, generator)

    def __call__(self, losses: Tensor, **requires: Any) -> tuple[Tensor, Tensor]:
        """Return the weights of the projected gradients' sum."""
        gramian, n_terms = requires[Requirement.GRAMIAN], losses.shape[-1]
        uniform, state = draw_uniform(requires[Requirement.STATE])
        order = uniform.unflatten(-1, (n_terms, n_terms)).argsort(-1)  # [..., K, K], a permutation for each term
        return project_gradients(gramian, order).sum(-2), state


def project_gradients(gramian: Tensor, order: Tensor) -> Tensor:
    """Free each gradient of its conflicts with the others, in its order `[..., K, K]`.

    Returns `[..., K, K]`, of which row k holds the coefficients of all gradients in the k-th projected one. So
    only the Gramian `[..., K, K]` is needed, never the gradients themselves.
    """
    n_terms = gramian.shape[-1]
    eye = torch.eye(n_terms, dtype=gramian.dtype, device=gramian.device)
    mixed = eye.expand_as(gramian)  # at first each gradient is itself
    norms = gramian.diagonal(dim1=-2, dim2=-1)
    for place in range(n_terms):
        other = functional.one_hot(order[..., place], n_terms).to(
            gramian
        )  # [..., K, K]: the term that each k is compared with
        products = (mixed @ gramian * other).sum(-1)  # g_k . g_j, [..., K]
        sizes = (other * norms[..., None, :]).sum(-1)  # g_j . g_j
        # no projection onto the own gradient (j = k), which may conflict with what k has become
        against = products.clamp_max(0) / sizes.clamp_min(_FLOOR) * (1 - (other * eye).sum(-1))
        mixed = mixed - against[..., None] * other
    return mixed


_GOLDEN, _MIX = -0x61C8864680B583EB, (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
"""SplitMix64's constants as signed numbers (Steele, Lea, Flood, 2014, https://doi.org/10.1145/2660193.2660195)."""


def init_counters(n: int, generator: torch.Generator) -> Tensor:
    """Return random counters `[n]` of 64 bits: a replica draws as it would alone, and a resumed run goes on."""
    return torch.randint(-(2**62), 2**62, (n,), generator=generator)


def draw_uniform(state: Tensor) -> tuple[Tensor, Tensor]:
    """Draw numbers in (0, 1) from counters of any shape, in float64, and return the next counters: SplitMix64."""
    state = state + _GOLDEN
    z = (state ^ _shift_right(state, 30)) * _MIX[0]
    z = (z ^ _shift_right(z, 27)) * _MIX[1]
    z = z ^ _shift_right(z, 31)
    # the highest 52 bits, with half a step added: never 0, never 1
    return (_shift_right(z, 12).double() + 0.5) * 2.0**-52, state


def _shift_right(z: Tensor, n_bits: int) -> Tensor:
    # torch repeats the sign bit, as numbers are signed: mask the copies off
    return (z >> n_bits) & ((1 << (64 - n_bits)) - 1)
