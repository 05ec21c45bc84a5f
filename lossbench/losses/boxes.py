"""Losses of boxes: overlap, centres, sizes and angles, distances between Gaussians and between coordinates.

torchvision's functions index with boolean masks, which a stack on a GPU would wait for and vmap refuses, and their
gradients are NaN for boxes without a height: here the formulas stand on `numerics.boxes`, and the tests compare.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, check_same_shape, is_set
from lossbench.losses.primitives import mean
from lossbench.numerics.boxes import EPS, area, divide, hull, intersect, iou, squared_length, to_centre_and_size
from lossbench.types import Encoding, Space
from lossbench.validation import check_at_least, check_nonnegative, check_positive


def _check_corners(prediction: Tensor, target: Tensor) -> None:
    """Refuse swapped corners, which elsewhere give negative areas in silence, and shapes that differ."""
    check_same_shape(prediction, target)
    for name, boxes in (("prediction", prediction), ("target", target)):
        if boxes.shape[-1] != 4:
            raise InvalidValue(f"{name} must hold boxes of shape [..., 4]. Got {tuple(boxes.shape)}.")
        swapped = (boxes[..., 2:] < boxes[..., :2]).any(-1)
        if is_set(swapped):
            place = swapped.nonzero()[0].tolist()
            raise InvalidValue(
                f"{name} must hold corners x1, y1, x2, y2 with x1 <= x2 and y1 <= y2. "
                f"Got {boxes[tuple(place)].tolist()} for example {place[0] if len(place) == 1 else place}."
            )


@dataclass(frozen=True)
class IOU(Loss):
    r"""One minus the intersection over the union.

    .. math:: \ell = 1 - \frac{|P \cap T|}{|P \cup T|}

    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``, from 0 to 1. Raises
    `InvalidValue` if the shapes differ or corners are swapped.
    Reference: Yu et al., UnitBox: An Advanced Object Detection Network, 2016, https://arxiv.org/abs/1608.01471
    (there the negative logarithm of the IoU)
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("Jaccard loss of boxes", "mmdet.IoULoss(mode='linear')")
    use_when = "the first guess overlaps already, and the metric is the IoU itself"
    pitfall = "no gradient at all where the boxes are disjoint: a bad start never recovers"
    convex = False
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        _check_corners(prediction, target)
        return (1 - iou(prediction, target)).squeeze(-1)


@dataclass(frozen=True)
class AlphaIOU(Loss):
    r"""One minus a power of the intersection over the union.

    .. math:: \ell = 1 - \mathrm{IoU}^\alpha

    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``, from 0 to 1. Raises
    `InvalidValue` if the shapes differ, corners are swapped or alpha is not positive.
    Reference: He et al., Alpha-IoU: A Family of Power Intersection over Union Losses for Bounding Box Regression,
    2021, https://arxiv.org/abs/2110.13675
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("power IoU loss",)
    use_when = "boxes that fit well should fit even better (AP at high thresholds), or labels are a little off"
    pitfall = "above 1 it barely pulls boxes that overlap little, and disjoint ones not at all"
    bounded = True
    alpha: float = 3.0

    def __post_init__(self) -> None:
        check_positive(self, alpha=self.alpha)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        _check_corners(prediction, target)
        overlapping = iou(prediction, target)
        # below alpha = 1 the slope of a power at 0 is infinite: disjoint boxes get 0 without a gradient
        power = overlapping.clamp_min(EPS).pow(self.alpha) * (overlapping > EPS)
        return (1 - power).squeeze(-1)


@dataclass(frozen=True)
class GIOU(Loss):
    r"""The IoU loss plus the share of the smallest enclosing box H that neither box covers.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{|H| - |P \cup T|}{|H|}

    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``, from 0 to 2. Raises
    `InvalidValue` if the shapes differ or corners are swapped.
    Reference: Rezatofighi et al., Generalized Intersection over Union, 2019, https://arxiv.org/abs/1902.09630
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = (
        "torchvision.ops.generalized_box_iou_loss, which takes no mean by default",
        "mmdet.GIoULoss",
        "tfa.losses.GIoULoss",
    )
    use_when = "a safe default: close to the metric, and it pulls disjoint boxes too"
    pitfall = "disjoint boxes first grow until they overlap; inside one another it is the IoU loss"
    convex = False
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        _check_corners(prediction, target)
        intersection, union = intersect(prediction, target)
        around = area(hull(prediction, target))
        # |H| - |P or T| is the area of H that neither box covers
        return (1 - divide(intersection, union) + divide(around - union, around)).squeeze(-1)


