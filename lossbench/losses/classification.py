"""Losses of classes and labels whose optimum is a probability, and losses built on them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, check_index_shape, check_same_shape, is_set
from lossbench.losses.primitives import is_stacked, log_likelihood, mean, one_minus_p, pick_target, sum_last_axis
from lossbench.numerics.softmax import log_softmax
from lossbench.types import Encoding, Requirement, Space
from lossbench.validation import (
    check_at_least,
    check_nonnegative,
    check_positive,
    check_share,
    check_whole,
)

ABOVE_ZERO = 0.05
"""Rounding, in bfloat16 too, may push a log probability above 0 by this much."""


@dataclass(frozen=True)
class BCE(Loss):
    r"""Binary cross-entropy of each output, computed from logits.

    .. math:: \ell(z, y) = -y \log\sigma(z) - (1 - y)\log\sigma(-z)

    prediction, target: ``[..., L]``, logits and 0 or 1. Returns ``[...]``: the mean over L, in nats.
    Raises `InvalidValue` if the shapes differ.
    Reference: Cox, The Regression Analysis of Binary Sequences, 1958, https://doi.org/10.1111/j.2517-6161.1958.tb00292.x
    """

    family = "classification"
    tasks = ("binary", "multilabel")
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT
    aliases = (
        "torch.nn.BCEWithLogitsLoss",
        "torch.nn.BCELoss, which takes probabilities and never exceeds 100",
        "keras.losses.BinaryCrossentropy(from_logits=True), by default of probabilities",
        "sklearn.metrics.log_loss, of probabilities",
        "log loss",
    )
    use_when = "the default: calibrated probabilities, labels mostly right"
    pitfall = "one confidently wrong label costs without bound"
    convex = True
    bounded = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        return mean(functional.binary_cross_entropy_with_logits(prediction, target, reduction="none"))


@dataclass(frozen=True)
class CrossEntropy(Loss):
    r"""The negative log probability of the target class, optionally mixed with that of all classes.

    .. math:: \ell(z, y) = -(1 - \epsilon)\log p_y - \frac{\epsilon}{C}\sum_c \log p_c, \quad p = \text{softmax}(z)

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices, or ``[..., C]`` floats, the share of each class
    (one-hot or soft); label_smoothing :math:`\epsilon` in [0, 1]. Returns ``[...]``, in nats; 0, with
    no gradient, where the index is ignore_index. A mean counts those too (torch's does not). Raises `InvalidValue` if
    the shapes do not fit, label_smoothing is not a share or ignore_index is no whole number.
    Reference: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016,
    https://arxiv.org/abs/1512.00567
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = (
        "torch.nn.CrossEntropyLoss, whose mean leaves ignored targets out",
        "keras.losses.SparseCategoricalCrossentropy(from_logits=True), by default of probabilities",
        "keras.losses.CategoricalCrossentropy(from_logits=True), the same of one-hot targets",
        "optax.losses.softmax_cross_entropy, of one-hot targets",
        "sklearn.metrics.log_loss, of probabilities",
        "softmax loss",
    )
    use_when = "the default: calibrated probabilities, labels mostly right"
    pitfall = "it takes logits: given probabilities it still falls, and learns badly"
    convex = True
    bounded = False
    symmetric = False
    label_smoothing: float = 0.0
    ignore_index: int = -100

    def __post_init__(self) -> None:
        check_share(self, label_smoothing=self.label_smoothing)
        check_whole(self, ignore_index=self.ignore_index)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        logs = log_softmax(prediction)
        soft = target.is_floating_point() and target.shape == prediction.shape
        kept = None if soft else target != self.ignore_index
        # 1. the cross-entropy of shares, where a share of 0 costs 0 even if its logarithm is -inf; or of one class
        if kept is None:
            nll = -torch.where(target == 0, 0, target * logs).sum(-1, keepdim=True)  # [..., 1]
        else:
            nll = -pick_target(logs, torch.where(kept, target, 0))
        # 2. smoothing: (1 - eps) nll - eps mean(log p)
        if is_stacked(self.label_smoothing) or self.label_smoothing > 0:
            nll = nll - self.label_smoothing * (logs.mean(-1, keepdim=True) + nll)
        losses = nll.squeeze(-1)
        # 3. ignored targets cost nothing
        return losses if kept is None else torch.where(kept, losses, 0)


@dataclass(frozen=True)
class Brier(Loss):
    r"""The squared distance between probabilities and what came true.

    .. math:: \ell(p, y) = \sum_c (p_c - y_c)^2

    prediction, target: ``[..., C]``, probabilities and a 1 for the target class among 0 (binary: one column, the
    positive class). Returns ``[...]``, at most 2 (binary: 1). Raises `InvalidValue` if the shapes differ.
    Reference: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950,
    https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """

    family = "classification"
    tasks = ("binary", "multiclass")
    space = Space.PROBABILITY
    encoding = Encoding.ONE_HOT
    aliases = ("sklearn.metrics.brier_score_loss", "mean squared error on probabilities", "quadratic score")
    use_when = "calibrated probabilities are wanted and some labels are wrong"
    pitfall = "the gradient vanishes where the model is confidently wrong, so learning may start slowly"
    convex = True
    bounded = True
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the sum over classes."""
        check_same_shape(prediction, target)
        return (prediction - target).square().sum(-1)


@dataclass(frozen=True)
class Focal(Loss):
    r"""Binary cross-entropy of each output that fades where the output is right already.

    .. math:: \ell = -\alpha_t (1 - p_t)^\gamma \log p_t, \quad p_t = \sigma(z) \;\text{if}\; y = 1,
        \; \sigma(-z) \;\text{otherwise}

    and :math:`\alpha_t` is alpha for positives, 1 - alpha for negatives.

    prediction, target: ``[..., L]``, logits and 0 or 1. Returns ``[...]``: the mean over L, in nats.
    Raises `InvalidValue` if the shapes differ, gamma is negative or alpha is not a share.
    Reference: Lin et al., Focal Loss for Dense Object Detection, 2017, https://arxiv.org/abs/1708.02002
    """

    family = "classification"
    tasks = ("binary", "multilabel")
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT
    aliases = (
        "torchvision.ops.sigmoid_focal_loss, which takes no mean by default",
        "keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True), by default without, and of probabilities",
    )
    use_when = "easy negatives outnumber everything else by far"
    pitfall = "alpha = 0.25 weighs positives down, which suits gamma = 2; and it pulls probabilities towards 1/2"
    bounded = False
    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)
        check_share(self, alpha=self.alpha)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        logit_t = prediction * (2 * target - 1)  # p_t = sigmoid(logit_t)
        # (1 - p)^gamma from log(1 - p) = log_sigmoid(-z): the gradient of x ** gamma is infinite at 0 for gamma < 1
        fading = (self.gamma * functional.logsigmoid(-logit_t)).exp()
        alpha_t = self.alpha * target + (1 - self.alpha) * (1 - target)
        return mean(-alpha_t * fading * functional.logsigmoid(logit_t))


@dataclass(frozen=True)
class FocalSoftmax(Loss):
    r"""Cross-entropy that fades where the target class is right already: the focal loss of a softmax.

    .. math:: \ell = -(1 - p_y)^\gamma\log p_y, \quad p = \text{softmax}(z)

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in nats. Raises `InvalidValue`
    if the shapes do not fit or gamma is negative.
    Reference: Lin et al., Focal Loss for Dense Object Detection, 2017, https://arxiv.org/abs/1708.02002; of a softmax:
    Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, 2020, https://arxiv.org/abs/2002.09437
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = (
        "keras.losses.CategoricalFocalCrossentropy(alpha=1), by default 0.25 times that and of probabilities",
        "kornia.losses.FocalLoss(alpha=None)",
    )
    use_when = "cross_entropy is overconfident, or most examples are easy"
    pitfall = "'focal' elsewhere is often one sigmoid per class (torchvision, monai), as our `focal` is: another loss"
    bounded = False
    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        log_p = log_likelihood(prediction, target)
        return (-(one_minus_p(log_p) ** self.gamma) * log_p).squeeze(-1)


@dataclass(frozen=True)
class AsymmetricSoftmax(Loss):
    r"""Label-smoothed cross-entropy of a softmax, faded by one power for the target and by another for the others.

    .. math:: \ell = -\sum_c t_c\, w_c \log p_c, \quad t_c = (1 - \epsilon)[c = y] + \epsilon / C, \;
        w_y = (1 - p_y)^{\gamma_+}, \; w_c = p_c^{\gamma_-} \;\text{for}\; c \ne y

    with gamma_pos :math:`\gamma_+` and gamma_neg :math:`\gamma_-`. At label_smoothing 0 only the target counts, and it
    is `focal_softmax`.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices; label_smoothing :math:`\epsilon` in [0, 1].
    Returns ``[...]``, in nats. Raises `InvalidValue` if the shapes do not fit, a gamma is negative or label_smoothing
    is not a share.
    Reference: Ridnik et al., Asymmetric Loss For Multi-Label Classification, 2021, https://arxiv.org/abs/2009.14119
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("timm.loss.AsymmetricLossSingleLabel", "ASLSingleLabel of github.com/Alibaba-MIIL/ASL")
    use_when = "as cross_entropy with label_smoothing, where easy examples should fade"
    pitfall = "gamma_neg only acts on the smoothing: without it this is focal_softmax. For labels see asymmetric"
    bounded = False
    gamma_pos: float = 1.0
    gamma_neg: float = 4.0
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma_pos=self.gamma_pos, gamma_neg=self.gamma_neg)
        check_share(self, label_smoothing=self.label_smoothing)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_index_shape(prediction, target)
        logs, index = log_softmax(prediction), target.long().unsqueeze(-1)
        is_target = torch.arange(prediction.shape[-1], device=target.device) == index
        smooth = self.label_smoothing / prediction.shape[-1]
        # t_y = 1 - eps + eps / C, and eps / C for any other class
        of_target = (1 - self.label_smoothing + smooth) * one_minus_p(logs) ** self.gamma_pos
        of_others = smooth * (self.gamma_neg * logs).exp()
        return -(torch.where(is_target, of_target, of_others) * logs).sum(-1)


@dataclass(frozen=True)
class Poly1(Loss):
    r"""Cross-entropy with its first polynomial coefficient enlarged.

    .. math:: \ell = -\log p_y + \epsilon\,(1 - p_y), \quad
        -\log p_y = \textstyle\sum_{j \ge 1}\frac{1}{j}(1 - p_y)^j

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices. Returns ``[...]``, in nats at epsilon 0. Raises
    `InvalidValue` if the shapes do not fit or epsilon is below -1, where the loss would rise with the probability.

    The authors take epsilon = 2 for ImageNet and other values elsewhere: it is to be tuned.
    Reference: Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, 2022,
    https://arxiv.org/abs/2204.12511
    """

    family = "classification"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("optax.losses.poly_loss_cross_entropy", "PolyLoss", "Poly-1 cross-entropy")
    use_when = "cross_entropy with one more knob: above 0 it pushes harder where the target's probability is middling"
    pitfall = "the default differs between libraries (2 here and in optax, 1 elsewhere), and papers tune it"
    bounded = False
    epsilon: float = 2.0

    def __post_init__(self) -> None:
        check_at_least(self, -1, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        log_p = log_likelihood(prediction, target)
        # 1 - p = -expm1(log p)
        return -(log_p + self.epsilon * log_p.expm1()).squeeze(-1)


@dataclass(frozen=True)
class Poly1BCE(Loss):
    r"""Binary cross-entropy of each output with its first polynomial coefficient enlarged.

    .. math:: \ell = -\log p_t + \epsilon\,(1 - p_t), \quad p_t = \sigma(z) \;\text{if}\; y = 1,
        \; \sigma(-z) \;\text{otherwise}

    prediction, target: ``[..., L]``, logits and 0 or 1. Returns ``[...]``: the mean over L, in nats at epsilon 0.
    Raises `InvalidValue` if the shapes differ or epsilon is below -1.
    Reference: Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, 2022,
    https://arxiv.org/abs/2204.12511
    """

    family = "classification"
    tasks = ("binary", "multilabel")
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT
    aliases = ("PolyLoss on sigmoids", "Poly-1 binary cross-entropy")
    use_when = "bce with one more knob: above 0 it pushes harder where a probability is middling"
    pitfall = "epsilon depends on the data: tune it, or keep bce"
    bounded = False
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(self, -1, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        logit_t = prediction * (2 * target - 1)
        # 1 - p_t = sigmoid(-logit_t)
        return mean(self.epsilon * (-logit_t).sigmoid() - functional.logsigmoid(logit_t))


def _make_above_zero_error(highest: Tensor) -> InvalidValue:
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
    aliases = ("torch.nn.NLLLoss", "logarithmic score", "cross_entropy on logits")
    same_as = "cross_entropy"
    use_when = "your own model ends in log_softmax; otherwise use cross_entropy, which it is"
    pitfall = "elsewhere logits are taken without a word, and the loss falls without bound; here they are refused"
    convex = True
    bounded = False
    ignore_index: int = -100

    def __post_init__(self) -> None:
        check_whole(self, ignore_index=self.ignore_index)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_index_shape(prediction, target)
        flat = prediction.reshape(-1, prediction.shape[-1])
        index = target.reshape(-1).long()
        nll = functional.nll_loss(flat, index, reduction="none", ignore_index=self.ignore_index)
        if is_set(nll < -ABOVE_ZERO):
            raise _make_above_zero_error(-nll.min())
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
    aliases = (
        "torch.nn.KLDivLoss(reduction='batchmean'), whose target is probabilities unless log_target is set",
        "keras.losses.KLDivergence, which takes the target first and probabilities for both",
        "scipy.special.rel_entr, to be summed over classes",
    )
    same_as = "cross_entropy"
    use_when = "targets are soft, as from several annotators or a teacher; with hard labels it is cross_entropy"
    pitfall = "torch's default mean divides by the classes too, so it is C times too small"
    convex = True
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the sum over classes."""
        check_same_shape(prediction, target)
        lost = functional.kl_div(prediction, target, reduction="none")
        # where a target is 0 the term is 0, even if log p is -inf, of which torch makes NaN. A pass over the values to
        # see if there is any -inf is cheaper than masking; inside vmap values are hidden, and is_set() returns False
        finite = False
        if prediction.numel() > 0:
            lowest, highest = prediction.detach().aminmax()
            if is_set(highest > ABOVE_ZERO):
                raise _make_above_zero_error(highest)
            finite = is_set(lowest > -torch.inf)
        return sum_last_axis(lost if finite else torch.where(target == 0, 0, lost))


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
    aliases = ("rescaled square loss", "least squares on one-hot targets", "keras.losses.MeanSquaredError of scores")
    use_when = "as an alternative to cross_entropy whose gradient does not saturate"
    pitfall = "scores near 0 and M are no log probabilities: log loss and calibration by softmax look bad"
    convex = True
    bounded = False
    robust = False
    k: float = 1.0
    m: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, k=self.k, m=self.m)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over classes."""
        check_same_shape(prediction, target)
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
    aliases = ("optax.losses.multiclass_sparsemax_loss", "SparsemaxLoss of github.com/deep-spin/entmax")
    use_when = "a margin is wanted with the smoothness of cross-entropy near it"
    pitfall = "its probabilities are sparsemax(z): a softmax of its scores is far too unsure, so log loss looks bad"
    convex = True
    bounded = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_index_shape(prediction, target)
        wide = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        scores = wide - wide.detach().amax(-1, keepdim=True)  # a shift changes neither p nor the loss
        threshold = _sparsemax_threshold(scores)
        p = (scores - threshold).relu()
        # on the support z^2 - tau^2 = p (p + 2 tau), and p sums to 1: the sum is sum p^2 + 2 tau
        target_score = scores.gather(-1, target.long().unsqueeze(-1))
        return ((p.square().sum(-1, keepdim=True) + 1) / 2 + threshold - target_score).squeeze(-1)


def _sparsemax_threshold(scores: Tensor) -> Tensor:
    """Return the tau for which max(0, z - tau) sums to 1, `[..., 1]`."""
    # with the k highest scores as support, tau = (their sum - 1) / k
    ordered = scores.sort(-1, descending=True).values
    sums = ordered.cumsum(-1)
    rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    # the support is the largest k with 1 + k z_(k) > sum of the first k; a NaN leaves none
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
    requires = (Requirement.PROGRESS,)
    aliases = ("EDL", "Dirichlet evidential classification")
    use_when = "the model should say how much it has seen: C / S is its uncertainty"
    pitfall = "probabilities are alpha / S, not softmax(z), so log loss looks bad; the divergence makes it learn late"
    kl: float = 1.0
    annealing: float = 0.2

    def __post_init__(self) -> None:
        check_nonnegative(self, kl=self.kl)
        check_positive(self, annealing=self.annealing)
        check_share(self, annealing=self.annealing)

    def __call__(self, prediction: Tensor, target: Tensor, *, progress: float) -> Tensor:
        """Return one value per example."""
        check_same_shape(prediction, target)
        wide = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        alpha = 1 + functional.softplus(wide)
        total = alpha.sum(-1, keepdim=True)  # S, [..., 1]
        mean = alpha / total  # the expected probabilities, [..., C]
        # bias squared plus variance of each probability
        error = ((target - mean).square() + mean * (1 - mean) / (total + 1)).sum(-1, keepdim=True)
        # the weight of the divergence; 1 in place of the target's alpha leaves the evidence for others
        share = self.kl * (torch.zeros_like(error) + progress / self.annealing).clamp(max=1)
        return (error + share * _dirichlet_kl_from_uniform(target + (1 - target) * alpha)).squeeze(-1)


def _dirichlet_kl_from_uniform(alpha: Tensor) -> Tensor:
    """KL from Dir(1) to Dir(alpha), `[..., 1]`."""
    total = alpha.sum(-1, keepdim=True)
    flat = torch.full_like(total, alpha.shape[-1]).lgamma()
    expected = ((alpha - 1) * (alpha.digamma() - total.digamma())).sum(-1, keepdim=True)
    return total.lgamma() - flat - alpha.lgamma().sum(-1, keepdim=True) + expected
