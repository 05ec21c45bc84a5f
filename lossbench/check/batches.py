"""Checks of batches and stacks: leading axes, independence of examples, fields per replica, mismatched shapes."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lossbench.check.assertions import assert_close
from lossbench.check.calls import Call, draw_call, stack_calls
from lossbench.check.contract import CheckFailed, NotApplicable, is_built_in
from lossbench.check.declaration import list_float_fields
from lossbench.check.external_wrapper import is_external
from lossbench.errors import LossbenchError, describe_error
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss, replicate
from lossbench.interfaces.samples import B

R = 3
FACTORS = ((0.5, 0.75, 1.0), (0.8, 0.9, 1.0), (1.0, 1.1, 1.25), (1.0, 1.02, 1.05))
"""Factors from a field's value to those of R replicas; the first that all fields allow are used."""
NONZERO = 0.2
"""The value to start from instead of 0, which often switches a field off."""


def leading_axes_are_free(loss: Loss) -> None:
    """A stack, and a stack of stacks, gives what its batches give one by one."""
    calls = [draw_call(loss, seed) for seed in range(R)]
    alone = torch.stack([call.evaluate(loss) for call in calls])
    assert_close(_evaluate_stack(loss, calls, alone), alone, "a stack against its batches one by one")
    nested = stack_calls([stack_calls(calls)])
    assert_close(nested.evaluate(loss), alone[None], "a stack of stacks against its batches one by one")


def _evaluate_stack(loss: Loss, calls: Sequence[Call], alone: Tensor) -> Tensor:
    """Return the losses of stacked calls `[R, B]`.

    Raise `NotApplicable` where a loss takes only one batch at a time: that is allowed, and the engine notices it.
    """
    call = stack_calls(calls)
    try:
        losses = call.evaluate(loss)
    except Exception as error:  # a third-party loss may raise anything on shapes that it does not know
        raise NotApplicable(f"it takes one batch at a time: a stack raises {describe_error(error)}") from error
    if losses.shape != alone.shape:
        raise NotApplicable(
            f"it takes one batch at a time: a stack {list(call.prediction.shape)} gives {list(losses.shape)}"
        )
    return losses


def examples_are_independent(loss: Loss) -> None:
    """An example's value is the same alone as in its batch, unless the loss says that it is batch-level."""
    if loss.batch_level:
        raise NotApplicable("it is batch-level")
    call = draw_call(loss)
    alone = torch.cat([call.select(slice(i, i + 1)).evaluate(loss) for i in range(B)])
    message = "examples alone against their batch (does it couple them? then batch_level = True)"
    assert_close(alone, call.evaluate(loss), message)


def batch_axis_is_free(loss: Loss) -> None:
    """One example without a batch axis gives its value, if the loss neither couples nor needs anything."""
    if loss.batch_level or loss.requires:
        raise NotApplicable("it is batch-level" if loss.batch_level else f"it needs {', '.join(loss.requires)}")
    call = draw_call(loss)
    expected = call.evaluate(loss)[0]
    try:
        result = loss(call.prediction[0], call.target[0])
    except Exception as error:  # a third-party loss may raise anything
        raise NotApplicable(f"it takes one batch at a time: one example raises {describe_error(error)}") from error
    if result.shape != expected.shape:
        raise NotApplicable(f"it takes one batch at a time: one example gives {list(result.shape)}")
    assert_close(result, expected, "an example without a batch axis", rtol=1e-7, atol=1e-7)


def order_does_not_matter(loss: Loss) -> None:
    """Permuting the batch permutes the values; the value of a batch-level loss stays."""
    call, order = draw_call(loss), torch.randperm(B, generator=torch.Generator().manual_seed(1))
    losses = call.evaluate(loss)
    expected = losses if loss.batch_level else losses[order]
    # sums over a batch are rounded differently in another order
    assert_close(call.select(order).evaluate(loss), expected, "a permuted batch", rtol=1e-7, atol=1e-7)


def fields_may_differ_by_replica(loss: Loss) -> None:
    """With float fields as tensors, one value per replica, a stack gives what separate losses give."""
    replicas = vary_fields(loss)
    # 1. each replica by itself
    calls = [draw_call(loss, seed) for seed in range(R)]
    alone = torch.stack([call.evaluate(replica) for call, replica in zip(calls, replicas, strict=True)])
    # 2. one loss whose fields are tensors [R, 1, ..., 1]
    shape = (R, *[1] * calls[0].prediction.ndim)
    columns = {
        name: torch.tensor([getattr(replica, name) for replica in replicas], dtype=torch.float64).view(shape)
        for name in list_float_fields(loss)
    }
    losses = _evaluate_stack(replicate(loss, **columns), calls, alone)
    assert_close(losses, alone, f"a stack with a value of {', '.join(columns)} per replica")


def vary_fields(loss: Loss) -> list[Loss]:
    """Return R losses that differ in every float field."""
    start = {name: getattr(loss, name) or NONZERO for name in list_float_fields(loss)}
    for factors in FACTORS:
        try:
            return [replace(loss, **{n: f * v for n, v in start.items()}) for f in factors]  # type: ignore[type-var]
        except LossbenchError:  # outside a field's range: try factors closer to 1
            continue
    raise NotApplicable(f"no other values near {start} are allowed")


def broadcasting_is_refused(loss: Loss) -> None:
    """A target of another shape, which would broadcast without a word, is refused with both shapes."""
    if is_external(loss):
        raise NotApplicable("a third-party loss is called as it is")
    call = draw_call(loss)
    target = ENCODINGS[loss.encoding].misshapen(call.target)
    shapes = f"prediction {list(call.prediction.shape)} with target {list(target.shape)}"
    try:
        result = Call(call.prediction, target, call.requires).evaluate(loss)
    except LossbenchError as error:
        if not re.search(r"shape.*Got", str(error)):
            raise CheckFailed(f"{shapes} is refused with {str(error)!r}, expected both shapes") from error
        return
    except Exception as error:  # any refusal will do, except in a built-in loss
        if is_built_in(loss):
            raise CheckFailed(f"{shapes} raises {describe_error(error)}, expected InvalidValue") from error
        return
    guard = "lossbench.interfaces.loss.check_same_shape"
    raise CheckFailed(f"{shapes} gives {list(result.shape)}, expected an error: {guard} raises it")
