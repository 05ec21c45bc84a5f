"""Losses of distillation: a student learns from a teacher's logits, and from the label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.losses.primitives import mean
from lossbench.numerics.softmax import log_softmax, softmax
from lossbench.types import Encoding, Space
from lossbench.validation import check_nonnegative, check_positive, check_share

CORRELATION_EPS = 1e-8
"""Added to the product of the two lengths of deviations, as by DIST's authors: what does not vary correlates with 0."""


def _split_teacher(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the student's logits, the teacher's and the one-hot class, `[..., C]` each, no narrower than float32."""
    expected = (*prediction.shape[:-1], 2, prediction.shape[-1])
    if target.shape != expected:
        raise InvalidValue(
            f"target must hold a teacher's logits and a one-hot class, shape {list(expected)} for predictions "
            f"{list(prediction.shape)}. Got {list(target.shape)}."
        )
    # the factor T² makes the rounding of half precision large
    wide = torch.promote_types(prediction.dtype, torch.float32)
    return prediction.to(wide), target[..., 0, :].to(wide), target[..., 1, :].to(wide)


def _cross_entropy(prediction: Tensor, label: Tensor) -> Tensor:
    return -(label * log_softmax(prediction)).sum(-1, keepdim=True)


def _kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL from the student's to the teacher's log probabilities, the axis staying."""
    return (teacher.exp() * (teacher - student)).sum(-1, keepdim=True)


@dataclass(frozen=True)
class Distillation(Loss):
    r"""The label's cross-entropy mixed with the divergence from a teacher's softened probabilities.

    .. math:: \ell = (1 - \alpha)\,\text{CE}(z, y) + \alpha\,T^2\,\text{KL}\big(\text{softmax}(t / T) \,\|\,
        \text{softmax}(z / T)\big)

    T² keeps the size of the second term's gradient as the temperature T changes.

    prediction z: ``[..., C]`` logits; target: ``[..., 2, C]``, the teacher's logits t and below them the one-hot
    class y. Returns ``[...]``, in nats. Raises `InvalidValue` if the shapes do not fit, alpha is not a share or
    temperature is not positive.
    Reference: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015,
    https://arxiv.org/abs/1503.02531
    """

    family = "distillation"
    tasks = ("distillation",)
    space = Space.LOGIT
    encoding = Encoding.TEACHER
    aliases = ("knowledge distillation", "Hinton loss", "soft target loss")
    use_when = "a larger model is there to learn from: the default"
    pitfall = "without T² the teacher fades as T grows; torch's kl_div sums to KL only with reduction='batchmean'"
    convex = True
    bounded = False
    robust = True
    alpha: float = 0.9
    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_share(self, alpha=self.alpha)
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        student, teacher, label = _split_teacher(prediction, target)
        t = self.temperature
        # the gradient of the divergence falls as 1 / T²
        soft = t * t * _kl_divergence(log_softmax(teacher / t), log_softmax(student / t))
        return ((1 - self.alpha) * _cross_entropy(student, label) + self.alpha * soft).squeeze(-1)


@dataclass(frozen=True)
class DKD(Loss):
    r"""Distillation taken apart: how sure the teacher is of the class, and what it says of the others.

    .. math:: \ell = \lambda\,\text{CE}(z, y) + T^2\big(\alpha\,\text{KL}(b^t \,\|\, b^s) +
        \beta\,\text{KL}(\hat p^t \,\|\, \hat p^s)\big)

    b is the pair :math:`(p_y, 1 - p_y)` and :math:`\hat p` the probabilities of the other classes among themselves, of
    the teacher t and the student s at temperature T. With :math:`\beta = \alpha(1 - p^t_y)` it would be what
    `distillation` takes. The authors raise the second part from 0 in the first epochs, which is left out here.

    prediction z: ``[..., C]`` logits, C at least 2; target: ``[..., 2, C]``, the teacher's logits and below them the
    one-hot class y. label_weight is :math:`\lambda`. Returns ``[...]``, in nats. Raises `InvalidValue` if the shapes do
    not fit, alpha, beta or label_weight is negative or temperature is not positive.
    Reference: Zhao et al., Decoupled Knowledge Distillation, 2022, https://arxiv.org/abs/2203.08679
    """

    name = "dkd"
    family = "distillation"
    tasks = ("distillation",)
    space = Space.LOGIT
    encoding = Encoding.TEACHER
    aliases = ("decoupled knowledge distillation", "DKD of github.com/megvii-research/mdistiller")
    use_when = "the teacher is nearly always sure, so that distillation says little of the other classes"
    pitfall = "beta multiplies the gradient: 8 is for a hundred classes and a warm-up, so try less first"
    bounded = False
    robust = True
    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    label_weight: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta, label_weight=self.label_weight)
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        student, teacher, label = _split_teacher(prediction, target)
        t = self.temperature
        theirs, ours = teacher / t, student / t  # [..., C] each
        sure = _kl_divergence(_log_target_against_rest(theirs, label), _log_target_against_rest(ours, label))
        rest = _kl_divergence(_log_rest(theirs, label), _log_rest(ours, label))
        soft = t * t * (self.alpha * sure + self.beta * rest)
        return (self.label_weight * _cross_entropy(student, label) + soft).squeeze(-1)


