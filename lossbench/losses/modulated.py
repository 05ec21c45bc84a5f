"""Cross-entropy with a factor or a term that depends on how sure the prediction is already."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import Loss, one_axis_less, same_shape
from lossbench.losses.classification import log_likelihood
from lossbench.losses.terms import mean
from lossbench.numerics.softmax import log_softmax
from lossbench.types import Encoding, Space
from lossbench.validation import check_at_least, check_nonnegative, check_share


def missing(log_p: Tensor) -> Tensor:
    """One minus a probability, from its logarithm; above 0, so that a power below 1 has a finite gradient."""
    return -log_p.expm1().clamp(max=-torch.finfo(log_p.dtype).tiny)


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
    known_as = (
        "keras.losses.CategoricalFocalCrossentropy(alpha=1), by default 0.25 times that and of probabilities",
        "kornia.losses.FocalLoss(alpha=None)",
    )
    use_when = "cross_entropy is overconfident, or most examples are easy"
    beware = "'focal' elsewhere is often one sigmoid per class (torchvision, monai), as our `focal` is: another loss"
    bounded = False
    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        log_p = log_likelihood(prediction, target)
        return (-(missing(log_p) ** self.gamma) * log_p).squeeze(-1)


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
    known_as = ("timm.loss.AsymmetricLossSingleLabel", "ASLSingleLabel of github.com/Alibaba-MIIL/ASL")
    use_when = "as cross_entropy with label_smoothing, where easy examples should fade"
    beware = "gamma_neg only acts on the smoothing: without it this is focal_softmax. For labels see asymmetric"
    bounded = False
    gamma_pos: float = 1.0
    gamma_neg: float = 4.0
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma_pos=self.gamma_pos, gamma_neg=self.gamma_neg)
        check_share(self, label_smoothing=self.label_smoothing)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        logs, index = log_softmax(prediction), target.long().unsqueeze(-1)
        is_target = torch.arange(prediction.shape[-1], device=target.device) == index
        smooth = self.label_smoothing / prediction.shape[-1]
        own = (1 - self.label_smoothing + smooth) * missing(logs) ** self.gamma_pos
        others = smooth * (self.gamma_neg * logs).exp()
        return -(torch.where(is_target, own, others) * logs).sum(-1)


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
    known_as = ("optax.losses.poly_loss_cross_entropy", "PolyLoss", "Poly-1 cross-entropy")
    use_when = "cross_entropy with one more knob: above 0 it pushes harder where the target's probability is middling"
    beware = "the default differs between libraries (2 here and in optax, 1 elsewhere), and papers tune it"
    bounded = False
    epsilon: float = 2.0

    def __post_init__(self) -> None:
        check_at_least(self, -1, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        log_p = log_likelihood(prediction, target)
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
    known_as = ("PolyLoss on sigmoids", "Poly-1 binary cross-entropy")
    use_when = "bce with one more knob: above 0 it pushes harder where a probability is middling"
    beware = "epsilon depends on the data: tune it, or keep bce"
    bounded = False
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(self, -1, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over L."""
        same_shape(prediction, target)
        logit_t = prediction * (2 * target - 1)
        return mean(self.epsilon * (-logit_t).sigmoid() - functional.logsigmoid(logit_t))
