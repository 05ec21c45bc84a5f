"""Losses on the overlap of a batch's predictions with its targets: ratios of counts, and the Lovász extension."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, check_same_shape
from lossbench.types import Encoding, Space
from lossbench.validation import check_nonnegative, check_positive


@dataclass(frozen=True)
class Dice(Loss):
    r"""One minus the Dice coefficient (the F1 score, with probabilities for decisions) over a batch.

    .. math:: \ell = 1 - \frac{2\sum_i p_i y_i + s}{\sum_i p_i + \sum_i y_i + s}

    prediction, target: ``[..., B, L]``, probabilities and 0 or 1; smooth s in examples. Returns ``[...]``, one value
    per batch: the mean over L. Raises `InvalidValue` if the shapes differ or smooth is not positive.
    Reference: Milletari et al., V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation,
    2016, https://arxiv.org/abs/1606.04797 (which squares the terms of the denominator)
    """

    family = "overlap"
    tasks = ("binary", "multilabel")
    space = Space.PROBABILITY
    encoding = Encoding.MULTI_HOT
    batch_level = True
    aliases = (
        "monai.losses.DiceLoss(batch=True), smooth 1e-5 by default",
        "segmentation_models_pytorch.losses.DiceLoss, smooth half of ours and 0 by default, without empty labels",
    )
    use_when = "F1 is what counts and positives are rare"
    pitfall = "it depends on the batch: a label without positives in it says only 'predict fewer', so use large batches"
    bounded = True
    smooth: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, smooth=self.smooth)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        check_same_shape(prediction, target)
        # sums over the batch, [..., 1, L]: the axis stays, for fields
        overlap = (prediction * target).sum(-2, keepdim=True)
        total = (prediction + target).sum(-2, keepdim=True)
        return (1 - (2 * overlap + self.smooth) / (total + self.smooth)).mean(-1).squeeze(-1)


@dataclass(frozen=True)
class SoftF1(Loss):
    r"""One minus the F1 score of each label over a batch, with probabilities for decisions.

    .. math:: \ell = 1 - \frac{2 TP}{2 TP + FP + FN}, \quad TP = \sum_i p_i y_i, \; FP = \sum_i p_i (1 - y_i), \;
        FN = \sum_i (1 - p_i) y_i

    It is what `dice` tends to as its smooth goes to 0. The two part where a label has no positive in the batch: here it
    costs 1 and has no gradient, with smooth it costs less the fewer are predicted.

    prediction, target: ``[..., B, L]``, probabilities and 0 or 1. Returns ``[...]``, one value per batch: the mean over
    L, in [0, 1]. Raises `InvalidValue` if the shapes differ.
    Reference: Bénédict et al., sigmoidF1: A Smooth F1 Score Surrogate Loss for Multilabel Classification, 2021,
    https://arxiv.org/abs/2108.10566
    """

    family = "overlap"
    tasks = ("binary", "multilabel")
    space = Space.PROBABILITY
    encoding = Encoding.MULTI_HOT
    batch_level = True
    aliases = ("macro soft F1", "sigmoidF1 (beta=1, eta=0)")
    use_when = "F1 is what counts, and batches hold positives of every label"
    pitfall = "a label without positives in the batch teaches nothing, and probabilities go to 0 and 1"
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        check_same_shape(prediction, target)
        overlap = (prediction * target).sum(-2)
        total = (prediction + target).sum(-2)  # 2 TP + FP + FN
        return (1 - 2 * overlap / torch.where(total > 0, total, 1)).mean(-1)


@dataclass(frozen=True)
class Tversky(Loss):
    r"""One minus the overlap of a batch, false positives and false negatives being weighed apart.

    .. math:: \ell = 1 - \frac{TP + s}{TP + \alpha\,FP + \beta\,FN + s}, \quad TP = \sum_i p_i y_i, \;
        FP = \sum_i p_i (1 - y_i), \; FN = \sum_i (1 - p_i) y_i

    At alpha = beta = 1/2 it is `dice` with twice the smooth, at alpha = beta = 1 `jaccard`.

    prediction, target: ``[..., B, L]``, probabilities and 0 or 1; smooth s in examples. Returns ``[...]``, one value
    per batch: the mean over L. Raises `InvalidValue` if the shapes differ, alpha or beta is negative or smooth is not
    positive.
    Reference: Salehi et al., Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks,
    2017, https://arxiv.org/abs/1706.05721
    """

    family = "overlap"
    tasks = ("binary", "multilabel")
    space = Space.PROBABILITY
    encoding = Encoding.MULTI_HOT
    batch_level = True
    aliases = (
        "monai.losses.TverskyLoss(batch=True), alpha and beta 1/2 by default",
        "segmentation_models_pytorch.losses.TverskyLoss, 1/2 by default, without empty labels",
        "keras.losses.Tversky, alpha and beta swapped up to 3.15.1",
    )
    use_when = "positives are rare, and missing one is worse than a false alarm (beta above alpha)"
    pitfall = (
        "alpha weighs false positives, beta false negatives; up to keras 3.15.1 the reverse. It depends on the batch"
    )
    bounded = True
    alpha: float = 0.3
    beta: float = 0.7
    smooth: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha, beta=self.beta)
        check_positive(self, smooth=self.smooth)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        check_same_shape(prediction, target)
        # FP = sum p - TP and FN = sum y - TP
        hits, positives = (prediction * target).sum(-2, keepdim=True), target.sum(-2, keepdim=True)
        wrong = self.alpha * (prediction.sum(-2, keepdim=True) - hits) + self.beta * (positives - hits)
        return (1 - (hits + self.smooth) / (hits + wrong + self.smooth)).mean(-1).squeeze(-1)


@dataclass(frozen=True)
class Jaccard(Loss):
    r"""One minus the intersection over the union of a batch's predicted and true positives.

    .. math:: \ell = 1 - \frac{\sum_i p_i y_i + s}{\sum_i p_i + \sum_i y_i - \sum_i p_i y_i + s}

    prediction, target: ``[..., B, L]``, probabilities and 0 or 1; smooth s in examples. Returns ``[...]``, one value
    per batch: the mean over L. Raises `InvalidValue` if the shapes differ or smooth is not positive.
    Reference: Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, 2016,
    https://doi.org/10.1007/978-3-319-50835-1_22
    """

    family = "overlap"
    tasks = ("binary", "multilabel")
    space = Space.PROBABILITY
    encoding = Encoding.MULTI_HOT
    batch_level = True
    aliases = (
        "segmentation_models_pytorch.losses.JaccardLoss",
        "monai.losses.DiceLoss(jaccard=True), half the smooth",
        "soft IoU",
    )
    use_when = "intersection over union is what counts and positives are rare"
    pitfall = "it depends on the batch, as dice; `iou` is the loss of boxes"
    bounded = True
    smooth: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, smooth=self.smooth)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        check_same_shape(prediction, target)
        # |P or T| = |P| + |T| - |P and T|, over the batch: [..., 1, L]
        overlap = (prediction * target).sum(-2, keepdim=True)
        union = (prediction + target).sum(-2, keepdim=True) - overlap
        return (1 - (overlap + self.smooth) / (union + self.smooth)).mean(-1).squeeze(-1)


@dataclass(frozen=True)
class LovaszHinge(Loss):
    r"""The hinge errors of a batch, each weighed by what it costs in intersection over union.

    .. math:: \ell = \sum_i \max(0, m_{(i)})\,\big(J_i - J_{i-1}\big), \quad m = 1 - y s

    with the errors m from large to small, and J_i one minus the intersection over union if the first i examples are
    decided wrongly and all others rightly (J_0 = 0).

    prediction, target: ``[..., B, L]``, scores and -1 or 1. Returns ``[...]``, one value per batch: the mean over L.
    Raises `InvalidValue` if the shapes differ.
    Reference: Berman, Triki and Blaschko, The Lovász-Softmax Loss, 2018, https://arxiv.org/abs/1705.08790; of the
    hinge: Yu and Blaschko, Learning Submodular Losses with the Lovász Hinge, 2015,
    https://proceedings.mlr.press/v37/yub15.html
    """

    family = "overlap"
    tasks = ("binary", "multilabel")
    space = Space.SCORE
    encoding = Encoding.SIGNED
    batch_level = True
    aliases = ("segmentation_models_pytorch.losses.LovaszLoss(mode='binary')", "lovasz_hinge of bermanmaxim")
    use_when = "intersection over union of decisions is what counts"
    pitfall = "without a positive in the batch only the worst error is left; scores are no log odds"
    convex = True
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        check_same_shape(prediction, target)
        # sort the hinge errors of each label from large to small, and the targets with them: [..., B, L]
        errors, order = (1 - target * prediction).sort(-2, descending=True)
        positive = (target > 0).to(prediction.dtype).gather(-2, order)
        return (errors.relu() * _lovasz_gradient(positive)).sum(-2).mean(-1)


def _lovasz_gradient(positive: Tensor) -> Tensor:
    """Return J_i - J_(i-1), by which the i-th wrong example raises the Jaccard loss; sorted 0 and 1, `[..., B, L]`."""
    # with the first i wrong: intersection = positives not among them, union = all positives + negatives among them
    n_positive = positive.sum(-2, keepdim=True)
    jaccard_loss = 1 - (n_positive - positive.cumsum(-2)) / (n_positive + (1 - positive).cumsum(-2)).clamp_min(1)
    return torch.cat([jaccard_loss[..., :1, :], jaccard_loss.diff(dim=-2)], -2)
