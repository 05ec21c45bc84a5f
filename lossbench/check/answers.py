"""Predictions that are right and wrong, for a loss's space and the targets of a call."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossbench.check.contract import NotApplicable
from lossbench.check.samples import Call, in_space
from lossbench.interfaces.encodings import CHOICES, ENCODINGS, NUMBERS, SURE
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import C
from lossbench.interfaces.spaces import SPACES
from lossbench.types import EMBEDDING_WIDTH

OFF = 2.0
"""How far off a wrong value is, in standard deviations of the samples."""


class Answers(NamedTuple):
    """Predictions `[B, ...]` for the same targets."""

    right: Tensor
    wrong: Tensor


def of_classes(loss: Loss) -> bool:
    """Return True if it takes a prediction per class, and a class or labels."""
    return SPACES[loss.space].per_class and ENCODINGS[loss.encoding].kind in CHOICES


def answers(loss: Loss, call: Call) -> Answers:
    """Right and wrong predictions for the call's targets, or `NotApplicable`."""
    space, encoding = SPACES[loss.space], ENCODINGS[loss.encoding]
    if of_classes(loss):
        return Answers(sure(loss, call.target), sure(loss, other(loss, call.target)))
    if space.of_numbers and encoding.kind in NUMBERS:
        return Answers(_valued(loss, call.target, 0.0), _valued(loss, call.target, OFF))
    if encoding.kind in space.kinds and space.scored_by_loss:
        return _embedded(call._replace(target=get_hot(loss, call.target).argmax(-1)))
    if encoding.kind in space.kinds and encoding.answers is not None:
        return Answers(*encoding.answers(call.target))
    raise NotApplicable(f"what is right is not known for {loss.space} with {loss.encoding}")


def get_hot(loss: Loss, target: Tensor) -> Tensor:
    """Targets of classes or labels as 0 and 1, `[B, C]`."""
    hot = ENCODINGS[loss.encoding].hot
    if hot is None:
        raise NotApplicable(f"{loss.encoding} is of no classes")
    return hot(target)


def sure(loss: Loss, target: Tensor, size: float = SURE) -> Tensor:
    """Predictions of classes that are sure of `target`."""
    return in_space(size * (2 * get_hot(loss, target) - 1), loss)


def other(loss: Loss, target: Tensor, place: int | None = None) -> Tensor:
    """The next class; for labels of their own the other answer, at one place or everywhere."""
    hot, encoding = get_hot(loss, target), ENCODINGS[loss.encoding]
    if encoding.exclusive:
        return encoding.of_hot(hot.roll(1, -1))
    here = torch.ones(C, dtype=torch.bool) if place is None else torch.arange(C) == place
    return encoding.of_hot(torch.where(here, 1 - hot, hot))


def _valued(loss: Loss, target: Tensor, off: float) -> Tensor:
    """Predictions of numbers that are `off` too much, or the numbers themselves."""
    space = SPACES[loss.space]
    zero = SURE * torch.where((target == 0) == (off == 0), 1.0, -1.0)
    # too much by a factor where predictions are logarithms, which of 0 there is none
    value = target.clamp_min(0.1) * math.exp(off) if space.logarithmic else target + off
    return space.predict(value, zero)


def _embedded(call: Call) -> Answers:
    """Along the vector of the class and that of the next, or else alike within classes and alike across them."""
    held = call.requires.get("parameters", {})
    weight = held.get("weight")
    if held and (weight is None or weight.shape != (C, EMBEDDING_WIDTH)):
        raise NotApplicable("it is not known which of its parameters are the classes' vectors")
    if weight is not None:
        return Answers(weight[call.target], weight[(call.target + 1) % C])
    same = call.target.view(-1, 1) == call.target
    earlier = same.tril(-1).sum(1)  # of its class, in the batch
    return Answers(*(nn.functional.one_hot(x, EMBEDDING_WIDTH).double() for x in (call.target, earlier)))
