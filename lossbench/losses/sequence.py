"""Losses of transcripts, wherever in the input each token stands, and of texts, each token from those before it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import Incompatible, InvalidValue
from lossbench.interfaces.loss import Loss, check_index_shape, is_set
from lossbench.numerics.softmax import log_softmax
from lossbench.types import BLANK, PADDING, Array, Encoding, Problem, Space
from lossbench.validation import check_nonnegative, check_positive, check_share, check_switch


def _log_softmax_wide(logits: Tensor) -> Tensor:
    half = logits.dtype in {torch.float16, torch.bfloat16}
    return log_softmax(logits.float() if half else logits)  # torch has no CTC in half precision


def _count_tokens(target: Tensor) -> Tensor:
    return (target != PADDING).sum(-1)


def count_steps_needed(target: Tensor) -> Tensor:
    """Return the fewest steps that can put out each transcript: `[..., S]` to `[...]`. Repeats need a blank between."""
    repeats = (target[..., 1:] == target[..., :-1]) & (target[..., 1:] != PADDING)
    return _count_tokens(target) + repeats.sum(-1)


def _check_transcripts(prediction: Tensor, target: Tensor, zero_infinity: bool) -> None:
    # 1. shapes
    if prediction.ndim < 2 or prediction.shape[:-2] != target.shape[:-1]:
        raise InvalidValue(
            f"target must hold one transcript per prediction, shape {[*prediction.shape[:-2], 'S']} for predictions "
            f"{list(prediction.shape)}. Got {list(target.shape)}."
        )
    if prediction.numel() == 0:
        raise InvalidValue(f"CTC takes at least one example, step and token. Got predictions {list(prediction.shape)}.")
    # 2. values: a mask of the wrong transcripts for each reason
    n_steps, n_tokens = prediction.shape[-2:]
    wrong = {
        "holds token 0, which is the blank": (target == BLANK).any(-1),
        f"holds a token that is not below C = {n_tokens}": ((target < PADDING) | (target >= n_tokens)).any(-1),
        "goes on behind its padding": ((target[..., 1:] != PADDING) & (target[..., :-1] == PADDING)).any(-1),
    }
    if not zero_infinity:
        wrong[f"needs more than the {n_steps} steps of its prediction"] = count_steps_needed(target) > n_steps
    if is_set(torch.stack(list(wrong.values()))):  # one look at the values: a GPU waits at each
        reason, where = next((reason, where) for reason, where in wrong.items() if where.any())
        place = where.nonzero()[0].tolist()
        example = f"example {place[0] if len(place) == 1 else place}" if place else "the example"
        raise InvalidValue(f"The target of {example} {reason}. Got {target[tuple(place)].tolist()}.")


def _check_lengths(targets: Array, problem: Problem) -> None:
    needed = count_steps_needed(torch.from_numpy(targets))
    if n := int((needed > problem.n_steps).sum()):
        raise Incompatible(
            f"{n} of {len(targets)} training transcripts need more than the {problem.n_steps} steps that the model "
            f"reads, the longest {int(needed.max())}. Take a model that reads more, leave them out, or ignore them "
            "with loss.zero_infinity=true."
        )


def _ctc_nll(logs: Tensor, target: Tensor, zero_infinity: bool = False) -> Tensor:
    """Return the negative log likelihood, `[..., 1, 1]`, of tokens `[..., S]` by log probabilities `[..., T, C]`.

    Both axes stay, so that fields `[R, 1, 1, 1]` broadcast.
    """
    _check_transcripts(logs, target, zero_infinity)
    leading, (n_steps, n_tokens) = logs.shape[:-2], logs.shape[-2:]
    flat = logs.reshape(-1, n_steps, n_tokens).transpose(0, 1)  # [T, N, C]
    tokens = target.reshape(flat.shape[1], -1)
    steps = torch.full((len(tokens),), n_steps, device=target.device)
    # padded [N, S]: as fast as one long target, which needs a boolean mask
    losses = functional.ctc_loss(
        flat, tokens.clamp_min(BLANK), steps, _count_tokens(tokens), BLANK, "none", zero_infinity=zero_infinity
    )
    return losses.reshape(*leading, 1, 1)


@dataclass(frozen=True)
class CTC(Loss):
    r"""The negative log probability of a transcript, summed over all ways to lay it out over the steps.

    .. math:: \ell = -\log \sum_{\pi\,:\,\mathcal{B}(\pi) = y}\; \prod_t p_t(\pi_t), \quad
        p_t = \text{softmax}(z_t)

    where :math:`\mathcal{B}` merges what is repeated in a path :math:`\pi` and drops its blanks.

    prediction: ``[..., T, C]`` logits, token 0 being the blank; target: ``[..., S]`` tokens from 1, then -1. An empty
    transcript is fine. Returns ``[...]``, in nats per transcript; with per_token divided by its length, as torch's
    `mean` does. A transcript that needs more than T steps costs 0 with zero_infinity. Raises `InvalidValue` if the
    shapes do not fit, the batch is empty, or a target holds the blank, a token not below C, a token behind padding, or
    (without zero_infinity) more than T steps can put out, and if zero_infinity or per_token is neither true nor false.
    Reference: Graves et al., Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent
    Neural Networks, 2006, https://doi.org/10.1145/1143844.1143891
    """

    family = "sequence"
    tasks = ("ctc",)
    space = Space.SEQUENCE_LOGIT
    encoding = Encoding.TOKENS
    aliases = (
        "torch.nn.CTCLoss, which takes log probabilities, steps first, and whose mean is per token",
        "keras.losses.CTC",
        "optax.ctc_loss",
    )
    use_when = "the default for text in images and speech: what is written is known, and not where"
    pitfall = "it first learns to say nothing but blanks, which looks like a training that stands still"
    convex = False
    bounded = False
    zero_infinity: bool = False
    per_token: bool = False

    def __post_init__(self) -> None:
        check_switch(self, zero_infinity=self.zero_infinity, per_token=self.per_token)

    def check(self, targets: Array, problem: Problem) -> None:
        """Raise `Incompatible` for transcripts that need more steps than the model reads, unless they are ignored."""
        if not self.zero_infinity:
            _check_lengths(targets, problem)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        losses = _ctc_nll(_log_softmax_wide(prediction), target, self.zero_infinity)
        losses = losses.squeeze(-1).squeeze(-1)
        return losses / _count_tokens(target).clamp_min(1) if self.per_token else losses


@dataclass(frozen=True)
class FocalCTC(Loss):
    r"""CTC that fades where the transcript is likely already.

    .. math:: \ell = \alpha\,(1 - p)^\gamma\,\text{ctc}, \quad p = e^{-\text{ctc}}

    prediction: ``[..., T, C]`` logits, token 0 being the blank; target: ``[..., S]`` tokens from 1, then -1. Returns
    ``[...]``, in nats per transcript. zero_infinity as for `ctc`. Raises `InvalidValue` as `ctc` does, and if alpha is
    not positive or gamma is negative.
    Reference: Feng et al., Focal CTC Loss for Chinese Optical Character Recognition on Unbalanced Datasets, 2019,
    https://doi.org/10.1155/2019/9345861
    """

    family = "sequence"
    tasks = ("ctc",)
    space = Space.SEQUENCE_LOGIT
    encoding = Encoding.TOKENS
    aliases = ("focal CTC loss",)
    use_when = "some tokens or transcripts are rare, and the frequent ones are read well already"
    pitfall = "p is that of the whole transcript, so it is nearly 0, and nothing fades, until most of it is read"
    bounded = False
    gamma: float = 2.0
    alpha: float = 1.0
    zero_infinity: bool = False

    def __post_init__(self) -> None:
        check_switch(self, zero_infinity=self.zero_infinity)
        check_nonnegative(self, gamma=self.gamma)
        check_positive(self, alpha=self.alpha)

    def check(self, targets: Array, problem: Problem) -> None:
        """Raise `Incompatible` for transcripts that need more steps than the model reads, unless they are ignored."""
        if not self.zero_infinity:
            _check_lengths(targets, problem)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        nll = _ctc_nll(_log_softmax_wide(prediction), target, self.zero_infinity)
        # rounding may leave nll at 0 or just below, where log(1 - p) is not finite; the factor nll is 0 there too
        unlikely = -(-nll.clamp_min(torch.finfo(nll.dtype).eps)).expm1()  # 1 - p
        fading = (self.gamma * unlikely.log()).exp()
        return (self.alpha * fading * nll).squeeze(-1).squeeze(-1)


@dataclass(frozen=True)
class SmoothedCTC(Loss):
    r"""CTC mixed with how far each step's probabilities are from uniform, so that no step is too sure.

    .. math:: \ell = (1 - w)\,\text{ctc} + \frac{w}{T}\sum_t \text{KL}(p_t \,\|\, u), \quad
        \text{KL}(p \,\|\, u) = \log C + \sum_c p_c \log p_c

    The divergence is taken from the prediction to the uniform distribution u over all C tokens, the blank among them,
    so a step adds at most log C. The mean over the steps, as in neural_sp, and not their sum: w then means the same
    for inputs of any length. neural_sp takes C - 1 for C, which lowers the value by log(C / (C - 1)) and changes no
    gradient.

    prediction: ``[..., T, C]`` logits, token 0 being the blank; target: ``[..., S]`` tokens from 1, then -1; smoothing
    w in [0, 1]. Returns ``[...]``, in nats. zero_infinity as for `ctc`. Raises `InvalidValue` as `ctc` does, and if
    smoothing is not a share.
    Reference: Kim et al., Improved Training for Online End-to-end Speech Recognition Systems, 2018,
    https://arxiv.org/abs/1711.02212
    """

    family = "sequence"
    tasks = ("ctc",)
    space = Space.SEQUENCE_LOGIT
    encoding = Encoding.TOKENS
    aliases = ("label-smoothed CTC", "kldiv_lsm_ctc of github.com/hirofumi0810/neural_sp, which adds a constant")
    use_when = "the model is sure of single steps too early, or its confidence is to be used"
    pitfall = "most steps are blanks, and it keeps the model from being sure of those too"
    smoothing: float = 0.1
    zero_infinity: bool = False

    def __post_init__(self) -> None:
        check_switch(self, zero_infinity=self.zero_infinity)
        check_share(self, smoothing=self.smoothing)

    def check(self, targets: Array, problem: Problem) -> None:
        """Raise `Incompatible` for transcripts that need more steps than the model reads, unless they are ignored."""
        if not self.zero_infinity:
            _check_lengths(targets, problem)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        logs = _log_softmax_wide(prediction)
        # KL(p || uniform) = log C + sum_c p_c log p_c of each step, then the mean over steps: [..., 1, 1]
        divergence = (logs.exp() * logs).sum(-1, keepdim=True).mean(-2, keepdim=True) + math.log(logs.shape[-1])
        nll = _ctc_nll(logs, target, self.zero_infinity)
        return ((1 - self.smoothing) * nll + self.smoothing * divergence).squeeze(-1).squeeze(-1)


def _check_tokens(prediction: Tensor, target: Tensor) -> None:
    if prediction.ndim < 2:
        raise InvalidValue(f"prediction must be logits of shape [..., T, C]. Got {list(prediction.shape)}.")
    check_index_shape(prediction, target)
    wrong = (target < PADDING) | (target >= prediction.shape[-1])
    if is_set(wrong):
        raise InvalidValue(
            f"target must hold tokens from 0 to {prediction.shape[-1] - 1}, and {PADDING} where none is. "
            f"Got {target[wrong][0].item()}."
        )


def _next_tokens(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, the token after each (0 for padding), and a mask of those that count: `[..., T - 1, ...]`."""
    _check_tokens(prediction, target)
    following = target[..., 1:].long()
    counts = following != PADDING
    return prediction[..., :-1, :], torch.where(counts, following, 0), counts