def _log_target_against_rest(logits: Tensor, label: Tensor) -> Tensor:
    """Log probabilities of the class and of all others together, `[..., 2]`."""
    # log p_y and log(1 - p_y): log-sum-exp over the class alone and over the rest, normalised
    lowest = torch.finfo(logits.dtype).min
    own_class, others = (torch.where(kept, logits, lowest).logsumexp(-1) for kept in (label > 0.5, label <= 0.5))
    return log_softmax(torch.stack([own_class, others], -1))


def _log_rest(logits: Tensor, label: Tensor) -> Tensor:
    """Log probabilities of the other classes among themselves, `[..., C]`; the class itself has next to none."""
    # 1,000 below the highest: its probability is 0 in every precision, and its logarithm finite
    highest = logits.detach().amax(-1, keepdim=True)
    lowest = logits.detach().amin(-1, keepdim=True)
    return log_softmax(torch.where(label > 0.5, 2 * lowest - highest - 1000, logits))


@dataclass(frozen=True)
class DIST(Loss):
    r"""Probabilities that correlate with the teacher's, over the classes of an example and the examples of a class.

    .. math:: \ell = \text{CE}(z, y) + \beta T^2\,\frac{1}{B}\sum_i (1 - \rho(p^s_{i\cdot}, p^t_{i\cdot})) +
        \gamma T^2\,\frac{1}{C}\sum_c (1 - \rho(p^s_{\cdot c}, p^t_{\cdot c}))

    p are probabilities at temperature T, of the student s and the teacher t, and :math:`\rho` is Pearson's correlation,
    which is 0 with what does not vary.

    prediction z: ``[..., B, C]`` logits; target: ``[..., B, 2, C]``, the teacher's logits and below them the one-hot
    class y. Returns ``[...]``, one value per batch. Raises `InvalidValue` if the shapes do not fit, beta or gamma is
    negative or temperature is not positive.
    Reference: Huang et al., Knowledge Distillation from A Stronger Teacher, 2022, https://arxiv.org/abs/2205.10536
    """

    name = "dist"
    family = "distillation"
    tasks = ("distillation",)
    space = Space.LOGIT
    encoding = Encoding.TEACHER
    batch_level = True
    aliases = ("DIST of github.com/hunto/DIST_KD", "correlation distillation")
    use_when = "the teacher is so much stronger that its exact probabilities are out of reach"
    pitfall = "it takes a batch at once: with few examples correlations within a class say little"
    bounded = False
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, beta=self.beta, gamma=self.gamma)
        check_positive(self, temperature=self.temperature)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        student, teacher, label = _split_teacher(prediction, target)
        t = self.temperature
        ours, theirs = softmax(student / t), softmax(teacher / t)
        # over the classes of each example [..., B, 1], over the examples of each class [..., 1, C]
        examples = (1 - _pearson_correlation(ours, theirs, -1)).mean(-2, keepdim=True)
        classes = (1 - _pearson_correlation(ours, theirs, -2)).mean(-1, keepdim=True)
        hard = _cross_entropy(student, label).mean(-2, keepdim=True)
        return (hard + t * t * (self.beta * examples + self.gamma * classes)).squeeze(-1).squeeze(-1)


def _pearson_correlation(a: Tensor, b: Tensor, axis: int) -> Tensor:
    a, b = (x - x.mean(axis, keepdim=True) for x in (a, b))
    lengths = a.norm(dim=axis, keepdim=True) * b.norm(dim=axis, keepdim=True)
    return (a * b).sum(axis, keepdim=True) / (lengths + CORRELATION_EPS)


@dataclass(frozen=True)
class LogitMatching(Loss):
    r"""The squared distance between the student's logits and the teacher's.

    .. math:: \ell = \frac{1}{C}\sum_c (z_c - t_c)^2

    What `distillation` with alpha = 1 tends to, times 2, as its temperature goes to infinity, once the mean over
    classes is taken out of both logits. The label is not looked at.

    prediction z: ``[..., C]`` logits; target: ``[..., 2, C]``, the teacher's logits t and below them the one-hot
    class. Returns ``[...]``. Raises `InvalidValue` if the shapes do not fit.
    Reference: Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014, https://arxiv.org/abs/1312.6184
    """

    family = "distillation"
    tasks = ("distillation",)
    space = Space.LOGIT
    encoding = Encoding.TEACHER
    aliases = ("mean squared error on logits", "logit regression", "mse on logits")
    use_when = "the teacher is to be copied as it is, or there are no labels"
    pitfall = "the loudest logits of the teacher count most, and it copies the teacher's errors as well"
    convex = True
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over classes."""
        student, teacher, _ = _split_teacher(prediction, target)
        return mean((student - teacher).square())
