"""Losses on boxes that measure distance in other ways: by its angle, exponentially, between Gaussians, on deltas."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, same_shape
from lossbench.losses.boxes import check_corners
from lossbench.losses.terms import mean
from lossbench.numerics.boxes import centre_size, hull, iou, share, squared
from lossbench.types import Encoding, Space
from lossbench.validation import check_at_least, check_positive


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
    known_as = ("SCYLLA-IoU", "IOUloss(iou_type='siou') of YOLOv6", "mmyolo.IoULoss(iou_mode='siou')")
    use_when = "boxes are far from their targets, and should first come level with them"
    beware = "a diagonal offset costs less than an equally long one along an axis; implementations differ"
    convex = False
    bounded = True
    theta: float = 4.0

    def __post_init__(self) -> None:
        check_at_least(self, 1, theta=self.theta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Per box."""
        check_corners(prediction, target)
        (centre, size), (other_centre, other_size) = centre_size(prediction), centre_size(target)
        distance = angle_distance(centre - other_centre, hull(prediction, target))
        difference = share((size - other_size).abs(), torch.maximum(size, other_size))
        shape = (-(-difference).expm1()).pow(self.theta).sum(-1, keepdim=True)
        return (1 - iou(prediction, target) + (distance + shape) / 2).squeeze(-1)


def angle_distance(offset: Tensor, around: Tensor) -> Tensor:
    """SIoU's distance cost, from offset and enclosing size `[..., 2]` to `[..., 1]`."""
    # sin(2 arcsin x) = 2 x sqrt(1 - x^2), which needs no arcsin and so no infinite slope at 1
    angle = share(2 * offset.abs().prod(-1, keepdim=True), squared(offset))
    shares = share(offset.square(), around.square())
    return -(-(2 - angle) * shares).expm1().sum(-1, keepdim=True)


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
    known_as = ("Wise-IoU v1",)
    use_when = "centres should be pulled in, but not where the overlap is good already"
    beware = "versions 2 and 3 are other losses, with a running mean; disjoint boxes get no pull on their size"
    convex = False
    bounded = True
    held_still: ClassVar = {}

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Per box."""
        check_corners(prediction, target)
        offset = centre_size(prediction)[0] - centre_size(target)[0]
        attention = share(squared(offset), squared(hull(prediction, target)).detach()).exp()
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
    known_as = ("normalized Wasserstein distance loss", "1 - NWD")
    use_when = "tiny boxes, whose IoU jumps with every pixel"
    beware = "it is not scale-invariant: the constant is in the boxes' unit, and far boxes have no gradient"
    convex = False
    bounded = True
    constant: float = 12.8

    def __post_init__(self) -> None:
        check_positive(self, constant=self.constant)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Per box."""
        check_corners(prediction, target)
        (centre, size), (other_centre, other_size) = centre_size(prediction), centre_size(target)
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
    known_as = ("torch.nn.L1Loss on box deltas", "mmdet.L1Loss")
    use_when = "a plain baseline, or some boxes are quite wrong"
    beware = "the four are not the overlap: equal values can mean very different IoU"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean of the absolute differences."""
        same_shape(prediction, target)
        if prediction.shape[-1] != 4:
            raise InvalidValue(f"prediction must hold boxes of shape [..., 4]. Got {tuple(prediction.shape)}.")
        return mean((prediction - target).abs())
