"""Losses that measure how far a predicted distribution over classes is from the target."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, any_of, one_axis_less, same_shape
from lossbench.losses.classification import log_likelihood
from lossbench.losses.terms import mean, total
from lossbench.types import Encoding, Need, Space
from lossbench.validation import check_between, check_nonnegative, check_positive, check_share, check_whole

ABOVE_ZERO = 0.05
"""How far rounding, in bfloat16 too, may push a log probability above 0."""


def _no_log_probabilities(highest: Tensor) -> InvalidValue:
    return InvalidValue(
        "prediction must hold log probabilities, none of them above 0 (of logits: their log_softmax). "
        f"Got {highest.item():.4g}."
    )


@dataclass(frozen=True)
class NLL(Loss):
    r"""The negative log probability of the target class, from log probabilities: `cross_entropy` after its softmax.

    .. math:: \ell(\log p, y) = -\log p_y

    prediction: ``[..., C]`` log probabilities; target: ``[...]`` class indices. Returns ``[...]``, in nats; 0, with no
    gradient, where the target is ignore_index. Raises `InvalidValue` if the shapes do not fit, a log probability is
    above 0 or ignore_index is no whole number.
    Reference: Good, Rational Decisions, 1952, https://doi.org/10.1111/j.2517-6161.1952.tb00104.x
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOG_PROBABILITY
    encoding = Encoding.INDEX
    known_as = ("torch.nn.NLLLoss", "logarithmic score", "cross_entropy on logits")
    same_as = "cross_entropy"
    use_when = "your own model ends in log_softmax; otherwise use cross_entropy, which it is"
    beware = "elsewhere logits are taken without a word, and the loss falls without bound; here they are refused"
    convex = True
    bounded = False
    ignore_index: int = -100

    def __post_init__(self) -> None:
        check_whole(self, ignore_index=self.ignore_index)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        flat = prediction.reshape(-1, prediction.shape[-1])
        index = target.reshape(-1).long()
        nll = functional.nll_loss(flat, index, reduction="none", ignore_index=self.ignore_index)
        if any_of(nll < -ABOVE_ZERO):
            raise _no_log_probabilities(-nll.min())
        return nll.reshape(target.shape)


@dataclass(frozen=True)
class KLDivergence(Loss):
    r"""The information lost when the prediction stands for the target, summed over classes.

    .. math:: \ell(\log p, t) = \sum_c t_c (\log t_c - \log p_c), \quad 0 \log 0 = 0

    Of a one-hot target it is the cross-entropy; of a soft one its gradient is that of the cross-entropy.

    prediction, target: ``[..., C]``, log probabilities and probabilities. Returns ``[...]``, in nats. Raises
    `InvalidValue` if the shapes differ or a log probability is above 0.
    Reference: Kullback and Leibler, On Information and Sufficiency, 1951, https://doi.org/10.1214/aoms/1177729694
    """

    name = "kl_divergence"
    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOG_PROBABILITY
    encoding = Encoding.ONE_HOT
    known_as = (
        "torch.nn.KLDivLoss(reduction='batchmean'), whose target is probabilities unless log_target is set",
        "keras.losses.KLDivergence, which takes the target first and probabilities for both",
        "scipy.special.rel_entr, to be summed over classes",
    )
    same_as = "cross_entropy"
    use_when = "targets are soft, as from several annotators or a teacher; with hard labels it is cross_entropy"
    beware = "torch's default mean divides by the classes too, so it is C times too small"
    convex = True
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The sum over classes."""
        same_shape(prediction, target)
        lost = functional.kl_div(prediction, target, reduction="none")
        # where a target is 0 the term is, even if log p is -inf, which torch makes NaN; the look is the cheaper pass
        return total(lost if _all_finite(prediction) else torch.where(target == 0, 0, lost))


def _all_finite(prediction: Tensor) -> bool:
    """Whether no log probability is -inf, as far as can be seen: inside vmap it cannot. Logits are refused."""
    if prediction.numel() == 0:
        return False
    lowest, highest = prediction.detach().aminmax()
    if any_of(highest > ABOVE_ZERO):
        raise _no_log_probabilities(highest)
    return any_of(lowest > -torch.inf)


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
    known_as = ("JS loss", "JensenShannonDivergenceWeightedScaled of github.com/erikenglesson/GJS")
    use_when = "some of the labels are wrong: a pi near 0 for few, near 1 for many"
    beware = "timm's JsdCrossEntropy is another: it compares augmented views. No consistency term here, which GJS adds"
    convex = False
    bounded = True
    pi: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1, pi=self.pi)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        log_p = log_likelihood(prediction, target)
        p, pi = log_p.exp(), torch.zeros_like(log_p) + self.pi
        log_m = (pi + (1 - pi) * p).log()
        # of the other classes only their sum 1 - p_y matters: there log p - log m = -log(1 - pi)
        scale = -(1 - pi) * (-pi).log1p()
        return (-log_p.expm1() + ((1 - pi) * p * (log_p - log_m) - pi * log_m) / scale).squeeze(-1)


@dataclass(frozen=True)
class SquareOnLogits(Loss):
    r"""Regression of the scores themselves on M for the target class and 0 for the others, without a softmax.

    .. math:: \ell(z, y) = \frac{1}{C}\Big(k\,(z_y - M)^2 + \sum_{c \ne y} z_c^2\Big)

    prediction, target: ``[..., C]``, scores and one-hot. Returns ``[...]``. Raises `InvalidValue` if the shapes differ
    or k or m is not positive.

    The authors use k = M = 1 up to about 40 classes; k = 15 and M = 30 for the 1,000 of ImageNet, where otherwise the
    zeros weigh too much.
    Reference: Hui and Belkin, Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in
    Classification Tasks, 2020, https://arxiv.org/abs/2006.07322
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.ONE_HOT
    known_as = ("rescaled square loss", "least squares on one-hot targets", "keras.losses.MeanSquaredError of scores")
    use_when = "as an alternative to cross_entropy whose gradient does not saturate"
    beware = "scores near 0 and M are no log probabilities: log loss and calibration by softmax look bad"
    convex = True
    bounded = False
    robust = False
    k: float = 1.0
    m: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, k=self.k, m=self.m)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over classes."""
        same_shape(prediction, target)
        return mean((1 + (self.k - 1) * target) * (prediction - self.m * target).square())


@dataclass(frozen=True)
class Sparsemax(Loss):
    r"""The loss of the sparsemax, whose probabilities can be exactly 0.

    .. math:: \ell(z, y) = \frac{1}{2}\sum_{c \in S}(z_c^2 - \tau^2) + \frac{1}{2} - z_y, \quad
        p_c = \max(0, z_c - \tau)

    S is where p is above 0, and tau is such that p sums to 1. The gradient is p less the one-hot target. It is 0 where
    the target leads every other class by 1.

    prediction: ``[..., C]`` scores; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit.
    Reference: Martins and Astudillo, From Softmax to Sparsemax, 2016, https://arxiv.org/abs/1602.02068
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("optax.losses.multiclass_sparsemax_loss", "SparsemaxLoss of github.com/deep-spin/entmax")
    use_when = "a margin is wanted with the smoothness of cross-entropy near it"
    beware = "its probabilities are sparsemax(z): a softmax of its scores is far too unsure, so log loss looks bad"
    convex = True
    bounded = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        wide = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        scores = wide - wide.detach().amax(-1, keepdim=True)  # neither p nor the loss sees a shift
        threshold = _sparsemax_threshold(scores)
        p = (scores - threshold).relu()
        # z^2 - tau^2 = p (p + 2 tau), and p sums to 1
        own = scores.gather(-1, target.long().unsqueeze(-1))
        return ((p.square().sum(-1, keepdim=True) + 1) / 2 + threshold - own).squeeze(-1)


