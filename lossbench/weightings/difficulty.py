"""Weights from how far a prediction is from its label."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench.interfaces import Weighting
from lossbench.numerics.softmax import log_softmax
from lossbench.types import Encoding, Space
from lossbench.validation import check_count, check_nonnegative


def _is_per_label(prediction: Tensor, target: Tensor) -> bool:
    return prediction.ndim == target.ndim  # a class index has no axis of its own


def _one_minus_p(prediction: Tensor, target: Tensor) -> Tensor:
    """Return 1 - p_t, above 0, from logits `[..., B, C]` and indices `[..., B]`, or logits and labels `[..., B, L]`."""
    if _is_per_label(prediction, target):
        # 1 - sigmoid(z) = sigmoid(-z): the sign of the logit turns with the label
        return ((1 - 2 * target) * prediction).sigmoid().clamp_min(torch.finfo(prediction.dtype).tiny)
    # 1 - p = -expm1(log p) keeps the digits of a p near 1
    log_p = log_softmax(prediction).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    # at least tiny: at 0 a power below 1 has an infinite gradient
    return -log_p.expm1().clamp(max=-torch.finfo(log_p.dtype).tiny)


@dataclass(frozen=True)
class Focal(Weighting):
    r"""Examples (or labels) fade where they are right already.

    .. math:: w = (1 - p_t)^\gamma

    p_t is the probability of the target: by softmax in a multiclass task, else by a sigmoid per label. Not normalised,
    so that with `cross_entropy` it is `focal_softmax`, and with `bce` twice `focal` at alpha = 1/2. That holds for the
    gradient, too, as the weight carries one of its own: p_t grows to lower the loss, and also to lower the weight. With
    detach=true the weight is a constant, and the gradient that of the loss, faded.

    prediction: logits `[..., B, C]` or `[..., B, L]`; target: class indices `[..., B]`, or 0 and 1 `[..., B, L]`.
    Returns `[..., B]` or `[..., B, L]`, in [0, 1]. Where labels are weighed the loss must be a mean over labels.
    Raises `InvalidValue` if gamma is negative.
    Reference: Lin et al., Focal Loss for Dense Object Detection, 2017, https://arxiv.org/abs/1708.02002
    """

    tasks = ("binary", "multilabel", "multiclass")
    space = Space.LOGIT
    encodings = (Encoding.MULTI_HOT, Encoding.INDEX)
    differentiable = True
    use_when = "most examples are easy, and you want the focal loss's fading with another loss"
    pitfall = "wrong labels are what fades least; and the sum of weights falls as training goes"
    gamma: float = 2.0
    detach: bool = False

    def __post_init__(self) -> None:
        check_nonnegative(self, gamma=self.gamma)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return weights from the probabilities of the targets."""
        weights: Tensor = _one_minus_p(prediction.detach() if self.detach else prediction, target) ** self.gamma
        return weights.to(losses.dtype)


@dataclass(frozen=True)
class GHM(Weighting):
    r"""Gradient harmonising: examples (or labels) whose gradients are of a common length count less.

    .. math:: w_i = \frac{B}{M\, R(g_i)}, \quad g = |p - y|

    R(g): how many of the batch fall into the same one of `bins` equal parts of [0, 1]; M: the number of parts that
    are not empty. The mean over the batch is 1. So very easy examples and outliers, which are many, both fade.
    Nothing is carried from batch to batch, as in the authors' code at momentum 0.

    prediction: logits `[..., B, L]`; target: 0 and 1, `[..., B, L]`; the parts are counted over all labels of a batch.
    The paper has sigmoids only; of classes, logits `[..., B, C]` and indices `[..., B]`, we take the target's |p - y|,
    1 - p_y. Returns `[..., B, L]` or `[..., B]`. Where labels are weighed the loss must be a mean over labels. Raises
    `InvalidValue` if bins is not a whole number of at least 1.
    Reference: Li, Liu, Wang, Gradient Harmonized Single-stage Detector, 2019, https://arxiv.org/abs/1811.05181
    """

    tasks = ("binary", "multilabel", "multiclass")
    space = Space.LOGIT
    encodings = (Encoding.MULTI_HOT, Encoding.INDEX)
    aliases = ("mmdet.models.losses.GHMC(momentum=0)",)
    use_when = "most examples are very easy, and some of the hardest are wrong"
    pitfall = "a part with one example gets the weight of all: few bins for small batches"
    bins: int = 10

    def __post_init__(self) -> None:
        check_count(self, bins=self.bins)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return weights that fall with the number of gradients of about the same length."""
        # |p - y| = 1 - p_t for labels; all labels of a batch share one histogram: [..., B L], or [..., B] of classes
        lengths = _one_minus_p(prediction, target)
        flat = lengths.flatten(-2) if _is_per_label(prediction, target) else lengths
        # 1. the bin of each length; a length of 1 belongs to the last one
        part = (flat * self.bins).long().clamp(0, self.bins - 1)
        # 2. the number of lengths per bin, [..., bins]
        counts = torch.zeros(*flat.shape[:-1], self.bins, dtype=flat.dtype, device=flat.device)
        counts = counts.scatter_add(-1, part, torch.ones_like(flat))
        # 3. every bin that is not empty gets the same weight, shared by its lengths
        n_filled = (counts > 0).sum(-1, keepdim=True)
        weights = flat.shape[-1] / (n_filled * counts.gather(-1, part))
        return weights.view(lengths.shape).to(losses.dtype)
