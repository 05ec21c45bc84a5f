"""Losses on sets of labels: each label decided by itself, or labels set against each other."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import Loss, check_same_shape
from lossbench.losses.primitives import masked_logsumexp, mean, softplus
from lossbench.types import Encoding, Space
from lossbench.validation import check_nonnegative, check_positive, check_share


@dataclass(frozen=True)
class Asymmetric(Loss):
    r"""Binary cross-entropy of each label, faded by one power for positives and by another for negatives.

    .. math:: \ell = -(1 - p)^{\gamma_+}\log p \;\text{if}\; y = 1, \quad
        -p_m^{\gamma_-}\log(1 - p_m) \;\text{otherwise}, \quad p = \sigma(z),\; p_m = \max(p - m, 0)

    with gamma_pos :math:`\gamma_+` and gamma_neg :math:`\gamma_-`. Negatives whose probability is below m (clip) cost
    nothing.

    prediction, target: ``[..., L]``, logits and 0 or 1. Returns ``[...]``: the mean over L, in nats (the authors' code
    takes the sum). Raises `InvalidValue` if the shapes differ, a gamma is negative or clip is not a share.
    Reference: Ridnik et al., Asymmetric Loss for Multi-Label Classification, 2021, https://arxiv.org/abs/2009.14119
    """

    family = "multilabel"
    tasks = ("multilabel",)
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT
    aliases = (
        "timm.loss.AsymmetricLossMultiLabel, by default summed over labels",
        "AsymmetricLoss of github.com/Alibaba-MIIL/ASL, which sums over all",
        "ASL",
    )
    use_when = "few of many labels are positive, and some positives are missing from the targets"
    pitfall = "it pulls probabilities up. Here, as in timm, the fading has a gradient; the authors' code may detach it"
    bounded = False
    gamma_neg: float = 4.0
    gamma_pos: float = 1.0
    clip: float = 0.05

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma_neg=self.gamma_neg, gamma_pos=self.gamma_pos)
        check_share(self, clip=self.clip)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        log_p, log_not_p = functional.logsigmoid(prediction), functional.logsigmoid(-prediction)
        # 1. positives: (1 - p)^gamma_+ log p, the power as exp(gamma log(1 - p)), whose gradient is finite
        positive = (self.gamma_pos * log_not_p).exp() * log_p
        # 2. negatives: p_m^gamma_- log(1 - p_m), and nothing where p_m = max(p - m, 0) is 0
        above = prediction.sigmoid() - self.clip
        counts = above > 0
        fading = (self.gamma_neg * torch.where(counts, above, 1).log()).exp()  # a power of 0 has an infinite gradient
        log_clip = (torch.zeros_like(prediction) + self.clip).log()
        # log(1 - p + m) from logarithms, exact for m = 0 too
        negative = torch.where(counts, fading * torch.logaddexp(log_not_p, log_clip), 0)
        # 3. the mean over labels, of which each is one or the other
        return -mean(target * positive + (1 - target) * negative)


@dataclass(frozen=True)
class MultilabelMargin(Loss):
    r"""The amount by which each positive label's score fails to lead each negative label's by one.

    .. math:: \ell(s, y) = \frac{1}{L}\sum_{i: y_i = 1}\,\sum_{j: y_j = 0}\max(0, 1 - s_i + s_j)

    The sum is divided by L, not by the number of pairs, as torch does. Without a positive or without a negative label
    it is 0.

    prediction, target: ``[..., L]``, scores and 0 or 1. Returns ``[...]``. Raises `InvalidValue` if the shapes differ.
    Reference: Elisseeff and Weston, A Kernel Method for Multi-Labelled Classification, 2001,
    https://papers.nips.cc/paper/2001/hash/39dcaf7a053dc372fbc391d4e6b5d693-Abstract.html
    """

    family = "multilabel"
    tasks = ("multilabel",)
    space = Space.SCORE
    encoding = Encoding.MULTI_HOT
    aliases = (
        "torch.nn.MultiLabelMarginLoss, which takes the positives' indices and then -1",
        "ranking support vector machine loss",
    )
    use_when = "only the order of an example's labels matters"
    pitfall = "it sets no threshold, so F1 suffers. torch's takes lists of indices, and 0 and 1 for such without a word"
    convex = True
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the sum over pairs of a positive and a negative label, divided by L."""
        check_same_shape(prediction, target)
        positive = target > 0.5
        # 1 - s_i + s_j for a positive i and a negative j; -inf for any other pair, which costs nothing
        above, below = torch.where(positive, prediction, torch.inf), torch.where(positive, -torch.inf, prediction)
        shortfall = ((1 + below).unsqueeze(-2) - above.unsqueeze(-1)).relu()
        return shortfall.sum((-2, -1)) / prediction.shape[-1]


