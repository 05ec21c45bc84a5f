"""What predictions and targets must hold, for people who call a loss in their own scripts.

In an experiment the task has seen to it: there nothing looks at values in a training step, where a GPU would wait.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, any_of
from lossbench.types import Encoding, Space

ROUNDING = 0.05
"""How far rounding, in bfloat16 too, may push a probability or its logarithm, or their sum."""
LOOKED_AT = 64
"""Examples whose sum is looked at: who forgets a softmax forgets it for all."""
FEWEST = 8
"""Examples that must all look like probabilities before logits are taken for such."""


class Given(NamedTuple):
    """What a loss is called with."""

    loss: Loss
    prediction: Tensor
    target: Tensor
    n_classes: int | None  # None: any whole number names a class


class Doubt(NamedTuple):
    """Values, which of them are wrong, and what was wanted with the remedy."""

    values: Tensor
    wrong: Tensor
    wanted: str


def check_values(given: Given) -> None:
    """Raise `InvalidValue` for what the loss's space or encoding does not allow; a GPU waits once."""
    guards = (SPACES.get(given.loss.space), ENCODINGS.get(given.loss.encoding))
    doubts = [doubt for guard in guards if guard for doubt in guard(given)]
    if doubts and any_of(torch.stack([doubt.wrong.any() for doubt in doubts])):
        _refuse(given.loss, next(doubt for doubt in doubts if doubt.wrong.any()))


def _refuse(loss: Loss, doubt: Doubt) -> None:
    place = doubt.wrong.nonzero()[0].tolist()
    value, values = doubt.values[tuple(place)].item(), doubt.values.double()
    raise InvalidValue(
        f"{type(loss).__name__} takes {doubt.wanted} Got {value:.4g} for example {place[0] if place else 0}, "
        f"and values from {values.min().item():.4g} to {values.max().item():.4g}."
    )


def _some(values: Tensor) -> Tensor:
    return values.flatten(0, -2)[:LOOKED_AT] if values.ndim > 1 else values.unsqueeze(0)


def _outside(values: Tensor, low: float, high: float) -> Tensor:
    # NaN is outside
    return ~((values >= low) & (values <= high))


def _of_one_class(given: Given) -> bool:
    """Whether probabilities of a prediction add up to 1, being those of the classes."""
    return given.loss.encoding in {Encoding.INDEX, Encoding.ONE_HOT} and given.prediction.shape[-1] > 1


def _indices(given: Given) -> Iterator[Doubt]:
    target, n_classes = given.target, given.n_classes
    if target.is_floating_point() and target.shape == given.prediction.shape:
        yield from _shares(target)
        return
    wrong, wanted = target != target.long(), "whole numbers as targets"
    if n_classes is not None:
        wrong, wanted = (
            wrong | _outside(target, 0, n_classes - 1),
            f"class indices from 0 to {n_classes - 1} as targets",
        )
    if (ignored := getattr(given.loss, "ignore_index", None)) is not None:
        wrong, wanted = wrong & (target != ignored), f"{wanted}, or ignore_index={ignored}"
    yield Doubt(target, wrong, f"{wanted}.")


def _shares(target: Tensor) -> Iterator[Doubt]:
    yield Doubt(target, _outside(target, 0, 1), "one-hot targets, or the shares of the classes, from 0 to 1.")
    if target.shape[-1] > 1:
        total = _some(target).sum(-1)
        yield Doubt(total, _outside(total, 1 - ROUNDING, 1 + ROUNDING), "targets that add up to 1 over the classes.")


def _one_hot(given: Given) -> Iterator[Doubt]:
    yield from _shares(given.target)


def _teacher(given: Given) -> Iterator[Doubt]:
    if given.target.ndim >= 2 and given.target.shape[-2] == 2:  # the loss itself tells of shapes
        yield from _shares(given.target[..., 1, :])


def _multi_hot(given: Given) -> Iterator[Doubt]:
    wanted = "targets of 0 and 1. (Of -1 and 1: (y + 1) / 2; of lists of labels: make them multi-hot.)"
    yield Doubt(given.target, _outside(given.target, 0, 1), wanted)


def _signed(given: Given) -> Iterator[Doubt]:
    yield Doubt(given.target, given.target.abs() != 1, "targets of -1 and 1. (Of 0 and 1: 2 * y - 1.)")


def _not_negative(given: Given) -> Iterator[Doubt]:
    yield Doubt(given.target, ~(given.target >= 0), "targets of 0 and more.")


def _above_zero(given: Given) -> Iterator[Doubt]:
    yield Doubt(given.target, ~(given.target > 0), "targets above 0.")


def _probabilities(given: Given) -> Iterator[Doubt]:
    p = given.prediction
    over = "softmax" if _of_one_class(given) else "sigmoid"
    wrong = (p < -ROUNDING) | (p > 1 + ROUNDING)
    yield Doubt(p, wrong, f"probabilities, from 0 to 1. (Of logits: their {over}.)")
    if _of_one_class(given):
        total = _some(p).sum(-1)
        wanted = "probabilities that add up to 1 over the classes. (Of logits: their softmax.)"
        yield Doubt(total, (total - 1).abs() > ROUNDING, wanted)


def _log_probabilities(given: Given) -> Iterator[Doubt]:
    logs = given.prediction
    yield Doubt(logs, logs > ROUNDING, "log probabilities, none of them above 0. (Of logits: their log_softmax.)")
    if _of_one_class(given):
        total = _some(logs).logsumexp(-1)
        wanted = "log probabilities of classes, the probabilities adding up to 1. (Of logits: their log_softmax.)"
        yield Doubt(total.exp(), total.abs() > ROUNDING, wanted)


def _logits(given: Given) -> Iterator[Doubt]:
    some = _some(given.prediction)
    if not _of_one_class(given) or len(some) < FEWEST:
        return
    near = (some.sum(-1) - 1).abs() <= 16 * torch.finfo(some.dtype).eps
    softened = ((some >= 0) & (some <= 1)).all() & near.all()
    yield Doubt(some, softened.expand(some.shape), "logits. These are probabilities: leave the softmax out.")


def _positive(given: Given) -> Iterator[Doubt]:
    wanted = "predictions of 0 and more. (Of any numbers: torch.nn.functional.softplus of them.)"
    yield Doubt(given.prediction, given.prediction < 0, wanted)


Guard = Callable[[Given], Iterator[Doubt]]
# boxes, tokens, grades and orders are looked at by their losses, wherever they are called
SPACES: dict[Space, Guard] = {
    Space.PROBABILITY: _probabilities,
    Space.LOG_PROBABILITY: _log_probabilities,
    Space.LOGIT: _logits,
    Space.POSITIVE: _positive,
}
ENCODINGS: dict[Encoding, Guard] = {
    Encoding.INDEX: _indices,
    Encoding.ONE_HOT: _one_hot,
    Encoding.TEACHER: _teacher,
    Encoding.MULTI_HOT: _multi_hot,
    Encoding.SIGNED: _signed,
    Encoding.POSITIVE: _not_negative,
    Encoding.ABOVE_ZERO: _above_zero,
}