def _sparsemax_threshold(scores: Tensor) -> Tensor:
    """The tau for which max(0, z - tau) sums to 1, `[..., 1]`."""
    ordered = scores.sort(-1, descending=True).values
    sums = ordered.cumsum(-1)
    rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    # the support is what comes first; NaN leaves none
    size = (1 + rank * ordered > sums).sum(-1, keepdim=True).clamp_min(1)
    return (sums.gather(-1, size - 1) - 1) / size


@dataclass(frozen=True)
class Evidential(Loss):
    r"""The expected squared error under a Dirichlet distribution that the scores give evidence for.

    .. math:: \ell = \sum_c (y_c - \hat p_c)^2 + \frac{\hat p_c (1 - \hat p_c)}{S + 1}
        + \lambda_t\, \text{KL}(\text{Dir}(\tilde\alpha) \| \text{Dir}(1)), \quad \hat p = \alpha / S, \;
        S = \textstyle\sum_c \alpha_c

    with :math:`\alpha = 1 + \text{softplus}(z)`, and :math:`\tilde\alpha` the same with 1 for the target class, so that
    evidence for others is pulled to none. :math:`\lambda_t` rises from 0 to kl over the first share ``annealing`` of
    training (the authors: 10 epochs, and relu or exp for softplus). It is their squared form, equation 5, which they
    found best, and not the type II likelihood.

    prediction, target: ``[..., C]``, scores and one-hot; progress: share of training done. Returns ``[...]``. Raises
    `InvalidValue` if the shapes differ, kl is negative or annealing is not in (0, 1].
    Reference: Sensoy et al., Evidential Deep Learning to Quantify Classification Uncertainty, 2018,
    https://arxiv.org/abs/1806.01768
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.ONE_HOT
    needs = (Need.PROGRESS,)
    known_as = ("EDL", "Dirichlet evidential classification")
    use_when = "the model should say how much it has seen: C / S is its uncertainty"
    beware = "probabilities are alpha / S, not softmax(z), so log loss looks bad; the divergence makes it learn late"
    kl: float = 1.0
    annealing: float = 0.2

    def __post_init__(self) -> None:
        check_nonnegative(self, kl=self.kl)
        check_positive(self, annealing=self.annealing)
        check_share(self, annealing=self.annealing)

    def __call__(self, prediction: Tensor, target: Tensor, *, progress: float) -> Tensor:
        """One value per example."""
        same_shape(prediction, target)
        wide = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        alpha = 1 + functional.softplus(wide)
        total = alpha.sum(-1, keepdim=True)
        mean = alpha / total
        error = ((target - mean).square() + mean * (1 - mean) / (total + 1)).sum(-1, keepdim=True)
        share = self.kl * (torch.zeros_like(error) + progress / self.annealing).clamp(max=1)
        return (error + share * _divergence_from_flat(target + (1 - target) * alpha)).squeeze(-1)


def _divergence_from_flat(alpha: Tensor) -> Tensor:
    """KL from Dir(1) to Dir(alpha), `[..., 1]`."""
    total = alpha.sum(-1, keepdim=True)
    flat = torch.full_like(total, alpha.shape[-1]).lgamma()
    expected = ((alpha - 1) * (alpha.digamma() - total.digamma())).sum(-1, keepdim=True)
    return total.lgamma() - flat - alpha.lgamma().sum(-1, keepdim=True) + expected
