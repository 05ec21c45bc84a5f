"""Losses on class scores and probabilities, one example at a time."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import Loss, one_axis_less, same_shape
from lossbench.losses.terms import mean, stacked
from lossbench.numerics.softmax import log_softmax, softmax
from lossbench.types import Encoding, Need, Problem, Space
from lossbench.validation import check_nonnegative, check_positive, check_share, check_whole

SMALLEST_SHARE = 1e-6
"""What a class without training examples counts as, of all examples."""
ELR_CLAMP = 1e-4
"""Distance that the authors' code keeps probabilities from 0 and 1."""


def log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """The log probability of each target class, `[..., 1]`: the last axis stays, for fields `[r, 1, 1]`."""
    return _picked(log_softmax(logits), target)


def _picked(logs: Tensor, target: Tensor) -> Tensor:
    one_axis_less(logs, target)
    return logs.gather(-1, target.long().unsqueeze(-1))


def _expected(logs: Tensor, target: Tensor) -> Tensor:
    # where a target is 0 the term is, even if its logarithm is -inf
    return torch.where(target == 0, 0, target * logs).sum(-1, keepdim=True)


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
    known_as = (
        "torch.nn.BCEWithLogitsLoss",
        "torch.nn.BCELoss, which takes probabilities and never exceeds 100",
        "keras.losses.BinaryCrossentropy(from_logits=True), by default of probabilities",
        "sklearn.metrics.log_loss, of probabilities",
        "log loss",
    )
    use_when = "the default: calibrated probabilities, labels mostly right"
    beware = "one confidently wrong label costs without bound"
    convex = True
    bounded = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over L."""
        same_shape(prediction, target)
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
    known_as = (
        "torch.nn.CrossEntropyLoss, whose mean leaves ignored targets out",
        "keras.losses.SparseCategoricalCrossentropy(from_logits=True), by default of probabilities",
        "keras.losses.CategoricalCrossentropy(from_logits=True), the same of one-hot targets",
        "optax.losses.softmax_cross_entropy, of one-hot targets",
        "sklearn.metrics.log_loss, of probabilities",
        "softmax loss",
    )
    use_when = "the default: calibrated probabilities, labels mostly right"
    beware = "it takes logits: given probabilities it still falls, and learns badly"
    convex = True
    bounded = False
    symmetric = False
    label_smoothing: float = 0.0
    ignore_index: int = -100

    def __post_init__(self) -> None:
        check_share(self, label_smoothing=self.label_smoothing)
        check_whole(self, ignore_index=self.ignore_index)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        logs = log_softmax(prediction)
        if target.is_floating_point() and target.shape == prediction.shape:
            return self._smoothed(-_expected(logs, target), logs)
        kept = target != self.ignore_index
        nll = -_picked(logs, torch.where(kept, target, 0))
        return torch.where(kept, self._smoothed(nll, logs), 0)

    def _smoothed(self, nll: Tensor, logs: Tensor) -> Tensor:
        if stacked(self.label_smoothing) or self.label_smoothing > 0:
            nll = nll - self.label_smoothing * (logs.mean(-1, keepdim=True) + nll)
        return nll.squeeze(-1)


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
    known_as = ("keras.losses.CategoricalGeneralizedCrossEntropy, q 0.5 by default", "GCE", "L_q loss")
    use_when = "some of the labels are wrong at random"
    beware = "near q = 1 it hardly learns from what it gets wrong: many classes need a smaller q or more epochs"
    convex = False
    bounded = True
    q: float = 0.7

    def __post_init__(self) -> None:
        check_positive(self, q=self.q)
        check_share(self, q=self.q)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        # p^q from log p: the gradient of p ** q is infinite at p = 0
        return (-(self.q * log_likelihood(prediction, target)).expm1() / self.q).squeeze(-1)


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
    known_as = ("sklearn.metrics.brier_score_loss", "mean squared error on probabilities", "quadratic score")
    use_when = "calibrated probabilities are wanted and some labels are wrong"
    beware = "the gradient vanishes where the model is confidently wrong, so learning may start slowly"
    convex = True
    bounded = True
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The sum over classes."""
        same_shape(prediction, target)
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
    known_as = (
        "torchvision.ops.sigmoid_focal_loss, which takes no mean by default",
        "keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True), by default without, and of probabilities",
    )
    use_when = "easy negatives outnumber everything else by far"
    beware = "alpha = 0.25 weighs positives down, which suits gamma = 2; and it pulls probabilities towards 1/2"
    bounded = False
    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)
        check_share(self, alpha=self.alpha)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over L."""
        same_shape(prediction, target)
        logit_t = prediction * (2 * target - 1)
        # (1 - p)^gamma from log(1 - p) = log_sigmoid(-z): the gradient of x ** gamma is infinite at 0 for gamma < 1
        fading = (self.gamma * functional.logsigmoid(-logit_t)).exp()
        alpha_t = self.alpha * target + (1 - self.alpha) * (1 - target)
        return mean(-alpha_t * fading * functional.logsigmoid(logit_t))


@dataclass(frozen=True)
class LogitAdjusted(Loss):
    r"""Cross-entropy on logits to which the classes' log frequencies are added, in training only.

    .. math:: \ell = -\log\text{softmax}(z + \tau\log\pi)_y, \quad \pi_c = n_c / \textstyle\sum_k n_k

    At tau = 1 it is the balanced softmax, and the largest logit is the class with the largest balanced accuracy.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices; class_counts n: ``[..., 1, C]``, of which only the
    ratios matter; a class without examples counts as one in a million. Returns ``[...]``, in nats. Raises
    `InvalidValue` if the shapes do not fit or tau is negative.
    Reference: Menon et al., Long-tail Learning via Logit Adjustment, 2021, https://arxiv.org/abs/2007.07314
    """

    family = "imbalance"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    needs = (Need.CLASS_COUNTS,)
    known_as = ("balanced softmax (tau=1)", "logit adjustment")
    use_when = "classes are imbalanced, and all of them should count alike"
    beware = "its probabilities are for balanced classes: log loss and calibration on imbalanced data look bad"
    convex = True
    bounded = False
    symmetric = False
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor, *, class_counts: Tensor) -> Tensor:
        """One value per example."""
        counts = class_counts.to(prediction.dtype)
        prior = (counts / counts.sum(-1, keepdim=True)).clamp_min(SMALLEST_SHARE)
        return -log_likelihood(prediction + self.tau * prior.log(), target).squeeze(-1)


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
    needs = (Need.STATE, Need.INDEX)
    known_as = ("elr_loss of github.com/shengliu66/ELR", "early-learning regularization")
    use_when = "labels are wrong and the model would memorise them late in training"
    beware = "it remembers a row per training example, so each must keep its index"
    held_still: ClassVar = {"beta": 1.0}
    beta: float = 0.7
    lam: float = 3.0

    def __post_init__(self) -> None:
        check_share(self, beta=self.beta)
        check_nonnegative(self, lam=self.lam)

    def state(self, problem: Problem) -> Tensor:
        """The running means, from zero: `[n_examples, C]`."""
        return torch.zeros(problem.n_examples, problem.n_outputs)

    def __call__(self, prediction: Tensor, target: Tensor, *, state: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """One value per example, and the next state."""
        nll = -log_likelihood(prediction, target)
        # in the wider of the two types: 1 - 1e-4 is 1 in bfloat16
        wide = torch.promote_types(prediction.dtype, state.dtype)
        p = softmax(prediction.to(wide)).clamp(ELR_CLAMP, 1 - ELR_CLAMP)
        rows = index.unsqueeze(-1).expand(prediction.shape)
        share = (p / p.sum(-1, keepdim=True)).detach()
        mean = self.beta * state.gather(-2, rows) + (1 - self.beta) * share
        reward = (1 - (mean * p).sum(-1, keepdim=True)).log()
        return (nll + self.lam * reward).squeeze(-1), state.scatter(-2, rows, mean.to(state.dtype))
