"""Losses for wrong labels: bounded or symmetric in the classes, or mixed with what the model itself believes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, one_axis_less
from lossbench.losses.classification import log_likelihood
from lossbench.losses.modulated import missing
from lossbench.numerics.softmax import log_softmax
from lossbench.types import Encoding, Space
from lossbench.validation import check_nonnegative, check_positive, check_share


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
    known_as = ("MAE of the label-noise literature (`mae` here is regression's)", "L1 on softmax")
    use_when = "many labels are wrong, classes are few and training may be long"
    beware = "its gradient vanishes where it is wrong, so it may never learn some classes. Some code has 1 - p_y: half"
    convex = False
    bounded = True
    symmetric = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
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
    known_as = ("RCE", "RCELoss of github.com/HanxunH/Active-Passive-Losses")
    use_when = "as mae_softmax, of which it is a multiple: with adaptive optimisers there is no difference"
    beware = "published code clamps 0 to 1e-4, which makes A 9.21"
    convex = False
    bounded = True
    symmetric = True
    minus_log_zero: float = 4.0

    def __post_init__(self) -> None:
        check_positive(self, minus_log_zero=self.minus_log_zero)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
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
    known_as = ("SCE", "symmetric learning", "poly1 with epsilon = beta A / alpha, times alpha")
    use_when = "some of the labels are wrong, and mae_softmax alone learns too slowly"
    beware = "published code clamps 0 to 1e-4, which makes A 9.21 and not 4; alpha must grow with the classes"
    alpha: float = 0.1
    beta: float = 1.0
    minus_log_zero: float = 4.0

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta)
        check_positive(self, minus_log_zero=self.minus_log_zero)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        log_p = log_likelihood(prediction, target)
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
    known_as = ("soft bootstrapping", "minimum entropy regularisation")
    use_when = "few labels are wrong and the model is right about most of them early"
    beware = "some code detaches the mixture, which is another gradient. At 0.95 it is hardly more than cross_entropy"
    beta: float = 0.95

    def __post_init__(self) -> None:
        check_share(self, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        logs = log_softmax(prediction)
        own = logs.gather(-1, target.long().unsqueeze(-1))
        expected = (logs.exp() * logs).sum(-1, keepdim=True)
        return -(self.beta * own + (1 - self.beta) * expected).squeeze(-1)


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
    known_as = ("hard bootstrapping", "self-labelling with weight 1 - beta")
    use_when = "some labels are wrong and the model is right about most of them early"
    beware = "it trusts the model from the first step on, when its belief is worth nothing yet"
    beta: float = 0.8

    def __post_init__(self) -> None:
        check_share(self, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        logs = log_softmax(prediction)
        own = logs.gather(-1, target.long().unsqueeze(-1))
        return -(self.beta * own + (1 - self.beta) * logs.amax(-1, keepdim=True)).squeeze(-1)


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
    known_as = ("forward loss correction", "F-correction", "noise transition matrix")
    use_when = "it is known how labels go wrong: measured on a part with clean labels, or set by the corruption"
    beware = "it undoes only the noise that it is told of; at (C - 1) / C and above labels say nothing true"
    noise: float = 0.2
    transition: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        check_share(self, noise=self.noise)
        if self.transition not in ((), []) and not _is_transition(self.transition):
            raise InvalidValue(
                "The 'transition' parameter of ForwardCorrection must be a square matrix of shares, each row with the "
                f"sum 1 and each column with a value above 0. Got {self.transition!r} instead."
            )
        # lists come from the command line, and a frozen dataclass must be hashable
        object.__setattr__(self, "transition", tuple(tuple(map(float, row)) for row in self.transition))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        return -(self._by_matrix if self.transition else self._symmetric)(prediction, target).squeeze(-1)

    def _symmetric(self, prediction: Tensor, target: Tensor) -> Tensor:
        log_p = log_likelihood(prediction, target)
        noise = torch.zeros_like(log_p) + self.noise
        others = missing(log_p).log() - math.log(prediction.shape[-1] - 1)
        return torch.logaddexp((1 - noise).log() + log_p, noise.log() + others)

    def _by_matrix(self, prediction: Tensor, target: Tensor) -> Tensor:
        if len(self.transition) != prediction.shape[-1]:
            raise InvalidValue(
                f"The 'transition' parameter of ForwardCorrection has {len(self.transition)} rows, and there are "
                f"{prediction.shape[-1]} classes."
            )
        columns = prediction.new_tensor(self.transition).mT.log()
        return (log_softmax(prediction) + columns[target.long()]).logsumexp(-1, keepdim=True)


def _is_transition(given: Any) -> bool:
    """A square matrix of shares, each row with the sum 1 and each column with a value above 0."""
    try:
        matrix = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):  # no numbers, or rows of several lengths
        return False
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return False
    shares = (matrix >= 0) & (matrix <= 1)
    return bool(shares.all() and (abs(matrix.sum(1) - 1) < 1e-6).all() and (matrix > 0).any(0).all())
