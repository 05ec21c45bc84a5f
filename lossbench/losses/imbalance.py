"""Losses for classes of very different size."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, check_index_shape, check_same_shape
from lossbench.losses.primitives import log_likelihood, mean
from lossbench.types import Encoding, Head, Requirement, Space
from lossbench.validation import check_nonnegative, check_positive

SMALLEST_SHARE = 1e-6
"""Share of all examples that a class without any is taken to have."""


@dataclass(frozen=True)
class LogitAdjusted(Loss):
    r"""Cross-entropy on logits to which the classes' log frequencies are added, in training only.

    .. math:: \ell = -\log\text{softmax}(z + \tau\log\pi)_y, \quad \pi_c = n_c / \textstyle\sum_k n_k

    At tau = 1 it is the balanced softmax, and the largest logit is the class with the largest balanced accuracy.

    prediction: ``[..., C]`` logits; target: ``[...]`` class indices; class_counts n: ``[..., 1, C]``, of which only the
    ratios matter; a class without examples counts as one in a million. Returns ``[...]``, in nats. Raises
    `InvalidValue` if the shapes do not fit or tau is negative.
    Reference: Menon et al., Long-tail Learning via Logit Adjustment, 2021, https://arxiv.org/abs/2007.07314
    """

    family = "imbalance"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    requires = (Requirement.CLASS_COUNTS,)
    aliases = ("balanced softmax (tau=1)", "logit adjustment")
    use_when = "classes are imbalanced, and all of them should count alike"
    pitfall = "its probabilities are for balanced classes: log loss and calibration on imbalanced data look bad"
    convex = True
    bounded = False
    symmetric = False
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor, *, class_counts: Tensor) -> Tensor:
        """Return one value per example."""
        counts = class_counts.to(prediction.dtype)
        # adding tau log(pi) makes the softmax that of the imbalanced training data
        prior = (counts / counts.sum(-1, keepdim=True)).clamp_min(SMALLEST_SHARE)
        return -log_likelihood(prediction + self.tau * prior.log(), target).squeeze(-1)


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
    requires = (Requirement.CLASS_COUNTS,)
    aliases = ("LDAMLoss of github.com/kaidic/LDAM-DRW", "label-distribution-aware margin loss")
    use_when = "classes are imbalanced; the authors add class weights late in training (deferred re-weighting)"
    pitfall = "the cosine head changes more than the margin does, and memorises wrong labels: compare at head=cosine"
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
        """Return one value per example."""
        check_index_shape(prediction, target)
        # Delta_c = Delta (n_min / n_c)^(1/4), n_min over the classes that have examples; Delta for those without any
        counts = class_counts.to(prediction.dtype)  # [..., 1, C]
        present = counts > 0
        fewest = torch.where(present, counts, torch.inf).amin(-1, keepdim=True)
        margin = self.max_margin * torch.where(present, fewest / torch.where(present, counts, 1), 1) ** 0.25
        is_target = torch.arange(prediction.shape[-1], device=target.device) == target.unsqueeze(-1)
        cosine = prediction / self.head_scale  # the head has multiplied it
        return -log_likelihood(self.scale * (cosine - is_target * margin), target).squeeze(-1)


@dataclass(frozen=True)
class AUCMargin(Loss):
    r"""The square of the amount by which a positive fails to lead a negative by the margin, over all pairs of a batch.

    .. math:: \ell = \frac{1}{n_+ n_-}\sum_{i: y_i = 1}\,\sum_{j: y_j = -1}\max(0, m - s_i + s_j)^2

    A smooth bound on one minus the area under the ROC curve. 0, with no gradient, for a label of which the batch holds
    one class only.

    prediction, target: ``[..., B, L]``, scores and -1 or 1. Returns ``[...]``, one value per batch: the mean over L.
    Raises `InvalidValue` if the shapes differ or margin is not positive.
    Reference: Gao and Zhou, On the Consistency of AUC Pairwise Optimization, 2015, https://arxiv.org/abs/1208.0645
    """

    family = "imbalance"
    tasks = ("binary", "multilabel")
    space = Space.SCORE
    encoding = Encoding.SIGNED
    batch_level = True
    aliases = ("pairwise squared hinge", "libauc.losses.PairwiseAUCLoss(surr_loss='squared_hinge')", "AUC maximisation")
    use_when = "the order of scores counts (auroc), and classes are imbalanced"
    pitfall = (
        "it sets no threshold: accuracy at 0 means little. libauc's PairwiseAUCLoss is logistic by default, AUCMLoss a "
        "min-max form"
    )
    convex = True
    bounded = False
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per batch."""
        check_same_shape(prediction, target)
        scores, positive = prediction.mT, (target > 0).mT  # [..., L, B]
        # m - s_i + s_j for a positive i and a negative j; -inf for any other pair, which costs nothing
        above = torch.where(positive, scores - self.margin, torch.inf)
        below = torch.where(positive, -torch.inf, scores)
        shortfall = (below.unsqueeze(-2) - above.unsqueeze(-1)).relu().square()  # [..., L, B, B]
        n_pairs = positive.sum(-1) * (~positive).sum(-1)
        return mean(shortfall.sum((-2, -1)) / n_pairs.clamp_min(1))
