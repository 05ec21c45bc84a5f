"""Checks that right predictions have lower losses than wrong ones: a loss takes the space and encoding it declares.

A wrong declaration mostly shows: a hinge that gets 0 and 1 instead of -1 and 1 ignores a wrong score for the 0, and a
likelihood that gets logits instead of log probabilities falls without bound. It does not always show: cross-entropy of
probabilities instead of logits still prefers the right class.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossbench.check.calls import Call, draw_call, map_to_space
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.interfaces.encodings import CHOICES, ENCODINGS, NUMBERS, SURE
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import C
from lossbench.interfaces.spaces import SPACES
from lossbench.types import EMBEDDING_WIDTH

ERROR = 2.0
"""The error of a wrong value, in standard deviations of the samples."""
CONFIDENT = (20.0, 2000.0)
"""Two sizes of logits or scores, both of very confident predictions."""
LARGEST_FALL = 10.0
"""The largest allowed fall of the mean loss from the first of `CONFIDENT` to the second."""


class Answers(NamedTuple):
    """Right and wrong predictions `[B, ...]` for the same targets."""

    right: Tensor
    wrong: Tensor


def right_beats_wrong(loss: Loss) -> None:
    """The right prediction has a lower value than a wrong one, for each class, sign and size of target."""
    call = draw_call(loss)
    # 1. the mean over the batch
    _compare(loss, call, make_answers(loss, call))
    # 2. for classes, also the mean over the examples that have a given target for one class
    if predicts_classes(loss) and not loss.batch_level:
        hot = encode_hot(loss, call.target)  # [B, C]
        by_class = call.target if call.target.shape == hot.shape else hot
        for i, value in sorted({(k, v) for k in range(C) for v in by_class[:, k].tolist()}):
            some = call.select((by_class[:, i] == value).nonzero().flatten())
            right = predict_class(loss, some.target)
            wrong = predict_class(loss, make_wrong_target(loss, some.target, i))
            _compare(loss, some, Answers(right, wrong), f"for targets {value:g} of class {i} ")


def _compare(loss: Loss, call: Call, answers: Answers, where: str = "") -> None:
    right, wrong = (call._replace(prediction=prediction).evaluate(loss).mean().item() for prediction in answers)
    if not right < wrong:
        raise CheckFailed(
            f"{where}got {right:.4g} for right predictions and {wrong:.4g} for wrong ones, expected less: are "
            f"{loss.space} and {loss.encoding} what the formula takes?"
        )


def certainty_does_not_fall_forever(loss: Loss) -> None:
    """The value of a right class does not fall without bound as the prediction gets ever surer."""
    if not predicts_classes(loss) or not SPACES[loss.space].unbounded:
        raise NotApplicable("only logits and scores of classes can get ever surer")
    call = draw_call(loss)
    first, last = (
        call._replace(prediction=predict_class(loss, call.target, size)).evaluate(loss).mean().item()
        for size in CONFIDENT
    )
    if last < first - LARGEST_FALL:
        raise CheckFailed(
            f"got {first:.4g} for right predictions of ±{CONFIDENT[0]:g} and {last:.4g} for ±{CONFIDENT[1]:g}, "
            f"expected a fall of at most {LARGEST_FALL:g}: are {loss.space} and {loss.encoding} what the formula takes?"
        )


def predicts_classes(loss: Loss) -> bool:
    """Return True if the loss takes a prediction per class, and a class or labels as target."""
    return SPACES[loss.space].per_class and ENCODINGS[loss.encoding].kind in CHOICES


def make_answers(loss: Loss, call: Call) -> Answers:
    """Return right and wrong predictions for the call's targets; raise `NotApplicable` where they are not known."""
    space, encoding = SPACES[loss.space], ENCODINGS[loss.encoding]
    # classes: confident of the target, or of another class
    if predicts_classes(loss):
        return Answers(predict_class(loss, call.target), predict_class(loss, make_wrong_target(loss, call.target)))
    # numbers: the target itself, or the target plus an error
    if space.of_numbers and encoding.kind in NUMBERS:
        return Answers(_predict_number(loss, call.target, 0.0), _predict_number(loss, call.target, ERROR))
    # embeddings, which the loss turns into scores
    if encoding.kind in space.kinds and space.scored_by_loss:
        return _embed_classes(call._replace(target=encode_hot(loss, call.target).argmax(-1)))
    # boxes, sequences, lists: the encoding knows
    if encoding.kind in space.kinds and encoding.answers is not None:
        return Answers(*encoding.answers(call.target))
    raise NotApplicable(f"what is right is not known for {loss.space} with {loss.encoding}")


def encode_hot(loss: Loss, target: Tensor) -> Tensor:
    """Return targets of classes or labels as 0 and 1, `[B, C]`."""
    hot = ENCODINGS[loss.encoding].hot
    if hot is None:
        raise NotApplicable(f"{loss.encoding} is of no classes")
    return hot(target)


def predict_class(loss: Loss, target: Tensor, size: float = SURE) -> Tensor:
    """Return predictions `[B, C]` that are confident of `target`: logits or scores of ±size, in the loss's space."""
    return map_to_space(size * (2 * encode_hot(loss, target) - 1), loss)


def make_wrong_target(loss: Loss, target: Tensor, i: int | None = None) -> Tensor:
    """Return the next class; for independent labels the opposite, of label `i` or of all."""
    hot, encoding = encode_hot(loss, target), ENCODINGS[loss.encoding]
    if encoding.exclusive:
        return encoding.from_hot(hot.roll(1, -1))
    flip = torch.ones(C, dtype=torch.bool) if i is None else torch.arange(C) == i
    return encoding.from_hot(torch.where(flip, 1 - hot, hot))


def _predict_number(loss: Loss, target: Tensor, error: float) -> Tensor:
    """Return predictions of numbers that are too high by `error`."""
    space = SPACES[loss.space]
    # a logit that the value is 0, for the spaces that have one
    zero = SURE * torch.where((target == 0) == (error == 0), 1.0, -1.0)
    # an error is a factor where predictions are logarithms, which do not exist for 0
    value = target.clamp_min(0.1) * math.exp(error) if space.logarithmic else target + error
    return space.predict(value, zero)


def _embed_classes(call: Call) -> Answers:
    """Return embeddings along the vector of the right class and of the next one.

    Without class vectors: embeddings that are alike within classes, and embeddings that are alike across them.
    """
    parameters = call.requires.get("parameters", {})
    weight = parameters.get("weight")  # [C, E]
    if parameters and (weight is None or weight.shape != (C, EMBEDDING_WIDTH)):
        raise NotApplicable("it is not known which of its parameters are the classes' vectors")
    if weight is not None:
        return Answers(weight[call.target], weight[(call.target + 1) % C])
    same = call.target.view(-1, 1) == call.target  # [B, B]
    earlier = same.tril(-1).sum(1)  # [B], earlier examples of the same class: differs within a class
    return Answers(*(nn.functional.one_hot(x, EMBEDDING_WIDTH).double() for x in (call.target, earlier)))
