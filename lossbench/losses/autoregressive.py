"""Losses of a model that predicts the next token of a sequence from those before it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, any_of, one_axis_less
from lossbench.numerics.softmax import log_softmax
from lossbench.types import PADDING, Encoding, Space
from lossbench.validation import check_nonnegative, check_switch


def _check(prediction: Tensor, target: Tensor) -> None:
    if prediction.ndim < 2:
        raise InvalidValue(f"prediction must be logits of shape [..., T, C]. Got {list(prediction.shape)}.")
    one_axis_less(prediction, target)
    wrong = (target < PADDING) | (target >= prediction.shape[-1])
    if any_of(wrong):
        raise InvalidValue(
            f"target must hold tokens from 0 to {prediction.shape[-1] - 1}, and {PADDING} where none is. "
            f"Got {target[wrong][0].item()}."
        )


def _next(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, the token that comes next after each (0 for padding), and whether one does: `[..., T - 1, ...]`."""
    _check(prediction, target)
    following = target[..., 1:].long()
    counts = following != PADDING
    return prediction[..., :-1, :], torch.where(counts, following, 0), counts


def _over_tokens(losses: Tensor, counts: Tensor, per_token: bool) -> Tensor:
    """Losses `[..., T - 1, 1]`, summed or averaged over the tokens that count."""
    total = torch.where(counts, losses.squeeze(-1), 0).sum(-1)
    return total / counts.sum(-1).clamp_min(1) if per_token else total


@dataclass(frozen=True)
class AutoregressiveNLL(Loss):
    r"""The negative log probability of each token, given those before it.

    .. math:: \ell = -\frac{1}{n}\sum_{t=1}^{T-1} \log\text{softmax}(z_t)_{x_{t+1}}

    The logits at one position are held against the token at the next: the loss shifts, so the target is the very
    sequence that the model has read, and the last logits and the first token are not looked at. Padding, wherever it
    stands, is ignored.

    prediction z: ``[..., T, C]`` logits; target x: ``[..., T]`` tokens from 0, with -1 where none is. Returns
    ``[...]``, in nats per token (n are those from the second on), or with per_token=false per sequence (n = 1); 0, with
    no gradient, where no token follows. Raises `InvalidValue` if the shapes do not fit or a token is not below C.
    Reference: Bengio et al., A Neural Probabilistic Language Model, 2003,
    https://www.jmlr.org/papers/v3/bengio03a.html
    """

    name = "autoregressive_nll"
    family = "sequence"
    tasks = ("autoregressive",)
    space = Space.NEXT_TOKEN
    encoding = Encoding.SEQUENCE
    known_as = (
        "next-token cross-entropy",
        "causal language model loss",
        "transformers ForCausalLMLoss",
        "log perplexity",
    )
    use_when = "the default for text and other sequences that are written token by token"
    beware = "it shifts by itself: targets shifted before teach it to skip a token"
    convex = True
    bounded = False
    robust = True
    per_token: bool = True

    def __post_init__(self) -> None:
        check_switch(self, per_token=self.per_token)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per sequence."""
        logits, following, counts = _next(prediction, target)
        nll = -log_softmax(logits).gather(-1, following.unsqueeze(-1))
        return _over_tokens(nll, counts, self.per_token)


@dataclass(frozen=True)
class Unlikelihood(Loss):
    r"""The negative log probability of each token, and a cost of giving probability to tokens that were there before.

    .. math:: \ell = \frac{1}{n}\sum_{t=1}^{T-1} -\log p_t(x_{t+1}) - \alpha \sum_{c \in C_t}\log(1 - p_t(c)), \quad
        C_t = \{x_1, \dots, x_t\} \setminus \{x_{t+1}\}

    Shifted as `autoregressive_nll` is, which it equals with alpha=0. A token counts once in :math:`C_t`, however often
    it was there. This is the token-level part of the paper.

    prediction: ``[..., T, C]`` logits, p being their softmax; target x: ``[..., T]`` tokens from 0, with -1 where none
    is. Returns ``[...]``, in nats per token, or with per_token=false per sequence (n = 1); 0, with no gradient, where
    no token follows. Raises `InvalidValue` if the shapes do not fit, a token is not below C or alpha is negative.
    Reference: Welleck et al., Neural Text Generation with Unlikelihood Training, 2019,
    https://arxiv.org/abs/1908.04319
    """

    family = "sequence"
    tasks = ("autoregressive",)
    space = Space.NEXT_TOKEN
    encoding = Encoding.SEQUENCE
    known_as = ("token-level unlikelihood training", "UL-token of github.com/facebookresearch/unlikelihood_training")
    use_when = "what the model writes repeats itself"
    beware = "frequent words are punished too, so perplexity suffers; repeated phrases need the sequence-level part"
    bounded = False
    robust = True
    alpha: float = 1.0
    per_token: bool = True

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha)
        check_switch(self, per_token=self.per_token)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value per sequence."""
        logits, following, counts = _next(prediction, target)
        nll = -log_softmax(logits).gather(-1, following.unsqueeze(-1))
        before = _seen(target[..., :-1], logits.shape[-1])
        is_next = torch.arange(logits.shape[-1], device=target.device) == following.unsqueeze(-1)
        repeated = -torch.where(before & ~is_next, _log_not(logits), 0).sum(-1, keepdim=True)
        return _over_tokens(nll + self.alpha * repeated, counts, self.per_token)


def _seen(tokens: Tensor, n_tokens: int) -> Tensor:
    """Whether each token was there up to each position: `[..., T]` to `[..., T, C]`; padding is nowhere."""
    here = tokens.unsqueeze(-1) == torch.arange(n_tokens, device=tokens.device)
    return here.cumsum(-2) > 0


def _log_not(logits: Tensor) -> Tensor:
    """log(1 - p) of every token, also where p rounds to 1: there it is the logarithm of the sum of all others."""
    logs = log_softmax(logits)
    is_highest = torch.arange(logits.shape[-1], device=logits.device) == logits.argmax(-1, keepdim=True)
    others = torch.where(is_highest, torch.finfo(logs.dtype).min, logs).logsumexp(-1, keepdim=True)
    # any other token has at most half
    return torch.where(is_highest, others, (-logs.exp().clamp_max(0.5)).log1p())
