"""Checks of a loss's values, and of the loss as a value: equality, hash, pickling."""

import pickle
import random
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
import torch

from lossbench.check.assertions import assert_close, assert_shape
from lossbench.check.calls import PROBLEM, Call, draw_call, stack_calls
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.interfaces.loss import REDUCTIONS, Loss
from lossbench.interfaces.samples import B, C
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Requirement

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}  # bfloat16 rounds each term by up to 0.4 %


def one_value_per_example(loss: Loss) -> None:
    """One finite value per example, in the type of the prediction; one per batch if batch-level."""
    losses = draw_call(loss).evaluate(loss)
    label = "one value per batch" if loss.batch_level else "one value per example"
    assert_shape(losses, () if loss.batch_level else (B,), label)
    _check_type(losses, (torch.float64,))
    if not losses.isfinite().all():
        raise CheckFailed(f"got {losses.tolist()}, expected finite values")


def float32_is_kept(loss: Loss) -> None:
    """In float32 it returns float32, the same to 1e-5."""
    _check_precision(loss, torch.float32, (torch.float32,))


def bfloat16_is_taken(loss: Loss) -> None:
    """In bfloat16, which it may widen to float32, it returns the same to 10 %."""
    _check_precision(loss, torch.bfloat16, (torch.bfloat16, torch.float32))


def _check_precision(loss: Loss, dtype: torch.dtype, allowed: tuple[torch.dtype, ...]) -> None:
    losses = draw_call(loss).to(dtype).evaluate(loss)
    _check_type(losses, allowed)
    tolerance = TOLERANCE[dtype]
    expected = draw_call(loss).evaluate(loss)
    assert_close(losses.double(), expected, f"in {dtype} against float64", tolerance, tolerance)


