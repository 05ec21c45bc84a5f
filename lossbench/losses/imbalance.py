"""Losses for imbalanced classes that need a head of their own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, one_axis_less
from lossbench.losses.classification import log_likelihood
from lossbench.types import Encoding, Head, Need, Space
from lossbench.validation import check_nonnegative, check_positive


@dataclass(frozen=True)
class LDAM(Loss):
    r"""Cross-entropy on scaled cosines, the target's being lowered by a margin that is larger for rarer classes.

    .. math:: \ell = -\log\text{softmax}\big(s\,(\cos\theta_c - \Delta_c\,[c = y])\big)_y, \quad
        \Delta_c = \Delta\,(n_{\min} / n_c)^{1/4}

    The rarest class that has examples gets the full margin :math:`\Delta` (max_margin); one without any gets it too.
    Metrics see the head's scores, 16 times the cosines.

    prediction: ``[..., C]``, head_scale times cosines (the shared cosine head multiplies by 16; give head_scale=1 for
    bare cosines); target: ``[...]`` class indices; class_counts n: ``[..., 1, C]``, of which only the ratios matter.
    Returns ``[...]``, in nats. Raises `InvalidValue` if the shapes do not fit, scale or head_scale is not positive or
    max_margin is negative.
    Reference: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019,
    https://arxiv.org/abs/1906.07413
    """

    family = "imbalance"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    head = Head.COSINE
    needs = (Need.CLASS_COUNTS,)
    known_as = ("LDAMLoss of github.com/kaidic/LDAM-DRW", "label-distribution-aware margin loss")
    use_when = "classes are imbalanced; the authors add class weights late in training (deferred re-weighting)"
    beware = "the cosine head changes more than the margin does, and memorises wrong labels: compare at head=cosine"
    convex = True
    bounded = False
    symmetric = False
    scale: float = 30.0
    max_margin: float = 0.5
    head_scale: float = 16.0

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale, head_scale=self.head_scale)
        check_nonnegative(self, max_margin=self.max_margin)

    def __call__(self, prediction: Tensor, target: Tensor, *, class_counts: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        margin = self.max_margin * _rarity(class_counts.to(prediction.dtype))
        is_target = torch.arange(prediction.shape[-1], device=target.device) == target.unsqueeze(-1)
        cosine = prediction / self.head_scale
        return -log_likelihood(self.scale * (cosine - is_target * margin), target).squeeze(-1)


def _rarity(counts: Tensor) -> Tensor:
    """(n_min / n)^(1/4) over the classes that have examples, 1 for those that have none."""
    present = counts > 0
    fewest = torch.where(present, counts, torch.inf).amin(-1, keepdim=True)
    return torch.where(present, fewest / torch.where(present, counts, 1), 1) ** 0.25
