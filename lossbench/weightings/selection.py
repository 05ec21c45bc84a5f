"""Selection by loss: only the examples of a batch with the smallest losses count."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench.interfaces import Weighting
from lossbench.types import Requirement
from lossbench.validation import check_below_one, check_positive, check_share


def _ramp_up(losses: Tensor, until: float | Tensor, *, progress: float, **_: Any) -> Tensor:
    """Return a factor `[..., 1]` that rises from 0 to 1 as progress goes from 0 to `until`, then stays at 1."""
    return (torch.full_like(losses[..., :1], progress) / until).clamp_max(1)


def _select_smallest(losses: Tensor, share: Tensor) -> Tensor:
    """Return weights `[..., B]` of mean 1 that keep a share `[..., 1]` of the losses, at least one example."""
    n = losses.shape[-1]
    rank = losses.argsort(dim=-1, stable=True).argsort(-1)  # argsort of argsort is the rank, from 0
    n_kept = (share * n).round().clamp_min(1)
    return torch.where(rank < n_kept, n / n_kept, 0)  # n_kept times n / n_kept: the mean is 1


@dataclass(frozen=True)
class Trimmed(Weighting):
    r"""Small-loss selection: the examples of a batch with the largest losses are left out.

    .. math:: w = B / k \;\text{for the}\; k \;\text{smallest losses,}\; 0 \;\text{for others}, \quad
        k = B\,(1 - \tau \min(1, t / \text{ramp}))

    t: share of training done; k is rounded, and at least 1. The mean over the batch is 1: what is minimised is the
    mean over the examples kept.

    tau: the share to leave out, the suspected share of wrong labels; ramp: the share of training by whose end it is
    reached (the paper: 10 of 200 epochs), since a model learns from right labels first. losses: `[..., B]`, of which
    only the order counts. Returns `[..., B]`. Raises `InvalidValue` if tau is not in [0, 1) or ramp not in (0, 1].
    Reference: Han et al., Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels, 2018,
    https://arxiv.org/abs/1804.06872, of which this is the selection, by the model itself and not by a second one;
    Shen and Sanghavi, Learning with Bad Training Data via Iterative Trimmed Loss Minimization, 2019,
    https://arxiv.org/abs/1810.11874
    """

    tasks = ("*",)
    requires = (Requirement.PROGRESS,)
    aliases = ("small-loss trick", "least trimmed squares, with mse")
    use_when = "a known share of labels or targets is wrong"
    pitfall = "rare and hard examples have large losses, too, and are left out with the wrong ones"
    tau: float = 0.2
    ramp: float = 0.05

    def __post_init__(self) -> None:
        check_below_one(self, tau=self.tau)
        check_positive(self, ramp=self.ramp)
        check_share(self, ramp=self.ramp)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the weights of the examples kept."""
        return _select_smallest(losses, 1 - self.tau * _ramp_up(losses, self.ramp, **requires))


@dataclass(frozen=True)
class SelfPaced(Weighting):
    r"""Easy examples first: a growing share of each batch counts, that with the smallest losses.

    .. math:: w = B / k \;\text{for the}\; k \;\text{smallest losses,}\; 0 \;\text{for others}, \quad
        k = B\,(s + (1 - s)\min(1, t / \text{full}))

    t: share of training done; k is rounded, and at least 1. The mean over the batch is 1. The authors compare losses
    with a threshold that grows by a factor; here it is the one that lets the share s + ... pass, so that it means the
    same for all losses.

    start: s, the share at first (the authors: more than half); full: the share of training after which all count.
    losses: `[..., B]`, of which only the order counts. Returns `[..., B]`. Raises `InvalidValue` if start or full is
    not in (0, 1].
    Reference: Kumar, Packer, Koller, Self-Paced Learning for Latent Variable Models, 2010,
    https://papers.nips.cc/paper/2010/hash/e57c6b956a6521b28495f2886ca0977a-Abstract.html
    """

    tasks = ("*",)
    requires = (Requirement.PROGRESS,)
    aliases = ("a curriculum by loss",)
    use_when = "some examples are much harder than others, and training starts badly with all of them"
    pitfall = "in the end all count, wrong labels too: trimmed keeps them out"
    start: float = 0.5
    full: float = 0.8

    def __post_init__(self) -> None:
        check_positive(self, start=self.start, full=self.full)
        check_share(self, start=self.start, full=self.full)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the weights of the examples that count so far."""
        return _select_smallest(losses, self.start + (1 - self.start) * _ramp_up(losses, self.full, **requires))
