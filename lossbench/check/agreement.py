"""Checks that a loss takes what it declares, as far as its values can tell.

Wrong spaces and encodings mostly show: a hinge given 0 and 1 for -1 and 1 does not mind a wrong score for the 0, and a
likelihood given logits for log probabilities falls without bound. They do not always show: cross-entropy given
probabilities for logits still prefers the right class.
"""

from torch import Tensor

from lossbench.check.answers import answers, get_hot, of_classes, other, sure
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.check.samples import Call, call_for
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import C
from lossbench.interfaces.spaces import SPACES

SURER = (20.0, 2000.0)
FALL = 10.0
"""How much a value may fall from the first of `SURER` to the second."""


def right_beats_wrong(loss: Loss) -> None:
    """The right prediction has a lower value than a wrong one, for each class, sign and size of target."""
    call = call_for(loss)
    _compare(loss, call, *answers(loss, call))
    if of_classes(loss) and not loss.batch_level:
        hot = get_hot(loss, call.target)
        by_class = call.target if call.target.shape == hot.shape else hot
        for place, value in sorted({(i, v) for i in range(C) for v in by_class[:, i].tolist()}):
            some = call.rows((by_class[:, place] == value).nonzero().flatten())
            mistaken = sure(loss, other(loss, some.target, place))
            _compare(loss, some, sure(loss, some.target), mistaken, f"for targets {value:g} of class {place} ")


def _compare(loss: Loss, call: Call, right: Tensor, wrong: Tensor, where: str = "") -> None:
    low, high = (call._replace(prediction=p).of(loss).mean().item() for p in (right, wrong))
    if not low < high:
        raise CheckFailed(
            f"{where}found {low:.4g} for right predictions and {high:.4g} for wrong ones, wanted less: are "
            f"{loss.space} and {loss.encoding} what the formula takes?"
        )


def certainty_does_not_fall_forever(loss: Loss) -> None:
    """The value of a right class does not fall without bound as the prediction gets ever surer."""
    if not of_classes(loss) or not SPACES[loss.space].unbounded:
        raise NotApplicable("only logits and scores of classes can get ever surer")
    call = call_for(loss)
    first, last = (call._replace(prediction=sure(loss, call.target, s)).of(loss).mean().item() for s in SURER)
    if last < first - FALL:
        raise CheckFailed(
            f"found {first:.4g} for right predictions of ±{SURER[0]:g} and {last:.4g} for ±{SURER[1]:g}, wanted a fall "
            f"of at most {FALL:g}: are {loss.space} and {loss.encoding} what the formula takes?"
        )
