"""Guards: checks of the values of predictions and targets, for people who call a loss in their own scripts.

In an experiment the task guarantees the values. So no training step reads them, for which a GPU would have to wait.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

ROUNDING = 0.05
"""Rounding, in bfloat16 too, may move a probability, its logarithm or their sum by this much."""
N_SUMMED = 64
"""Examples whose sum is checked: a softmax that is forgotten is missing in all."""
N_SUSPICIOUS = 8
"""Logits are taken for probabilities if at least so many examples all look like them."""


class Inputs(NamedTuple):
    """The values that a loss is called with, and the facts that guards need."""

    prediction: Tensor
    target: Tensor
    exclusive: bool  # the target is one of C classes, so that their probabilities add up to 1
    n_classes: int | None = None  # None: any whole number names a class
    ignored: int | None = None  # the class index that stands for "no target"


class ValueCheck(NamedTuple):
    """Values, a mask of the wrong ones, and a sentence with the expected values and the remedy."""

    values: Tensor
    wrong: Tensor
    expected: str


Guard = Callable[[Inputs], Iterator[ValueCheck]]


def check_nothing(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check nothing: any number will do, or the loss itself checks at every call (boxes, tokens, grades)."""
    yield from ()


def _take_examples(values: Tensor) -> Tensor:
    return values.flatten(0, -2)[:N_SUMMED] if values.ndim > 1 else values.unsqueeze(0)


def _is_outside(values: Tensor, low: float, high: float) -> Tensor:
    # the negation makes NaN wrong
    return ~((values >= low) & (values <= high))


def _must_sum_to_one(inputs: Inputs) -> bool:
    """Return True if the probabilities of a prediction must add up to 1: they are of several exclusive classes."""
    return inputs.exclusive and inputs.prediction.shape[-1] > 1


def check_indices(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that targets are class indices, or shares of the classes."""
    target, n_classes = inputs.target, inputs.n_classes
    if target.is_floating_point() and target.shape == inputs.prediction.shape:
        yield from _check_shares(target)
        return
    wrong, expected = target != target.long(), "whole numbers as targets"
    if n_classes is not None:
        wrong, expected = (
            wrong | _is_outside(target, 0, n_classes - 1),
            f"class indices from 0 to {n_classes - 1} as targets",
        )
    if inputs.ignored is not None:
        wrong, expected = wrong & (target != inputs.ignored), f"{expected}, or ignore_index={inputs.ignored}"
    yield ValueCheck(target, wrong, f"{expected}.")


def _check_shares(target: Tensor) -> Iterator[ValueCheck]:
    yield ValueCheck(target, _is_outside(target, 0, 1), "one-hot targets, or the shares of the classes, from 0 to 1.")
    if target.shape[-1] > 1:
        sums = _take_examples(target).sum(-1)
        yield ValueCheck(
            sums, _is_outside(sums, 1 - ROUNDING, 1 + ROUNDING), "targets that add up to 1 over the classes."
        )


def check_one_hot(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that targets are shares of the classes."""
    yield from _check_shares(inputs.target)


def check_teacher(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check the one-hot class below a teacher's logits."""
    if inputs.target.ndim >= 2 and inputs.target.shape[-2] == 2:  # wrong shapes are for the loss to report
        yield from _check_shares(inputs.target[..., 1, :])


def check_multi_hot(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that labels are from 0 to 1."""
    expected = "targets of 0 and 1. (Of -1 and 1: (y + 1) / 2; of lists of labels: make them multi-hot.)"
    yield ValueCheck(inputs.target, _is_outside(inputs.target, 0, 1), expected)


def check_signed(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that labels are -1 or 1."""
    yield ValueCheck(inputs.target, inputs.target.abs() != 1, "targets of -1 and 1. (Of 0 and 1: 2 * y - 1.)")


def check_not_negative(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that targets are 0 or more."""
    yield ValueCheck(inputs.target, ~(inputs.target >= 0), "targets of 0 and more.")


def check_above_zero(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that targets are above 0."""
    yield ValueCheck(inputs.target, ~(inputs.target > 0), "targets above 0.")


def check_probabilities(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that predictions are probabilities."""
    p = inputs.prediction
    over = "softmax" if _must_sum_to_one(inputs) else "sigmoid"
    wrong = (p < -ROUNDING) | (p > 1 + ROUNDING)
    yield ValueCheck(p, wrong, f"probabilities, from 0 to 1. (Of logits: their {over}.)")
    if _must_sum_to_one(inputs):
        sums = _take_examples(p).sum(-1)
        expected = "probabilities that add up to 1 over the classes. (Of logits: their softmax.)"
        yield ValueCheck(sums, (sums - 1).abs() > ROUNDING, expected)


def check_log_probabilities(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that predictions are logarithms of probabilities."""
    logs = inputs.prediction
    yield ValueCheck(logs, logs > ROUNDING, "log probabilities, none of them above 0. (Of logits: their log_softmax.)")
    if _must_sum_to_one(inputs):
        sums = _take_examples(logs).logsumexp(-1)
        expected = "log probabilities of classes, the probabilities adding up to 1. (Of logits: their log_softmax.)"
        yield ValueCheck(sums.exp(), sums.abs() > ROUNDING, expected)


def check_logits(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that logits do not look like probabilities."""
    some = _take_examples(inputs.prediction)
    if not _must_sum_to_one(inputs) or len(some) < N_SUSPICIOUS:
        return
    near = (some.sum(-1) - 1).abs() <= 16 * torch.finfo(some.dtype).eps
    # probabilities lie in [0, 1] and add up to 1 within rounding; logits hardly ever do in N_SUSPICIOUS examples
    look_normalised = ((some >= 0) & (some <= 1)).all() & near.all()
    yield ValueCheck(
        some, look_normalised.expand(some.shape), "logits. These are probabilities: leave the softmax out."
    )


def check_positive(inputs: Inputs) -> Iterator[ValueCheck]:
    """Check that predictions are 0 or more."""
    expected = "predictions of 0 and more. (Of any numbers: torch.nn.functional.softplus of them.)"
    yield ValueCheck(inputs.prediction, inputs.prediction < 0, expected)
