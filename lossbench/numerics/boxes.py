"""Geometry of pairs of boxes, given as corners x1, y1, x2, y2 over the last axis, which every result keeps.

So `[..., 4]` becomes `[..., 2]` (x, then y) or `[..., 1]`, and a factor with a 1 for the last axis broadcasts.
"""

import torch
from torch import Tensor

EPS = 1e-12
"""Least divisor, in units squared: what has no area has no share, and a gradient that is finite."""


def share(part: Tensor, whole: Tensor) -> Tensor:
    """`part / whole`; 0 where both are."""
    return part / whole.clamp_min(EPS)


def centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and size, `[..., 2]` each."""
    low, high = boxes.chunk(2, -1)
    return (low + high) / 2, high - low


def area(size: Tensor) -> Tensor:
    """Width times height, `[..., 2]` to `[..., 1]`."""
    return size[..., :1] * size[..., 1:]


def squared(offset: Tensor) -> Tensor:
    """The squared length, `[..., 2]` to `[..., 1]`."""
    return offset.square().sum(-1, keepdim=True)


def overlap(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The areas of intersection and union, `[..., 1]` each."""
    (low, high), (other_low, other_high) = prediction.chunk(2, -1), target.chunk(2, -1)
    common = torch.minimum(high, other_high) - torch.maximum(low, other_low)
    intersection = area(common.relu())  # no gradient at 0, where that of clamp_min depends on torch's version
    return intersection, area(high - low) + area(other_high - other_low) - intersection


def iou(prediction: Tensor, target: Tensor) -> Tensor:
    """Intersection over union, `[..., 1]`; 0 where neither box has an area."""
    return share(*overlap(prediction, target))


def hull(prediction: Tensor, target: Tensor) -> Tensor:
    """Width and height of the smallest box around both, `[..., 2]`."""
    (low, high), (other_low, other_high) = prediction.chunk(2, -1), target.chunk(2, -1)
    return torch.maximum(high, other_high) - torch.minimum(low, other_low)
