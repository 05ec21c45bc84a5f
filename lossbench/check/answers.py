"""Predictions that are right and wrong, for a loss's space and the targets of a call."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossbench.check.contract import NotApplicable
from lossbench.check.samples import PAIRS, VALUES, C, Call, T
from lossbench.interfaces.loss import Loss
from lossbench.types import BLANK, EMBEDDING_WIDTH, PADDING, Encoding, Space

SURE = 4.0
"""A logit, or a score, of someone who is rather sure."""
OFF = 2.0
"""How far off a wrong value is, in standard deviations of the samples."""
SHIFT = 0.1
"""How far a wrong box lies from the right one, which it overlaps."""
CLASSES = (Space.LOGIT, Space.SCORE, Space.PROBABILITY, Space.LOG_PROBABILITY)
HOT = (Encoding.ONE_HOT, Encoding.MULTI_HOT, Encoding.SIGNED)


class Answers(NamedTuple):
    """Predictions `[B, ...]` for the same targets."""

    right: Tensor
    wrong: Tensor


def of_classes(loss: Loss) -> bool:
    """Whether it takes a prediction per class, and a class or labels."""
    return loss.space in CLASSES and loss.encoding in (*HOT, Encoding.INDEX)


def answers(loss: Loss, call: Call) -> Answers:
    """Right and wrong predictions for the call's targets, or `NotApplicable`."""
    if of_classes(loss):
        return Answers(sure(loss, call.target), sure(loss, other(loss, call.target)))
    if loss.space in VALUES:
        return Answers(_valued(loss, call.target, 0.0), _valued(loss, call.target, OFF))
    if loss.space is Space.EMBEDDING and loss.encoding is Encoding.INDEX:
        return _embedded(call)
    known: dict[tuple[Space, Encoding], Callable[[Tensor], Answers]] = {
        (Space.BOX_XYXY, Encoding.BOX_XYXY): lambda boxes: Answers(boxes, boxes + SHIFT),
        (Space.SEQUENCE_LOGIT, Encoding.TOKENS): _transcribed,
        (Space.NEXT_TOKEN, Encoding.SEQUENCE): _continued,
        (Space.LIST_SCORE, Encoding.RELEVANCE): lambda grades: Answers(grades, -grades),
        (Space.PAIR_SCORE, Encoding.ORDER): _ordered,
        (Space.LOGIT, Encoding.TEACHER): lambda teacher: Answers(teacher[:, 0], -teacher[:, 0]),
    }
    if (loss.space, loss.encoding) not in known:
        raise NotApplicable(f"what is right is not known for {loss.space} with {loss.encoding}")
    return known[loss.space, loss.encoding](call.target)


def sure(loss: Loss, target: Tensor, size: float = SURE) -> Tensor:
    """Predictions of classes that are sure of `target`."""
    hot = nn.functional.one_hot(target, C).double() if loss.encoding is Encoding.INDEX else target
    signs = hot if loss.encoding is Encoding.SIGNED else 2 * hot - 1
    exclusive = loss.encoding in (Encoding.INDEX, Encoding.ONE_HOT)
    to: dict[Space, Callable[[Tensor], Tensor]] = {
        Space.PROBABILITY: lambda x: x.softmax(-1) if exclusive else x.sigmoid(),
        Space.LOG_PROBABILITY: lambda x: x.log_softmax(-1) if exclusive else nn.functional.logsigmoid(x),
    }
    return to.get(loss.space, lambda x: x)(size * signs)


def other(loss: Loss, target: Tensor, place: int | None = None) -> Tensor:
    """The next class; for labels of their own the other answer, at one place or everywhere."""
    if loss.encoding is Encoding.INDEX:
        return (target + 1) % C
    if loss.encoding is Encoding.ONE_HOT:
        return target.roll(1, -1)
    flipped = -target if loss.encoding is Encoding.SIGNED else 1 - target
    here = torch.ones(C, dtype=torch.bool) if place is None else torch.arange(C) == place
    return torch.where(here, flipped, target)


def _valued(loss: Loss, target: Tensor, off: float) -> Tensor:
    """Predictions of values that are `off` too much, or the values themselves."""
    if loss.space in (Space.LOG_RATE, Space.ZERO_INFLATED):
        rate = target.clamp_min(0.1).log() + off
        zero = SURE * torch.where((target == 0) == (off == 0), 1.0, -1.0)
        return torch.cat([rate, zero], -1) if loss.space is Space.ZERO_INFLATED else rate
    value = target + off
    return torch.cat([value, torch.zeros_like(value)], -1) if loss.space in PAIRS else value


def _embedded(call: Call) -> Answers:
    """Along the vector of the class and that of the next, or else alike within classes and alike across them."""
    held = call.needs.get("parameters", {})
    weight = held.get("weight")
    if held and (weight is None or weight.shape != (C, EMBEDDING_WIDTH)):
        raise NotApplicable("it is not known which of its parameters are the classes' vectors")
    if weight is not None:
        return Answers(weight[call.target], weight[(call.target + 1) % C])
    same = call.target.view(-1, 1) == call.target
    earlier = same.tril(-1).sum(1)  # of its class, in the batch
    return Answers(*(nn.functional.one_hot(x, EMBEDDING_WIDTH).double() for x in (call.target, earlier)))


def _transcribed(tokens: Tensor) -> Answers:
    mistaken = torch.where(tokens > BLANK, tokens % (C - 1) + 1, tokens)
    return Answers(_aligned(tokens), _aligned(mistaken))


def _aligned(tokens: Tensor) -> Tensor:
    """Logits `[B, T, C]` that are sure of a blank at every other step, and of the transcript in between."""
    path = torch.full((len(tokens), T), BLANK)
    path[:, 1 : 2 * tokens.shape[1] : 2] = tokens.clamp_min(BLANK)
    return 2 * SURE * nn.functional.one_hot(path, C).double()


def _continued(tokens: Tensor) -> Answers:
    """Logits `[B, T, C]` that are sure of the next token, and of one that it is not."""
    following = tokens.roll(-1, -1)
    known = following != PADDING
    right, wrong = (torch.where(known, (following + by) % C, 0) for by in (0, 1))
    return Answers(*(SURE * nn.functional.one_hot(x, C).double() for x in (right, wrong)))


def _ordered(order: Tensor) -> Answers:
    right = SURE * torch.stack([order, -order], -1)
    return Answers(right, -right)
