"""Losses on the overlap of a batch's predictions with its targets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, same_shape
from lossbench.types import Encoding, Space
from lossbench.validation import check_positive


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
    coupled = True
    known_as = (
        "monai.losses.DiceLoss(batch=True), smooth 1e-5 by default",
        "segmentation_models_pytorch.losses.DiceLoss, smooth 0 by default",
    )
    use_when = "F1 is what counts and positives are rare"
    beware = "it depends on the batch: a label without positives in it says only 'predict fewer', so use large batches"
    bounded = True
    smooth: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, smooth=self.smooth)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        same_shape(prediction, target)
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
    coupled = True
    known_as = ("macro soft F1", "sigmoidF1 (beta=1, eta=0)")
    use_when = "F1 is what counts, and batches hold positives of every label"
    beware = "a label without positives in the batch teaches nothing, and probabilities go to 0 and 1"
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per batch."""
        same_shape(prediction, target)
        overlap = (prediction * target).sum(-2)
        total = (prediction + target).sum(-2)  # 2 TP + FP + FN
        return (1 - 2 * overlap / torch.where(total > 0, total, 1)).mean(-1)
