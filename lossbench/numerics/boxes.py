"""Geometry of pairs of boxes, given as corners x1, y1, x2, y2 over the last axis, which every result keeps.

So `[..., 4]` becomes `[..., 2]` (x, then y) or `[..., 1]`, and a factor with a 1 for the last axis broadcasts.
"""

import torch
from torch import Tensor

EPS = 1e-12
"""Smallest divisor, in units squared: boxes without an area have ratios of 0 and finite gradients."""


def divide(part: Tensor, whole: Tensor) -> Tensor:
    """Return `part / whole`, and 0 where both are 0."""
    return part / whole.clamp_min(EPS)


def to_centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Convert corners `[..., 4]` to the centre and the size, `[..., 2]` each."""
    low, high = boxes.chunk(2, -1)
    return (low + high) / 2, high - low


def area(size: Tensor) -> Tensor:
    """Return width times height, `[..., 2]` to `[..., 1]`."""
    return size[..., :1] * size[..., 1:]


def squared_length(offset: Tensor) -> Tensor:
    """Return the squared length of an offset, `[..., 2]` to `[..., 1]`."""
    return offset.square().sum(-1, keepdim=True)


def intersect(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas of intersection and union, `[..., 1]` each."""
    (low, high), (other_low, other_high) = prediction.chunk(2, -1), target.chunk(2, -1)
    common = torch.minimum(high, other_high) - torch.maximum(low, other_low)  # negative where they are apart
    # relu has no gradient at 0, where that of clamp_min depends on torch's version
    intersection = area(common.relu())
    # |P or T| = |P| + |T| - |P and T|
    return intersection, area(high - low) + area(other_high - other_low) - intersection


def iou(prediction: Tensor, target: Tensor) -> Tensor:
    """Return intersection over union, `[..., 1]`; 0 where neither box has an area."""
    return divide(*intersect(prediction, target))


def hull(prediction: Tensor, target: Tensor) -> Tensor:
    """Return width and height of the smallest box around both, `[..., 2]`."""
    (low, high), (other_low, other_high) = prediction.chunk(2, -1), target.chunk(2, -1)
    return torch.maximum(high, other_high) - torch.minimum(low, other_low)