def _reduce_tokens(losses: Tensor, counts: Tensor, per_token: bool) -> Tensor:
    """Sum or average losses `[..., T - 1, 1]` over the tokens that count."""
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
    aliases = (
        "next-token cross-entropy",
        "causal language model loss",
        "transformers ForCausalLMLoss",
        "log perplexity",
    )
    use_when = "the default for text and other sequences that are written token by token"
    pitfall = "it shifts by itself: targets shifted before teach it to skip a token"
    convex = True
    bounded = False
    robust = True
    per_token: bool = True

    def __post_init__(self) -> None:
        check_switch(self, per_token=self.per_token)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per sequence."""
        logits, following, counts = _next_tokens(prediction, target)
        nll = -log_softmax(logits).gather(-1, following.unsqueeze(-1))
        return _reduce_tokens(nll, counts, self.per_token)


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
    aliases = ("token-level unlikelihood training", "UL-token of github.com/facebookresearch/unlikelihood_training")
    use_when = "what the model writes repeats itself"
    pitfall = "frequent words are punished too, so perplexity suffers; repeated phrases need the sequence-level part"
    bounded = False
    robust = True
    alpha: float = 1.0
    per_token: bool = True

    def __post_init__(self) -> None:
        check_nonnegative(self, alpha=self.alpha)
        check_switch(self, per_token=self.per_token)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per sequence."""
        logits, following, counts = _next_tokens(prediction, target)
        nll = -log_softmax(logits).gather(-1, following.unsqueeze(-1))
        # the candidates C_t: tokens that stood at any position up to t, but not the next one; padding is no token
        tokens = torch.arange(logits.shape[-1], device=target.device)
        seen = (target[..., :-1].unsqueeze(-1) == tokens).cumsum(-2) > 0  # [..., T - 1, C]
        is_next = tokens == following.unsqueeze(-1)
        repeated = -torch.where(seen & ~is_next, _log_one_minus_p(logits), 0).sum(-1, keepdim=True)
        return _reduce_tokens(nll + self.alpha * repeated, counts, self.per_token)


def _log_one_minus_p(logits: Tensor) -> Tensor:
    """Return log(1 - p) of every token, `[..., C]`, exact also where p rounds to 1."""
    logs = log_softmax(logits)
    is_highest = torch.arange(logits.shape[-1], device=logits.device) == logits.argmax(-1, keepdim=True)
    # 1 - p of the likeliest token is the sum of all others
    others = torch.where(is_highest, torch.finfo(logs.dtype).min, logs).logsumexp(-1, keepdim=True)
    # any other token has at most half, where log1p(-p) is exact; the clamp is for rounding
    return torch.where(is_highest, others, (-logs.exp().clamp_max(0.5)).log1p())
