"""Checks that a loss takes what it declares, as far as its values can tell.

Wrong spaces and encodings mostly show: a hinge given 0 and 1 for -1 and 1 does not mind a wrong score for the 0, and a
likelihood given logits for log probabilities falls without bound. They do not always show: cross-entropy given
probabilities for logits still prefers the right class.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.check.samples import PAIRS, VALUES, C, Call, T, call_for
from lossbench.interfaces.loss import Loss
from lossbench.types import BLANK, Encoding, Space

SURE = 4.0
"""A logit, or a score, of someone who is rather sure."""
OFF = 2.0
"""How far off a wrong value is, in standard deviations of the samples."""
SHIFT = 0.1
"""How far a wrong box lies from the right one, which it overlaps."""
SURER = (20.0, 2000.0)
FALL = 10.0
"""How much a value may fall from the first of `SURER` to the second."""
CLASSES = (Space.LOGIT, Space.SCORE, Space.PROBABILITY, Space.LOG_PROBABILITY)
HOT = (Encoding.ONE_HOT, Encoding.MULTI_HOT, Encoding.SIGNED)


def _of_classes(loss: Loss) -> bool:
    return loss.space in CLASSES and loss.encoding in (*HOT, Encoding.INDEX)


def right_beats_wrong(loss: Loss) -> None:
    """The right prediction has a lower value than a wrong one, for each class, sign and size of target."""
    call = call_for(loss)
    right, wrong = (call._replace(prediction=p).of(loss).mean() for p in _right_and_wrong(loss, call, call.target))
    if not right < wrong:
        raise CheckFailed(f"found {right:.4g} for right predictions and {wrong:.4g} for wrong ones, wanted less")
    if _of_classes(loss) and not loss.coupled:
        _check_each_class(loss, call)


def _check_each_class(loss: Loss, call: Call) -> None:
    target = call.target
    hot = target if loss.encoding in HOT else nn.functional.one_hot(target, C).double()
    for place, value in {(i, v) for i in range(C) for v in hot[:, i].tolist()}:
        rows = (hot[:, place] == value).nonzero().flatten()
        some = call.rows(rows)
        right = _sure(loss, some.target, SURE)
        wrong = _sure(loss, _other(loss, some.target, place), SURE)
        found, worse = (some._replace(prediction=p).of(loss).mean() for p in (right, wrong))
        if not found < worse:
            raise CheckFailed(
                f"for targets {value:g} of class {place} found {found:.4g} for right predictions and {worse:.4g} for "
                f"wrong ones, wanted less: is {loss.encoding} the encoding that the formula takes?"
            )


def certainty_does_not_fall_forever(loss: Loss) -> None:
    """The value of a right class does not fall without bound as the prediction gets ever surer."""
    if not _of_classes(loss) or loss.space not in (Space.LOGIT, Space.SCORE):
        raise NotApplicable(f"what is certain is not known for {loss.space} with {loss.encoding}")
    call = call_for(loss)
    first, last = (call._replace(prediction=_sure(loss, call.target, s)).of(loss).mean() for s in SURER)
    if last < first - FALL:
        raise CheckFailed(
            f"found {first:.4g} for right predictions of ±{SURER[0]:g} and {last:.4g} for ±{SURER[1]:g}, wanted a fall "
            f"of at most {FALL:g}: are {loss.space} and {loss.encoding} what the formula takes?"
        )


def _right_and_wrong(loss: Loss, call: Call, target: Tensor) -> tuple[Tensor, Tensor]:
    if _of_classes(loss):
        return _sure(loss, target, SURE), _sure(loss, _other(loss, target, None), SURE)
    if loss.space in VALUES:
        return _valued(loss, target, 0.0), _valued(loss, target, OFF)
    if loss.space is Space.BOX_XYXY:
        return target, target + SHIFT
    if loss.space is Space.SEQUENCE_LOGIT:
        return _aligned(target), _aligned(torch.where(target > BLANK, target % (C - 1) + 1, target))
    weight = call.needs.get("parameters", {}).get("weight")
    if weight is None or loss.encoding is not Encoding.INDEX:
        raise NotApplicable(f"what is right is not known for {loss.space} with {loss.encoding}")
    return weight[target], weight[(target + 1) % C]


def _sure(loss: Loss, target: Tensor, size: float) -> Tensor:
    """Predictions of classes that are sure of `target`."""
    hot = nn.functional.one_hot(target, C).double() if loss.encoding is Encoding.INDEX else target
    signs = hot if loss.encoding is Encoding.SIGNED else 2 * hot - 1
    exclusive = loss.encoding in (Encoding.INDEX, Encoding.ONE_HOT)
    to: dict[Space, Callable[[Tensor], Tensor]] = {
        Space.PROBABILITY: lambda x: x.softmax(-1) if exclusive else x.sigmoid(),
        Space.LOG_PROBABILITY: lambda x: x.log_softmax(-1) if exclusive else nn.functional.logsigmoid(x),
    }
    return to.get(loss.space, lambda x: x)(size * signs)


def _other(loss: Loss, target: Tensor, place: int | None) -> Tensor:
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


def _aligned(target: Tensor) -> Tensor:
    """Logits `[B, T, C]` that are sure of a blank at every other step, and of the transcript in between."""
    path = torch.full((len(target), T), BLANK)
    path[:, 1 : 2 * target.shape[1] : 2] = target.clamp_min(BLANK)
    return 2 * SURE * nn.functional.one_hot(path, C).double()
