"""Checks of batches and stacks: free leading axes, independent examples, fields per row, shapes that are refused."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lossbench.check.comparison import agree
from lossbench.check.contract import CheckFailed, NotApplicable, built_in
from lossbench.check.declaration import float_fields
from lossbench.check.samples import Call, call_for, stack
from lossbench.check.stand_in import is_external
from lossbench.errors import LossbenchError, describe_error
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss, replicate
from lossbench.interfaces.samples import B

R = 3
FACTORS = ((0.5, 0.75, 1.0), (0.8, 0.9, 1.0), (1.0, 1.1, 1.25), (1.0, 1.02, 1.05))
"""From a field's value to those of R rows; the first that all fields allow is taken."""
OFF = 0.2
"""What stands for a field of 0, which often means "off"."""


def leading_axes_are_free(loss: Loss) -> None:
    """A stack, and a stack of stacks, gives what its batches give one by one."""
    calls = [call_for(loss, seed) for seed in range(R)]
    alone = torch.stack([call.of(loss) for call in calls])
    agree(_stacked(loss, calls, alone), alone, "a stack against its batches one by one")
    agree(stack([stack(calls)]).of(loss), alone[None], "a stack of stacks against its batches one by one")


def _stacked(loss: Loss, calls: Sequence[Call], alone: Tensor) -> Tensor:
    """The values of a stack; not applicable where a loss takes one batch only, which the engine finds out."""
    together = stack(calls)
    try:
        found = together.of(loss)
    except Exception as error:  # a stranger's loss may raise anything on shapes that it does not know
        raise NotApplicable(f"it takes one batch at a time: a stack raises {describe_error(error)}") from error
    if found.shape != alone.shape:
        raise NotApplicable(
            f"it takes one batch at a time: a stack {list(together.prediction.shape)} gives {list(found.shape)}"
        )
    return found


def examples_are_independent(loss: Loss) -> None:
    """An example's value is the same alone as in its batch, unless the loss says that it is batch-level."""
    if loss.batch_level:
        raise NotApplicable("it is batch-level")
    call = call_for(loss)
    alone = torch.cat([call.rows(slice(i, i + 1)).of(loss) for i in range(B)])
    agree(alone, call.of(loss), "examples alone against their batch (does it couple them? then batch_level = True)")


def batch_axis_is_free(loss: Loss) -> None:
    """One example without a batch axis gives its value, if the loss neither couples nor needs anything."""
    if loss.batch_level or loss.requires:
        raise NotApplicable("it is batch-level" if loss.batch_level else f"it needs {', '.join(loss.requires)}")
    call = call_for(loss)
    wanted = call.of(loss)[0]
    try:
        found = loss(call.prediction[0], call.target[0])
    except Exception as error:
        raise NotApplicable(f"it takes one batch at a time: one example raises {describe_error(error)}") from error
    if found.shape != wanted.shape:
        raise NotApplicable(f"it takes one batch at a time: one example gives {list(found.shape)}")
    agree(found, wanted, "an example without a batch axis", rtol=1e-7, atol=1e-7)


def order_does_not_matter(loss: Loss) -> None:
    """Permuting the batch permutes the values; the value of a batch-level loss stays."""
    call, order = call_for(loss), torch.randperm(B, generator=torch.Generator().manual_seed(1))
    losses = call.of(loss)
    wanted = losses if loss.batch_level else losses[order]
    agree(call.rows(order).of(loss), wanted, "a permuted batch", rtol=1e-7, atol=1e-7)


def fields_may_differ_by_row(loss: Loss) -> None:
    """With float fields as tensors, one value per row, a stack gives what separate losses give."""
    rows = differing_rows(loss)
    calls = [call_for(loss, seed) for seed in range(R)]
    alone = torch.stack([call.of(row) for call, row in zip(calls, rows, strict=True)])
    axes = [1] * calls[0].prediction.ndim
    columns = {n: torch.tensor([getattr(row, n) for row in rows], dtype=torch.float64) for n in float_fields(loss)}
    together = replicate(loss, **{n: column.view(-1, *axes) for n, column in columns.items()})
    agree(_stacked(together, calls, alone), alone, f"a stack with a value of {', '.join(columns)} per row")


def differing_rows(loss: Loss) -> list[Loss]:
    """R losses that differ in every float field."""
    start = {n: getattr(loss, n) or OFF for n in float_fields(loss)}
    for factors in FACTORS:
        try:
            return [replace(loss, **{n: f * v for n, v in start.items()}) for f in factors]  # type: ignore[type-var]
        except LossbenchError:  # out of a field's range
            continue
    raise NotApplicable(f"no other values near {start} are allowed")


def broadcasting_is_refused(loss: Loss) -> None:
    """A target of another shape, which would broadcast without a word, is refused with both shapes."""
    if is_external(loss):
        raise NotApplicable("the stranger's loss is called as it is")
    call = call_for(loss)
    wrong = ENCODINGS[loss.encoding].misshapen(call.target)
    shapes = f"prediction {list(call.prediction.shape)} with target {list(wrong.shape)}"
    try:
        found = Call(call.prediction, wrong, call.requires).of(loss)
    except LossbenchError as error:
        if not re.search(r"shape.*Got", str(error)):
            raise CheckFailed(f"{shapes} is refused with {str(error)!r}, wanted both shapes") from error
        return
    except Exception as error:  # refused all the same
        if built_in(loss):
            raise CheckFailed(f"{shapes} raises {describe_error(error)}, wanted InvalidValue") from error
        return
    guard = "lossbench.interfaces.loss.check_same_shape"
    raise CheckFailed(f"{shapes} gives {list(found.shape)}, wanted an error: {guard} raises it")
