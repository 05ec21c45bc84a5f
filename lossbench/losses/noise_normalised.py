"""Losses for wrong labels: divided by their sum over all possible targets, so that this sum is constant."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, one_axis_less
from lossbench.losses.modulated import missing
from lossbench.numerics.softmax import log_softmax
from lossbench.types import Encoding, Space
from lossbench.validation import check_below_one, check_nonnegative, check_positive


def _share(costs: Tensor, target: Tensor) -> Tensor:
    """The target's share in the costs `[..., C]` of all classes, `[..., 1]`."""
    one_axis_less(costs, target)
    total = costs.sum(-1, keepdim=True).clamp_min(torch.finfo(costs.dtype).tiny)  # 0 if all lie below anl_ce's p_min
    return costs.gather(-1, target.long().unsqueeze(-1)) / total


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
    known_as = ("NCE", "NCELoss of github.com/HanxunH/Active-Passive-Losses")
    use_when = "as the active half of nce_rce, nce_mae and anl_ce; alone only to see what the other half adds"
    beware = "it also falls when the other classes' probabilities spread out, so alone it learns slowly and underfits"
    convex = False
    bounded = True
    symmetric = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        return _share(-log_softmax(prediction), target).squeeze(-1)


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
    known_as = ("NFL", "NormalizedFocalLoss of github.com/HanxunH/Active-Passive-Losses")
    use_when = "as normalized_cross_entropy, fading where the target is likely already"
    beware = "alone it underfits. The authors' code takes no gradient through the fading factor; here it flows"
    convex = False
    bounded = True
    symmetric = True
    gamma: float = 0.5

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        logs = log_softmax(prediction)
        return _share(-(missing(logs) ** self.gamma) * logs, target).squeeze(-1)


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
    known_as = ("NCE+RCE", "APL", "NCEandRCE of github.com/HanxunH/Active-Passive-Losses")
    use_when = "many labels are wrong, at random"
    beware = "that code's A is 9.21, not the 4 of the first paper; a published normalised RCE has a wrong (K-1)/4"
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
        """One value per example."""
        active, passive = _active_passive(prediction, target)
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
    known_as = ("NCE+MAE", "APL", "NCEandMAE of github.com/HanxunH/Active-Passive-Losses", "nce_rce with A = 2")
    use_when = "many labels are wrong, at random"
    beware = "the authors' code has 1 - p_y for the error, so their beta is twice ours"
    convex = False
    bounded = True
    symmetric = True
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        active, passive = _active_passive(prediction, target)
        return (self.alpha * active + 2 * self.beta * passive).squeeze(-1)


def _active_passive(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised cross-entropy, and one minus the target's probability: `[..., 1]` each."""
    logs = log_softmax(prediction)
    active = _share(-logs, target)
    return active, -logs.gather(-1, target.long().unsqueeze(-1)).expm1()


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
    known_as = ("ANL-CE", "NCE+NNCE", "github.com/Virusdoll/Active-Negative-Loss")
    use_when = "many labels are wrong, at random, and nce_rce underfits"
    beware = "the authors add an L1 penalty on the weights, which is not here; accuracy is bought with log loss"
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
        """One value per example."""
        logs = log_softmax(prediction)
        lowest = (torch.zeros_like(logs[..., :1]) + self.p_min).log()
        passive = 1 - _share((logs - lowest).relu(), target)
        return (self.alpha * _share(-logs, target) + self.beta * passive).squeeze(-1)