def _check_type(losses: torch.Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    if losses.dtype not in allowed:
        raise CheckFailed(f"got {losses.dtype}, expected {' or '.join(map(str, allowed))}")


def gradient_reaches_the_prediction(loss: Loss) -> None:
    """The result is not detached from the prediction."""
    call = draw_call(loss)
    prediction = call.prediction.requires_grad_()
    losses = call.evaluate(loss)
    hint = "one that depends on the prediction: is there a .detach(), .item(), numpy or no_grad() in the formula?"
    if not losses.requires_grad:
        raise CheckFailed(f"got a tensor without a gradient, expected {hint}")
    # the loss may depend on trainable parameters only
    (gradient,) = torch.autograd.grad(losses.sum(), prediction, allow_unused=True)
    if gradient is None:
        raise CheckFailed(f"got a gradient that passes the prediction by, expected {hint}")


def inputs_are_left_alone(loss: Loss) -> None:
    """Prediction, target and what it needs are not changed in place."""
    before, after = draw_call(loss), draw_call(loss)  # equal, but not the same tensors
    after.evaluate(loss)
    for name, tensor in after.list_tensors().items():
        assert_close(tensor, before.list_tensors()[name], f"the call changes {name} in place", rtol=0, atol=0)


def nothing_is_drawn(loss: Loss) -> None:
    """The same call gives the same again, and no global generator of random numbers moves."""
    call, states = draw_call(loss), _read_random_states()
    first, second = call.evaluate(loss), call.evaluate(loss)
    assert_close(second, first, "the second call against the first", rtol=0, atol=0)
    if moved := [name for name, state in _read_random_states().items() if state != states[name]]:
        raise CheckFailed(f"got random numbers from the global generator of {', '.join(moved)}, expected none")


def _read_random_states() -> dict[str, str]:
    python, numpy = random.getstate(), np.random.get_state()  # global generators, which lossbench itself never uses
    return {"torch": str(torch.get_rng_state().tolist()), "Python": str(python), "numpy": str(numpy)}


def is_a_value(loss: Loss) -> None:
    """A frozen dataclass: equal and of equal hash when its fields are equal, before and after a call."""
    if not is_dataclass(type(loss)):
        raise CheckFailed(f"{type(loss).__name__} is no dataclass, expected @dataclass(frozen=True)")
    copy = replace(loss)  # type: ignore[type-var]
    _check_equal(copy, loss, "one made with the same fields")
    draw_call(loss).evaluate(loss)
    _check_equal(copy, loss, "itself after a call")
    try:
        loss.anything = 1  # type: ignore[attr-defined]
    except AttributeError:  # also FrozenInstanceError
        return
    del loss.anything  # type: ignore[attr-defined]
    raise CheckFailed("its attributes can be set, expected @dataclass(frozen=True)")


def pickles(loss: Loss) -> None:
    """Equal, of equal hash and of equal value after pickling, also when it has been called."""
    draw_call(loss).evaluate(loss)
    copy = pickle.loads(pickle.dumps(loss))
    _check_equal(copy, loss, "its pickled copy")
    result, expected = draw_call(loss).evaluate(copy), draw_call(loss).evaluate(loss)
    assert_close(result, expected, "value of the pickled copy", rtol=0, atol=0)


def _check_equal(copy: Loss, loss: Loss, label: str) -> None:
    if copy != loss:
        raise CheckFailed(f"it does not equal {label}: got {copy!r} and {loss!r}")
    if hash(copy) != hash(loss):
        raise CheckFailed(f"its hash is not that of {label}")


def module_is_the_call(loss: Loss) -> None:
    """`module()` gives the mean, the sum or all of the values of the call."""
    call = draw_call(loss).to(torch.float32)
    losses = call.evaluate(loss)
    for reduction in REDUCTIONS:
        expected = losses if reduction == "none" else getattr(losses, reduction)()
        result = _call_module(loss, reduction, call)
        assert_close(result, expected, f"module({reduction!r}) against the call", 1.3e-6, 1e-5)


def _call_module(loss: Loss, reduction: str, call: Call) -> torch.Tensor:
    """Return the result of `loss.module(reduction)`, with the call's state and parameters."""
    # 1. constants of the data set go to the constructor
    constants: dict[str, Any] = {n: call.requires[n] for n in ("class_counts", "residual_scale") if n in call.requires}
    if {Requirement.PARAMETERS, Requirement.STATE} & set(loss.requires):
        constants["problem"] = PROBLEM
    module = loss.module(reduction, **constants)
    # 2. the module holds state and parameters
    if "state" in call.requires:
        module.state = call.requires["state"]
    if "parameters" in call.requires:
        module.trainable.load_state_dict(call.requires["parameters"])
    # 3. the rest comes with each call
    arguments = {n: call.requires[n] for n in ("index", "progress", "class_names") if n in call.requires}
    result: torch.Tensor = module(call.prediction, call.target, **arguments)
    return result


def embeddings_give_scores(loss: Loss) -> None:
    """A loss with class vectors turns embeddings into one score per class, also for a stack; others have no scores."""
    has_class_vectors = SPACES[loss.space].scored_by_loss and Requirement.PARAMETERS in loss.requires
    if not has_class_vectors or "multiclass" not in loss.tasks:
        _check_no_scores(loss)
        return
    calls = [draw_call(loss, seed) for seed in range(2)]
    alone = [loss.score_classes(call.prediction, call.requires["parameters"]) for call in calls]
    assert_shape(alone[0], (B, C), "scores")
    stacked = stack_calls(calls)
    scores = loss.score_classes(stacked.prediction, stacked.requires["parameters"])  # [R, B, C]
    label = "scores of a stack against those of its replicas"
    assert_close(scores, torch.stack(alone), label, rtol=1e-7, atol=1e-7)


def _check_no_scores(loss: Loss) -> None:
    try:
        loss.score_classes(torch.zeros(1, 1), {})
    except NotImplementedError as error:
        if "needs no scores" not in str(error):
            raise
        raise NotApplicable(f"{loss.space} needs no scores") from error
    raise CheckFailed(f"score_classes() answers for space {loss.space}, expected NotImplementedError")
