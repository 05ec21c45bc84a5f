"""Metrics of one box per image, corners x1, y1, x2, y2 in pixels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, is_finite, mask_invalid, widen
from lossbench.numerics.boxes import area, divide, iou, squared_length, to_centre_and_size

_BOXES = ("boxes",)


def _pair(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return widen(prediction), target.to(widen(prediction).dtype)


@dataclass(frozen=True)
class MeanIOU(ExampleMetric):
    """Mean over examples of the intersection over the union of predicted and true box, from 0 to 1.

    Reference: Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, 2010,
    https://doi.org/10.1007/s11263-009-0275-4
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 4]` to `[R, N]`."""
        return mask_invalid(iou(*_pair(prediction, target)).squeeze(-1), is_finite(prediction))


def average_precision(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    r"""COCO's average precision at one IoU threshold, for one box per image without a confidence: `[R, N, 4]` to `[R]`.

    All detections tie, so the curve of precision over recall has one operating point that the model can be held to:
    precision = recall = s, the share of boxes whose IoU reaches the threshold. COCO averages, at the 101 recalls 0,
    0.01, ..., 1, the highest precision from there on, which is s up to recall s and 0 beyond:

    .. math:: \mathrm{AP} = s \, \frac{\lfloor 100 s \rfloor + 1}{101}

    That is what COCO gives if ties are broken against the model, misses before hits. Broken by the order of the rows,
    as its stable sort does, AP would depend on how the file is sorted: with half of the boxes hit, 0.505 if hits come
    first and 0.252 if misses do.
    """
    hits = _hits(prediction, target, threshold).sum(-1)
    n = prediction.shape[-2]
    # in whole numbers: 100 * 0.29 is below 29
    average = hits.to(widen(prediction).dtype) / n * (100 * hits // n + 1) / 101
    return mask_invalid(average, is_finite(prediction).all(-1))


def _hits(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    return iou(*_pair(prediction, target)).squeeze(-1) >= threshold


def _influence(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Of each box on the average precision, `[R, N, 4]` to `[R, N]`: by its slope without steps, (200 s + 1) / 101."""
    hits = _hits(prediction, target, threshold).to(widen(prediction).dtype)
    share = hits.mean(-1, keepdim=True)
    return mask_invalid((hits - share) * (200 * share + 1) / 101, is_finite(prediction).all(-1, keepdim=True))


@dataclass(frozen=True)
class AP50(LinearisedMetric):
    """COCO's average precision at an IoU of 0.5, all confidences being equal: see `average_precision`.

    Reference: Lin et al., Microsoft COCO: Common Objects in Context, 2014, https://arxiv.org/abs/1405.0312
    """

    name: ClassVar[str] = "ap_50"
    tasks: ClassVar[tuple[str, ...]] = _BOXES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 4]` to `[R]`."""
        return average_precision(prediction, target, 0.5)

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 4]` to `[R, N]`."""
        return _influence(prediction, target, 0.5)


@dataclass(frozen=True)
class AP75(LinearisedMetric):
    """COCO's average precision at an IoU of 0.75, all confidences being equal: see `average_precision`.

    Reference: Lin et al., Microsoft COCO: Common Objects in Context, 2014, https://arxiv.org/abs/1405.0312
    """

    name: ClassVar[str] = "ap_75"
    tasks: ClassVar[tuple[str, ...]] = _BOXES
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 4]` to `[R]`."""
        return average_precision(prediction, target, 0.75)

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 4]` to `[R, N]`."""
        return _influence(prediction, target, 0.75)


@dataclass(frozen=True)
class CentreError(ExampleMetric):
    """Mean over examples of the Euclidean distance of the boxes' centres, in pixels: nuScenes' translation error.

    Reference: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, 2020,
    https://arxiv.org/abs/1903.11027
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 4]` to `[R, N]`."""
        prediction, target = _pair(prediction, target)
        offset = to_centre_and_size(prediction)[0] - to_centre_and_size(target)[0]
        return mask_invalid(squared_length(offset).squeeze(-1).sqrt(), is_finite(prediction))


@dataclass(frozen=True)
class SizeError(ExampleMetric):
    """Mean over examples of 1 - IoU of the boxes laid on one centre: nuScenes' scale error, from 0 to 1.

    With the centre error it says whether place or size is wrong. Unlike the logarithm of the ratio of sizes it is
    bounded, so that one box without a width does not decide it.
    Reference: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, 2020,
    https://arxiv.org/abs/1903.11027
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`[R, N, 4]` to `[R, N]`."""
        size, other = (to_centre_and_size(boxes)[1] for boxes in _pair(prediction, target))
        common = area(torch.minimum(size, other))
        aligned = divide(common, area(size) + area(other) - common)
        return mask_invalid(1 - aligned.squeeze(-1), is_finite(prediction))
