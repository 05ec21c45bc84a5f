"""Guards: what the values of predictions and targets must be, for people who call a loss in their own scripts.

In an experiment the task has seen to it: there nothing looks at values in a training step, where a GPU would wait.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

ROUNDING = 0.05
"""How far rounding, in bfloat16 too, may push a probability or its logarithm, or their sum."""
LOOKED_AT = 64
"""Examples whose sum is looked at: who forgets a softmax forgets it for all."""
FEWEST = 8
"""Examples that must all look like probabilities before logits are taken for such."""


class Given(NamedTuple):
    """The values that a loss is called with, and what is known of them."""

    prediction: Tensor
    target: Tensor
    exclusive: bool  # the target is one of C classes, so that their probabilities add up to 1
    n_classes: int | None = None  # None: any whole number names a class
    ignored: int | None = None  # the class index that stands for "no target"


class Doubt(NamedTuple):
    """Values, which of them are wrong, and what is expected with the remedy."""

    values: Tensor
    wrong: Tensor
    expected: str


Guard = Callable[[Given], Iterator[Doubt]]


def guard_nothing(given: Given) -> Iterator[Doubt]:
    """Doubt nothing: any number will do, or the loss itself looks wherever it is called (boxes, tokens, grades)."""
    yield from ()


def _some(values: Tensor) -> Tensor:
    return values.flatten(0, -2)[:LOOKED_AT] if values.ndim > 1 else values.unsqueeze(0)


def _outside(values: Tensor, low: float, high: float) -> Tensor:
    # NaN is outside
    return ~((values >= low) & (values <= high))


def _adds_up(given: Given) -> bool:
    """Return True if the probabilities of a prediction must add up to 1, being those of several classes."""
    return given.exclusive and given.prediction.shape[-1] > 1


def guard_indices(given: Given) -> Iterator[Doubt]:
    """Doubt what is no class index, nor the shares of the classes."""
    target, n_classes = given.target, given.n_classes
    if target.is_floating_point() and target.shape == given.prediction.shape:
        yield from _shares(target)
        return
    wrong, expected = target != target.long(), "whole numbers as targets"
    if n_classes is not None:
        wrong, expected = (
            wrong | _outside(target, 0, n_classes - 1),
            f"class indices from 0 to {n_classes - 1} as targets",
        )
    if given.ignored is not None:
        wrong, expected = wrong & (target != given.ignored), f"{expected}, or ignore_index={given.ignored}"
    yield Doubt(target, wrong, f"{expected}.")


def _shares(target: Tensor) -> Iterator[Doubt]:
    yield Doubt(target, _outside(target, 0, 1), "one-hot targets, or the shares of the classes, from 0 to 1.")
    if target.shape[-1] > 1:
        total = _some(target).sum(-1)
        yield Doubt(total, _outside(total, 1 - ROUNDING, 1 + ROUNDING), "targets that add up to 1 over the classes.")


def guard_one_hot(given: Given) -> Iterator[Doubt]:
    """Doubt what is no share of the classes."""
    yield from _shares(given.target)


def guard_teacher(given: Given) -> Iterator[Doubt]:
    """Doubt the class below a teacher's logits."""
    if given.target.ndim >= 2 and given.target.shape[-2] == 2:  # the loss itself tells of shapes
        yield from _shares(given.target[..., 1, :])


def guard_multi_hot(given: Given) -> Iterator[Doubt]:
    """Doubt labels outside 0 to 1."""
    expected = "targets of 0 and 1. (Of -1 and 1: (y + 1) / 2; of lists of labels: make them multi-hot.)"
    yield Doubt(given.target, _outside(given.target, 0, 1), expected)


def guard_signed(given: Given) -> Iterator[Doubt]:
    """Doubt labels that are neither -1 nor 1."""
    yield Doubt(given.target, given.target.abs() != 1, "targets of -1 and 1. (Of 0 and 1: 2 * y - 1.)")


def guard_not_negative(given: Given) -> Iterator[Doubt]:
    """Doubt targets below 0."""
    yield Doubt(given.target, ~(given.target >= 0), "targets of 0 and more.")


def guard_above_zero(given: Given) -> Iterator[Doubt]:
    """Doubt targets of 0 and less."""
    yield Doubt(given.target, ~(given.target > 0), "targets above 0.")


def guard_probabilities(given: Given) -> Iterator[Doubt]:
    """Doubt numbers that are no probabilities."""
    p = given.prediction
    over = "softmax" if _adds_up(given) else "sigmoid"
    wrong = (p < -ROUNDING) | (p > 1 + ROUNDING)
    yield Doubt(p, wrong, f"probabilities, from 0 to 1. (Of logits: their {over}.)")
    if _adds_up(given):
        total = _some(p).sum(-1)
        expected = "probabilities that add up to 1 over the classes. (Of logits: their softmax.)"
        yield Doubt(total, (total - 1).abs() > ROUNDING, expected)


def guard_log_probabilities(given: Given) -> Iterator[Doubt]:
    """Doubt numbers that are no logarithms of probabilities."""
    logs = given.prediction
    yield Doubt(logs, logs > ROUNDING, "log probabilities, none of them above 0. (Of logits: their log_softmax.)")
    if _adds_up(given):
        total = _some(logs).logsumexp(-1)
        expected = "log probabilities of classes, the probabilities adding up to 1. (Of logits: their log_softmax.)"
        yield Doubt(total.exp(), total.abs() > ROUNDING, expected)


def guard_logits(given: Given) -> Iterator[Doubt]:
    """Doubt logits that look like probabilities."""
    some = _some(given.prediction)
    if not _adds_up(given) or len(some) < FEWEST:
        return
    near = (some.sum(-1) - 1).abs() <= 16 * torch.finfo(some.dtype).eps
    softened = ((some >= 0) & (some <= 1)).all() & near.all()
    yield Doubt(some, softened.expand(some.shape), "logits. These are probabilities: leave the softmax out.")


def guard_positive(given: Given) -> Iterator[Doubt]:
    """Doubt predictions below 0."""
    expected = "predictions of 0 and more. (Of any numbers: torch.nn.functional.softplus of them.)"
    yield Doubt(given.prediction, given.prediction < 0, expected)
