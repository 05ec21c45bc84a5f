"""Checks of what a loss returns, and of the loss as a value."""

import pickle
import random
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
import torch

from lossbench.check.comparison import agree, has_shape
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.check.samples import PROBLEM, Call, call_for, stack
from lossbench.interfaces.loss import REDUCTIONS, Loss
from lossbench.interfaces.samples import B, C
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Requirement

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}  # bfloat16 rounds each term by up to 0.4 %


def one_value_per_example(loss: Loss) -> None:
    """One finite value per example, in the type of the prediction; one per batch if batch-level."""
    losses = call_for(loss).of(loss)
    kind = "one value per batch" if loss.batch_level else "one value per example"
    has_shape(losses, () if loss.batch_level else (B,), kind)
    _check_type(losses, (torch.float64,))
    if not losses.isfinite().all():
        raise CheckFailed(f"found {losses.tolist()}, wanted finite values")


def float32_is_kept(loss: Loss) -> None:
    """In float32 it returns float32, the same to 1e-5."""
    _check_precision(loss, torch.float32, (torch.float32,))


def bfloat16_is_taken(loss: Loss) -> None:
    """In bfloat16, which it may widen to float32, it returns the same to 10 %."""
    _check_precision(loss, torch.bfloat16, (torch.bfloat16, torch.float32))


def _check_precision(loss: Loss, dtype: torch.dtype, allowed: tuple[torch.dtype, ...]) -> None:
    losses = call_for(loss).to(dtype).of(loss)
    _check_type(losses, allowed)
    tolerance = TOLERANCE[dtype]
    agree(losses.double(), call_for(loss).of(loss), f"in {dtype} against float64", tolerance, tolerance)


def _check_type(losses: torch.Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    if losses.dtype not in allowed:
        raise CheckFailed(f"found {losses.dtype}, wanted {' or '.join(map(str, allowed))}")


def gradient_reaches_the_prediction(loss: Loss) -> None:
    """The result is not detached from the prediction."""
    call = call_for(loss)
    prediction = call.prediction.requires_grad_()
    losses = call.of(loss)
    wanted = "one that depends on the prediction: is there a .detach(), .item(), numpy or no_grad() in the formula?"
    if not losses.requires_grad:
        raise CheckFailed(f"found a tensor without a gradient, wanted {wanted}")
    (gradient,) = torch.autograd.grad(losses.sum(), prediction, allow_unused=True)
    if gradient is None:
        raise CheckFailed(f"found a gradient that passes the prediction by, wanted {wanted}")


def inputs_are_left_alone(loss: Loss) -> None:
    """Prediction, target and what it needs are not changed in place."""
    before, after = call_for(loss), call_for(loss)
    after.of(loss)
    for name, found in after.tensors().items():
        agree(found, before.tensors()[name], f"the call changes {name} in place", rtol=0, atol=0)


def nothing_is_drawn(loss: Loss) -> None:
    """The same call gives the same again, and no global generator of random numbers moves."""
    call, states = call_for(loss), _random_states()
    first, second = call.of(loss), call.of(loss)
    agree(second, first, "the second call against the first", rtol=0, atol=0)
    if moved := [name for name, state in _random_states().items() if state != states[name]]:
        raise CheckFailed(f"found random numbers drawn from the global generator of {', '.join(moved)}, wanted none")


def _random_states() -> dict[str, str]:
    python, numpy = random.getstate(), np.random.get_state()  # the generator of others is watched
    return {"torch": str(torch.get_rng_state().tolist()), "Python": str(python), "numpy": str(numpy)}


def is_a_value(loss: Loss) -> None:
    """A frozen dataclass: equal and of equal hash when its fields are equal, before and after a call."""
    if not is_dataclass(type(loss)):
        raise CheckFailed(f"{type(loss).__name__} is no dataclass, wanted @dataclass(frozen=True)")
    same = replace(loss)  # type: ignore[type-var]
    _check_equal(same, loss, "one made with the same fields")
    call_for(loss).of(loss)
    _check_equal(same, loss, "itself after a call")
    try:
        loss.anything = 1  # type: ignore[attr-defined]
    except AttributeError:
        return
    del loss.anything  # type: ignore[attr-defined]
    raise CheckFailed("its attributes can be set, wanted @dataclass(frozen=True)")


def pickles(loss: Loss) -> None:
    """Equal, of equal hash and of equal value after pickling, also when it has been called."""
    call_for(loss).of(loss)
    again = pickle.loads(pickle.dumps(loss))
    _check_equal(again, loss, "its pickled copy")
    agree(call_for(loss).of(again), call_for(loss).of(loss), "value of the pickled copy", rtol=0, atol=0)


def _check_equal(one: Loss, other: Loss, what: str) -> None:
    if one != other:
        raise CheckFailed(f"it does not equal {what}: found {one!r} and {other!r}")
    if hash(one) != hash(other):
        raise CheckFailed(f"its hash is not that of {what}")


def module_is_the_call(loss: Loss) -> None:
    """`module()` gives the mean, the sum or all of the values of the call."""
    call = call_for(loss).to(torch.float32)
    losses = call.of(loss)
    for reduction in REDUCTIONS:
        wanted = losses if reduction == "none" else getattr(losses, reduction)()
        agree(_as_module(loss, reduction, call), wanted, f"module({reduction!r}) against the call", 1.3e-6, 1e-5)


def _as_module(loss: Loss, reduction: str, call: Call) -> torch.Tensor:
    held: dict[str, Any] = {n: call.requires[n] for n in ("class_counts", "residual_scale") if n in call.requires}
    problem = {"problem": PROBLEM} if {Requirement.PARAMETERS, Requirement.STATE} & set(loss.requires) else {}
    module = loss.module(reduction, **held, **problem)
    if "state" in call.requires:
        module.state = call.requires["state"]
    if "parameters" in call.requires:
        module.trainable.load_state_dict(call.requires["parameters"])
    given = {n: call.requires[n] for n in ("index", "progress", "class_names") if n in call.requires}
    found: torch.Tensor = module(call.prediction, call.target, **given)
    return found


def embeddings_give_scores(loss: Loss) -> None:
    """A loss with class vectors turns embeddings into one score per class, also for a stack; others have no scores."""
    if (
        not SPACES[loss.space].scored_by_loss
        or Requirement.PARAMETERS not in loss.requires
        or "multiclass" not in loss.tasks
    ):
        _check_no_scores(loss)
        return
    calls = [call_for(loss, seed) for seed in range(2)]
    alone = [loss.score_classes(c.prediction, c.requires["parameters"]) for c in calls]
    has_shape(alone[0], (B, C), "scores")
    both = stack(calls)
    found = loss.score_classes(both.prediction, both.requires["parameters"])
    agree(found, torch.stack(alone), "scores of a stack against those of its rows", rtol=1e-7, atol=1e-7)


def _check_no_scores(loss: Loss) -> None:
    try:
        loss.score_classes(torch.zeros(1, 1), {})
    except NotImplementedError as error:
        if "needs no scores" not in str(error):
            raise
        raise NotApplicable(f"{loss.space} needs no scores") from error
    raise CheckFailed(f"score_classes() answers for space {loss.space}, wanted NotImplementedError")