def _distance_iou(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the IoU, and the squared distance of the centres over the hull's squared diagonal, `[..., 1]` each."""
    _check_corners(prediction, target)
    offset = to_centre_and_size(prediction)[0] - to_centre_and_size(target)[0]
    return iou(prediction, target), divide(squared_length(offset), squared_length(hull(prediction, target)))


@dataclass(frozen=True)
class DIOU(Loss):
    r"""The IoU loss plus the squared distance of the centres over the squared diagonal of the enclosing box.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{|c_P - c_T|^2}{d_H^2}

    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``, from 0 to 2. Raises
    `InvalidValue` if the shapes differ or corners are swapped.
    Reference: Zheng et al., Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression, 2020,
    https://arxiv.org/abs/1911.08287
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("torchvision.ops.distance_box_iou_loss, which takes no mean by default", "mmdet.DIoULoss")
    use_when = "centres matter, or boxes start far from their targets"
    pitfall = "for disjoint boxes it only moves the centre, and grows the box to widen the diagonal"
    convex = False
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        overlapping, distance = _distance_iou(prediction, target)
        return (1 - overlapping + distance).squeeze(-1)


@dataclass(frozen=True)
class CIOU(Loss):
    r"""The DIoU loss plus a penalty for another aspect ratio.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{|c_P - c_T|^2}{d_H^2} + \alpha v, \quad
        v = \frac{4}{\pi^2}\left(\arctan\frac{w_T}{h_T} - \arctan\frac{w_P}{h_P}\right)^2, \quad
        \alpha = \frac{v}{1 - \mathrm{IoU} + v}

    alpha is a weight without a gradient, as in torchvision. prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in
    any one unit. Returns ``[...]``, from 0 to 3. Raises `InvalidValue` if the shapes differ or corners are swapped.
    Reference: Zheng et al., Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression, 2020,
    https://arxiv.org/abs/1911.08287
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = (
        "torchvision.ops.complete_box_iou_loss, which takes no mean by default",
        "mmdet.CIoULoss, whose alpha is 0 up to an IoU of 1/2",
    )
    use_when = "the shape matters beside place and overlap"
    pitfall = "it compares ratios, not sizes; torchvision's gradient is NaN for a box without a height, and not here"
    convex = False
    bounded = True
    held_still: ClassVar = {}

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        overlapping, distance = _distance_iou(prediction, target)  # [..., 1] each
        # atan2 of a size of 0 is exact, where w / h is infinite; the clamp keeps its gradient from 0 / 0
        boxes = (prediction, target)
        angles = [torch.atan2(*to_centre_and_size(b)[1].clamp_min(EPS).chunk(2, -1)) for b in boxes]
        v = 4 / math.pi**2 * (angles[1] - angles[0]).square()
        alpha = divide(v, 1 - overlapping + v).detach()
        return (1 - overlapping + distance + alpha * v).squeeze(-1)


def _efficient_iou(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the IoU and the EIoU loss, `[..., 1]` each."""
    overlapping, distance = _distance_iou(prediction, target)
    difference = to_centre_and_size(prediction)[1] - to_centre_and_size(target)[1]
    # each side relative to the hull's, then the sum over x and y
    shape = divide(difference.square(), hull(prediction, target).square()).sum(-1, keepdim=True)
    return overlapping, 1 - overlapping + distance + shape


@dataclass(frozen=True)
class EIOU(Loss):
    r"""The DIoU loss plus the squared differences of width and height, as shares of the enclosing box's.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{|c_P - c_T|^2}{d_H^2}
        + \frac{(w_P - w_T)^2}{w_H^2} + \frac{(h_P - h_T)^2}{h_H^2}

    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``, from 0 to 4. Raises
    `InvalidValue` if the shapes differ or corners are swapped.
    Reference: Zhang et al., Focal and Efficient IOU Loss for Accurate Bounding Box Regression, 2021,
    https://arxiv.org/abs/2101.08158
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("efficient IoU loss",)
    use_when = "width and height should be right each by itself, not only their ratio"
    pitfall = "four terms in one sum: its value compares with no other IoU loss. mmdet.EIoULoss is another paper's"
    convex = False
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        return _efficient_iou(prediction, target)[1].squeeze(-1)


@dataclass(frozen=True)
class FocalEIOU(Loss):
    r"""The EIoU loss, weighted by a power of the IoU: boxes that fit well count most.

    .. math:: \ell = \mathrm{IoU}^\gamma \, \ell_\mathrm{EIoU}

    The weight has no gradient, as in common implementations: with one, a smaller overlap would lower the loss.
    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``. Raises `InvalidValue`
    if the shapes differ, corners are swapped or gamma is negative.
    Reference: Zhang et al., Focal and Efficient IOU Loss for Accurate Bounding Box Regression, 2021,
    https://arxiv.org/abs/2101.08158
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("Focal-EIoU",)
    use_when = "gross outliers among the boxes, and first guesses that overlap already"
    pitfall = "disjoint boxes have weight 0 and never move; a smaller value can mean a worse box"
    bounded = True
    held_still: ClassVar = {"gamma": 0.0}
    gamma: float = 0.5

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        overlapping, losses = _efficient_iou(prediction, target)
        # the weight is a constant: with a gradient, less overlap would lower the loss
        return (overlapping.detach().pow(self.gamma) * losses).squeeze(-1)


@dataclass(frozen=True)
class SIOU(Loss):
    r"""The IoU loss plus half the sum of a distance cost, which knows the angle of the way, and a shape cost.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{\Delta + \Omega}{2}, \quad
        \Delta = \sum_{t=x,y} 1 - e^{-(2 - \Lambda)\rho_t}, \quad
        \Omega = \sum_{t=w,h} (1 - e^{-\omega_t})^\theta

    with :math:`\rho_x = (\Delta x / w_H)^2` for the offset :math:`(\Delta x, \Delta y)` of the centres and the
    enclosing box H, :math:`\omega_w = |w_P - w_T| / \max(w_P, w_T)`, likewise for y and h, and the angle cost
    :math:`\Lambda = 1 - 2\sin^2(\arcsin\frac{|\Delta y|}{\sigma} - \frac{\pi}{4}) = 2|\Delta x||\Delta y|/\sigma^2`,
    :math:`\sigma^2 = \Delta x^2 + \Delta y^2`: 0 along an axis, 1 on the diagonal. It is the variant of the paper's
    formulas, with theta 4 as in YOLOv6 and MMYOLO, and with Lambda's gradient.

    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``, from 0 to 3. Raises
    `InvalidValue` if the shapes differ, corners are swapped or theta is not in [1, inf).
    Reference: Gevorgyan, SIoU Loss: More Powerful Learning for Bounding Box Regression, 2022,
    https://arxiv.org/abs/2205.12740
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("SCYLLA-IoU", "IOUloss(iou_type='siou') of YOLOv6", "mmyolo.IoULoss(iou_mode='siou')")
    use_when = "boxes are far from their targets, and should first come level with them"
    pitfall = "a diagonal offset costs less than an equally long one along an axis; implementations differ"
    convex = False
    bounded = True
    theta: float = 4.0

    def __post_init__(self) -> None:
        check_at_least(self, 1, theta=self.theta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        _check_corners(prediction, target)
        (centre, size), (other_centre, other_size) = to_centre_and_size(prediction), to_centre_and_size(target)
        offset = centre - other_centre
        # 1. the angle cost: sin(2 arcsin x) = 2 x sqrt(1 - x^2) needs no arcsin, and so has no infinite slope at 1
        angle = divide(2 * offset.abs().prod(-1, keepdim=True), squared_length(offset))
        # 2. the distance cost, whose exponent the angle lowers, summed over x and y
        shares = divide(offset.square(), hull(prediction, target).square())
        distance = -(-(2 - angle) * shares).expm1().sum(-1, keepdim=True)
        # 3. the shape cost, summed over width and height
        difference = divide((size - other_size).abs(), torch.maximum(size, other_size))
        shape = (-(-difference).expm1()).pow(self.theta).sum(-1, keepdim=True)
        return (1 - iou(prediction, target) + (distance + shape) / 2).squeeze(-1)


@dataclass(frozen=True)
class WIOU(Loss):
    r"""The IoU loss times an exponential of the distance of the centres: "wise" IoU, version 1.

    .. math:: \ell = e^{|c_P - c_T|^2 / d_H^2} \, (1 - \mathrm{IoU})

    The enclosing box's diagonal d has no gradient, as in the paper. Version 1 has no focusing and so no running mean.
    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in any one unit. Returns ``[...]``, from 0 to e. Raises
    `InvalidValue` if the shapes differ or corners are swapped.
    Reference: Tong et al., Wise-IoU: Bounding Box Regression Loss with Dynamic Focusing Mechanism, 2023,
    https://arxiv.org/abs/2301.10051
    """

    name = "wiou_v1"
    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("Wise-IoU v1",)
    use_when = "centres should be pulled in, but not where the overlap is good already"
    pitfall = "versions 2 and 3 are other losses, with a running mean; disjoint boxes get no pull on their size"
    convex = False
    bounded = True
    held_still: ClassVar = {}

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        _check_corners(prediction, target)
        offset = to_centre_and_size(prediction)[0] - to_centre_and_size(target)[0]
        # the hull's diagonal is a constant: with a gradient the box would grow to lower the loss
        attention = divide(squared_length(offset), squared_length(hull(prediction, target)).detach()).exp()
        return (attention * (1 - iou(prediction, target))).squeeze(-1)


@dataclass(frozen=True)
class NWD(Loss):
    r"""One minus the normalised Wasserstein distance of the boxes, taken as Gaussians.

    .. math:: \ell = 1 - e^{-W_2 / C}, \quad
        W_2^2 = |c_P - c_T|^2 + \frac{(w_P - w_T)^2 + (h_P - h_T)^2}{4}

    A box is the normal distribution with its centre as mean and half its sizes as standard deviations.
    prediction, target: ``[..., 4]`` corners x1, y1, x2, y2 in the unit of ``constant`` C (pixels): about the mean size
    of the boxes (12.8 in AI-TOD). Returns ``[...]``, from 0 to 1. Raises `InvalidValue` if the shapes differ, corners
    are swapped or the constant is not positive.
    Reference: Wang et al., A Normalized Gaussian Wasserstein Distance for Tiny Object Detection, 2021,
    https://arxiv.org/abs/2110.13389
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.BOX_XYXY
    encoding = Encoding.BOX_XYXY
    aliases = ("normalized Wasserstein distance loss", "1 - NWD")
    use_when = "tiny boxes, whose IoU jumps with every pixel"
    pitfall = "it is not scale-invariant: the constant is in the boxes' unit, and far boxes have no gradient"
    convex = False
    bounded = True
    constant: float = 12.8

    def __post_init__(self) -> None:
        check_positive(self, constant=self.constant)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per box."""
        _check_corners(prediction, target)
        (centre, size), (other_centre, other_size) = to_centre_and_size(prediction), to_centre_and_size(target)
        # the distance of the Gaussians is that of the vectors (centre, size / 2): [..., 4]
        difference = torch.cat([centre - other_centre, (size - other_size) / 2], -1)
        # the norm's gradient at 0 is 0, where that of a root of a sum is NaN
        distance = torch.linalg.vector_norm(difference, dim=-1, keepdim=True)
        return (-(-distance / self.constant).expm1()).squeeze(-1)


@dataclass(frozen=True)
class L1(Loss):
    r"""The absolute error of a box's standardised centre and log size.

    .. math:: \ell = \frac{1}{4}\sum_{i} |p_i - t_i|

    prediction, target: ``[..., 4]`` deltas cx, cy, log w, log h, standardised by the training boxes. Returns
    ``[...]``: the mean over the four. Raises `InvalidValue` if the shapes differ or are not ``[..., 4]``.
    Reference: Girshick, Fast R-CNN, 2015, https://arxiv.org/abs/1504.08083 (there smoothed near zero)
    """

    family = "boxes"
    tasks = ("boxes",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("torch.nn.L1Loss on box deltas", "mmdet.L1Loss")
    use_when = "a plain baseline, or some boxes are quite wrong"
    pitfall = "the four are not the overlap: equal values can mean very different IoU"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the absolute differences."""
        check_same_shape(prediction, target)
        if prediction.shape[-1] != 4:
            raise InvalidValue(f"prediction must hold boxes of shape [..., 4]. Got {tuple(prediction.shape)}.")
        return mean((prediction - target).abs())
