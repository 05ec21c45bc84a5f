"""Losses on margins: zero where the right answer leads by enough."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, one_axis_less, same_shape
from lossbench.types import Encoding, Space
from lossbench.validation import check_count, check_positive


@dataclass(frozen=True)
class Hinge(Loss):
    r"""What a score lacks of a margin of one.

    .. math:: \ell(s, y) = \max(0, 1 - y s)

    prediction, target: ``[..., L]``, scores and -1 or 1. Returns ``[...]``: the mean over L.
    Raises `InvalidValue` if the shapes differ.
    Reference: Cortes and Vapnik, Support-Vector Networks, 1995, https://doi.org/10.1007/BF00994018
    """

    tasks = ("binary", "multilabel")
    space = Space.SCORE
    encoding = Encoding.SIGNED
    known_as = ("keras.losses.Hinge", "sklearn.metrics.hinge_loss", "support vector machine loss")
    use_when = "only the decision matters, not its probability"
    beware = "scores are no log odds: a probability made of them is not calibrated. Targets are -1 and 1, never 0"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over L."""
        same_shape(prediction, target)
        return (1 - target * prediction).relu().mean(-1)


@dataclass(frozen=True)
class MultiMargin(Loss):
    r"""What the target's score lacks of leading each other class by the margin (Weston and Watkins).

    .. math:: \ell(z, y) = \frac{1}{C}\sum_{c \ne y}\max(0, m - z_y + z_c)^p

    The sum is divided by C, not by C - 1, as torch does.

    prediction: ``[..., C]`` scores; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit, p is neither 1 nor 2, or margin is not positive.
    Reference: Weston and Watkins, Support Vector Machines for Multi-Class Pattern Recognition, 1999,
    https://www.esann.org/sites/default/files/proceedings/legacy/es1999-461.pdf
    """

    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    known_as = ("torch.nn.MultiMarginLoss", "Weston-Watkins hinge")
    use_when = "only the decision between classes matters, not its probability"
    beware = "keras' and optax's multiclass hinge is another: the worst class (Crammer and Singer), not the sum"
    p: int = 1
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_count(self, p=self.p)
        if self.p > 2:
            raise InvalidValue(f"The 'p' parameter of MultiMargin must be 1 or 2. Got {self.p!r} instead.")
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per example."""
        one_axis_less(prediction, target)
        index = target.long().unsqueeze(-1)
        lacking = (self.margin - prediction.gather(-1, index) + prediction).relu() ** self.p
        n_classes = prediction.shape[-1]
        wrong = torch.arange(n_classes, device=target.device) != index
        return torch.where(wrong, lacking, 0).sum(-1) / n_classes
