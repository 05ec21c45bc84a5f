"""Boxes: one box per image."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling, Task
from lossbench.interfaces.task import robust_scale
from lossbench.numerics.boxes import iou
from lossbench.tasks.refusals import make_refusal
from lossbench.types import Array, Encoding, Examples, Head, Picture, Problem, Space

FACTORS = np.geomspace(1 / 3, 3, 15)
"""Multiples of the median width and height that the baseline predictor tries: a larger box overlaps more others."""
MAX_TRIAL_BOXES = 2000
"""The baseline predictor chooses by at most so many training boxes."""
MAX_LOG_FACTOR = math.log(1000 / 16)
"""Sizes lie within this factor (62.5) of the median size either way: the clip of Detectron and torchvision."""


@dataclass(frozen=True)
class Boxes(Task):
    r"""One box per image: targets `[N, 4]`, float corners x1, y1, x2, y2 in pixels, x1 < x2 and y1 < y2.

    Raw output: `[..., 4]`, the deltas u of centre and log size, standardised by median and 1.4826 MAD of the training
    boxes, which outliers do not move. u = 0 is the anchor, the box of the medians:

    .. math:: (c_x, c_y, \log w, \log h) = \mathrm{shift} + \mathrm{scale} \cdot u
    """

    spaces: ClassVar[tuple[Space, ...]] = (Space.VALUE, Space.BOX_XYXY)
    encodings: ClassVar[tuple[Encoding, ...]] = (Encoding.VALUE, Encoding.BOX_XYXY)
    metrics: ClassVar[tuple[str, ...]] = ("mean_iou", "ap_50", "ap_75", "centre_error", "size_error")
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "giou",
        "data": "digit_boxes",
        "model": "cnn_flat",
        "corruption": "box_outliers",
    }
    settings: ClassVar[Mapping[str, float]] = {"epochs": 15, "batch_size": 64, "lr": 0.005}
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "corruption": ("box_outliers", "box_jitter", "box_truncation"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("giou", "iou", "smooth_l1", "ciou")
    picture: ClassVar[Picture] = Picture.BOX
    target_share: ClassVar[float] = 0.6

    def count_outputs(self, examples: Examples) -> int:
        """Return 4; raises `Incompatible` unless the targets are `[N, 4]` floats."""
        targets = examples.targets
        if targets.ndim != 2 or targets.shape[1] != 4 or not np.issubdtype(targets.dtype, np.floating):
            raise Incompatible(
                f"The boxes task takes float targets of shape [N, 4]. Got {targets.dtype} of shape "
                f"{list(targets.shape)}."
            )
        _check_boxes(targets)
        return 4

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return 4."""
        if head not in self.heads:
            raise make_refusal("boxes", head, self.heads)
        return 4

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Return median and 1.4826 MAD of centres and log sizes, `[4]`; the standard deviation where the MAD is 0."""
        return robust_scale(_to_deltas(np.asarray(targets, dtype=np.float64)))

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Return the raw deltas unchanged, or decoded corners, which are finite and strictly ordered."""
        match space:
            case Space.VALUE:
                return raw
            case Space.BOX_XYXY:
                return decode(raw, scaling)
        raise make_refusal("boxes", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the corners `[..., 4]` unchanged, or their standardised deltas."""
        match encoding:
            case Encoding.VALUE:
                low, high = target.chunk(2, -1)
                deltas = torch.cat([(low + high) / 2, (high - low).log()], -1)
                return (deltas - scaling.shift) / scaling.scale
            case Encoding.BOX_XYXY:
                return target.to(scaling.shift.dtype)
        raise make_refusal("boxes", encoding, self.encodings)

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for corners that are not finite or not in order."""
        if encoding not in self.encodings:
            raise make_refusal("boxes", encoding, self.encodings)
        _check_boxes(targets)

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the decoded corners, `[..., 4]`, whatever space the loss takes."""
        return decode(raw, scaling)

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return the best box at the median centre, `[n, 4]`: sizes from 1/3 to 3 times the median size are tried."""
        centre, log_size = np.split(np.median(_to_deltas(targets), axis=0), 2)
        factors = np.array(list(product(FACTORS, FACTORS)))  # [F, 2]
        half = np.exp(log_size) * factors / 2  # half the width and height, [F, 2]
        candidates = torch.from_numpy(np.concatenate([centre - half, centre + half], axis=1))
        overlap = iou(candidates[:, None], torch.from_numpy(targets[:MAX_TRIAL_BOXES])).mean((1, 2))  # mean IoU, [F]
        return np.tile(candidates[overlap.argmax()].numpy(), (n, 1))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Return None: there are no classes."""
        return None


def decode(raw: Tensor, scaling: Scaling) -> Tensor:
    """Turn standardised deltas into corners, `[..., 4]`; sizes stay within a factor of 62.5 of the median size."""
    centre_scale, size_scale = scaling.scale.chunk(2, -1)
    centre_shift, size_shift = scaling.shift.chunk(2, -1)
    centre_delta, size_delta = raw.chunk(2, -1)
    centre = centre_shift + centre_scale * centre_delta
    log_factor = size_scale * size_delta
    # straight-through: the clipped value with the gradient of the unclipped one, so that a size can come back
    log_factor = log_factor.clamp(-MAX_LOG_FACTOR, MAX_LOG_FACTOR).detach() + (log_factor - log_factor.detach())
    size = (size_shift + log_factor).exp()
    # a least size: far from the origin a small box would be lost to rounding in the precision of `raw`
    least = 4 * torch.finfo(raw.dtype).eps * centre.detach().abs()
    half = torch.maximum(size, least) / 2
    return torch.cat([centre - half, centre + half], -1)


def _to_deltas(targets: Array) -> Array:
    """Return centres and log sizes `[N, 4]` of corners."""
    low, high = targets[:, :2], targets[:, 2:]
    return np.concatenate([(low + high) / 2, np.log(high - low)], axis=1)


def _check_boxes(targets: Array) -> None:
    if n := int((~np.isfinite(targets)).sum()):
        raise Incompatible(f"{n} of {targets.size} corner coordinates of the training boxes are not finite.")
    bad = np.flatnonzero((targets[:, 2:] <= targets[:, :2]).any(1))
    if len(bad):
        raise Incompatible(
            f"Boxes are corners x1, y1, x2, y2 with x1 < x2 and y1 < y2. {len(bad)} of {len(targets)} are not: "
            f"example {bad[0]} is {targets[bad[0]].tolist()}."
        )