@dataclass(frozen=True)
class MultilabelSoftMargin(Loss):
    r"""Binary cross-entropy of each label, under torch's name and as a margin: exactly what `bce` is.

    .. math:: \ell(z, y) = \log\left(1 + e^{-s z}\right), \quad s = 2y - 1

    prediction, target: ``[..., L]``, logits and 0 or 1. Returns ``[...]``: the mean over L, in nats.
    Raises `InvalidValue` if the shapes differ.
    Reference: torch.nn.MultiLabelSoftMarginLoss,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiLabelSoftMarginLoss.html
    """

    family = "multilabel"
    tasks = ("multilabel",)
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT
    aliases = ("torch.nn.MultiLabelSoftMarginLoss", "bce")
    same_as = "bce"
    use_when = "you know it by torch's name; it is bce"
    pitfall = "comparing it with bce compares a loss with itself"
    convex = True
    bounded = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        # -log sigmoid of the logit whose sign goes with the target
        return mean(softplus((1 - 2 * target) * prediction))


@dataclass(frozen=True)
class ZLPR(Loss):
    r"""Every positive label's logit above every negative's, and zero between them.

    .. math:: \ell(z, y) = \log\Big(1 + \sum_{j: y_j = 0} e^{z_j}\Big) + \log\Big(1 + \sum_{i: y_i = 1} e^{-z_i}\Big)

    Zero-bounded log-sum-exp and pairwise rank-based; of a single label it is the binary cross-entropy.

    prediction, target: ``[..., L]``, logits and 0 or 1. Returns ``[...]``, in nats. Raises `InvalidValue` if the
    shapes differ.
    Reference: Su et al., ZLPR: A Novel Loss for Multi-label Classification, 2022, https://arxiv.org/abs/2208.02955
    """

    family = "multilabel"
    tasks = ("multilabel",)
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT
    aliases = ("timm.loss.ZlprLoss", "multilabel categorical cross-entropy", "Circle loss for labels")
    use_when = "few of many labels are positive, and labels of one example compete"
    pitfall = "it is no mean over labels: it grows with the logarithm of their number, so tune the learning rate"
    convex = True
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_same_shape(prediction, target)
        positive = target > 0.5
        above, below = masked_logsumexp(prediction, ~positive), masked_logsumexp(-prediction, positive)
        # log(1 + sum e^z) = softplus(log sum e^z)
        return (softplus(above) + softplus(below)).squeeze(-1)


@dataclass(frozen=True)
class TwoWay(Loss):
    r"""The hardest negative logit against the hardest positive one: over labels of an example, and over the batch.

    .. math:: \ell(z) = \log\left(1 + e^{n + p}\right), \quad n = T_n \log\sum_{y_j = 0} e^{z_j / T_n}, \quad
        p = T_p \log\sum_{y_i = 1} e^{-z_i / T_p}

    with positive_temperature :math:`T_p` and negative_temperature :math:`T_n`,
    once with sums over the labels of each example, and once over the examples for each label. Of both the mean, over
    the examples and over the labels that have a positive (0 if none has), and the two are added.

    prediction, target: ``[..., B, L]``, logits and 0 or 1. Returns ``[...]``, one value per batch, in nats. Raises
    `InvalidValue` if the shapes differ or a temperature is not positive.
    Reference: Kobayashi, Two-Way Multi-Label Loss, 2023,
    https://openaccess.thecvf.com/content/CVPR2023/html/Kobayashi_Two-Way_Multi-Label_Loss_CVPR_2023_paper.html
    """

    family = "multilabel"
    tasks = ("multilabel",)
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT
    batch_level = True
    aliases = ("timm.loss.TwoWayLoss", "TwoWayLoss of github.com/tk1980/TwoWayMultiLabelLoss")
    use_when = "ranking counts (mean average precision): of the labels of an example and of the examples of a label"
    pitfall = "its logits only order: decisions at 0 (F1) and probabilities mean little. It depends on the batch"
    convex = True
    bounded = False
    positive_temperature: float = 4.0
    negative_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_positive(
            self, positive_temperature=self.positive_temperature, negative_temperature=self.negative_temperature
        )

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        check_same_shape(prediction, target)
        positive = target > 0.5
        return self._reduce_along(prediction, positive, -1) + self._reduce_along(prediction, positive, -2)

    def _reduce_along(self, prediction: Tensor, positive: Tensor, axis: int) -> Tensor:
        """Return the mean over the lines along `axis` that have a positive."""
        # a log-sum-exp at temperature T is a soft maximum: over the negatives of z, over the positives of -z
        hard_negative = self.negative_temperature * masked_logsumexp(
            prediction / self.negative_temperature, ~positive, axis
        )
        hard_positive = self.positive_temperature * masked_logsumexp(
            -prediction / self.positive_temperature, positive, axis
        )
        counts = positive.any(axis, keepdim=True)
        losses = torch.where(counts, softplus(hard_negative + hard_positive), 0)
        return losses.sum((-2, -1)) / counts.sum((-2, -1)).clamp_min(1)
