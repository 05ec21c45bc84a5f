"""Metrics of one box per image, corners x1, y1, x2, y2 in pixels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, is_finite, mask_invalid, widen
from lossbench.numerics.boxes import area, divide, iou, squared_length, to_centre_and_size

_BOXES = ("boxes",)


def _widen_both(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the same floating-point type, at least single precision."""
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
        """Return a score per example: `[R, N, 4]` to `[R, N]`."""
        return mask_invalid(iou(*_widen_both(prediction, target)).squeeze(-1), is_finite(prediction))


def average_precision(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    r"""Return COCO's average precision at one IoU threshold, for one box per image: `[R, N, 4]` to `[R]`.

    Boxes have no confidence, so all detections tie and the curve of precision over recall has a single point:
    precision = recall = s, the share of boxes whose IoU reaches the threshold. COCO averages the highest precision at
    or beyond each of the 101 recalls 0, 0.01, ..., 1, which is s up to recall s and 0 beyond:

    .. math:: \mathrm{AP} = s \, \frac{\lfloor 100 s \rfloor + 1}{101}

    COCO gives the same value if ties are broken against the model, misses before hits. Its stable sort breaks them by
    the order of the file, so that AP would depend on that order: if half of the boxes are hits, AP is 0.505 with hits
    first and 0.252 with misses first.
    """
    hits = _find_hits(prediction, target, threshold).sum(-1)  # [R]
    n = prediction.shape[-2]
    # 100 s in whole numbers: the float 100 * 0.29 is below 29
    average = hits.to(widen(prediction).dtype) / n * (100 * hits // n + 1) / 101
    return mask_invalid(average, is_finite(prediction).all(-1))


def _find_hits(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    return iou(*_widen_both(prediction, target)).squeeze(-1) >= threshold


def _compute_influence(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Return the influence of each box on the average precision: `[R, N, 4]` to `[R, N]`.

    The floor in AP(s) is left out: AP is then about s (100 s + 1) / 101, and its slope (200 s + 1) / 101.
    """
    hits = _find_hits(prediction, target, threshold).to(widen(prediction).dtype)
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
        """Return the metric: `[R, N, 4]` to `[R]`."""
        return average_precision(prediction, target, 0.5)

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, 4]` to `[R, N]`."""
        return _compute_influence(prediction, target, 0.5)


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
        """Return the metric: `[R, N, 4]` to `[R]`."""
        return average_precision(prediction, target, 0.75)

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence: `[R, N, 4]` to `[R, N]`."""
        return _compute_influence(prediction, target, 0.75)


@dataclass(frozen=True)
class CentreError(ExampleMetric):
    """Mean over examples of the Euclidean distance of the boxes' centres, in pixels: nuScenes' translation error.

    Reference: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, 2020,
    https://arxiv.org/abs/1903.11027
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a score per example: `[R, N, 4]` to `[R, N]`."""
        prediction, target = _widen_both(prediction, target)
        offset = to_centre_and_size(prediction)[0] - to_centre_and_size(target)[0]
        return mask_invalid(squared_length(offset).squeeze(-1).sqrt(), is_finite(prediction))


@dataclass(frozen=True)
class SizeError(ExampleMetric):
    """Mean over examples of 1 - IoU of the boxes moved to a common centre: nuScenes' scale error, from 0 to 1.

    Together with the centre error it separates errors of place from errors of size. Unlike the logarithm of the ratio
    of sizes it is bounded, so that a single box without width does not dominate the mean.
    Reference: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, 2020,
    https://arxiv.org/abs/1903.11027
    """

    tasks: ClassVar[tuple[str, ...]] = _BOXES
    higher_is_better: ClassVar[bool] = False

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a score per example: `[R, N, 4]` to `[R, N]`."""
        size, target_size = (to_centre_and_size(boxes)[1] for boxes in _widen_both(prediction, target))
        intersection = area(torch.minimum(size, target_size))
        aligned = divide(intersection, area(size) + area(target_size) - intersection)
        return mask_invalid(1 - aligned.squeeze(-1), is_finite(prediction))
