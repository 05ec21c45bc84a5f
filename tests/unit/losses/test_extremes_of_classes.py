"""Every loss of classes in bfloat16 at its extremes, and beside a row that has diverged."""

import pytest
import torch
from registered import built_in

from lossbench import registry
from lossbench.check.calls import Call, draw_call, stack_calls
from lossbench.interfaces.spaces import draw_extremes
from lossbench.types import Requirement

FAMILIES = ("classification", "imbalance", "label noise", "margin", "overlap")
NAMES = [name for name in built_in(registry.losses) if registry.losses.find(name).family in FAMILIES]


# a loss that remembers examples has a state of one batch's size: its own test looks at bfloat16
@pytest.mark.parametrize("name", [n for n in NAMES if Requirement.INDEX not in registry.losses.find(n).requires])
def test_extremes_in_bfloat16(name):
    loss = registry.losses.get(name)
    call = Call(*draw_extremes(loss.space, loss.encoding), {})
    prediction = call.prediction.bfloat16().requires_grad_()
    target = call.target.bfloat16() if call.target.is_floating_point() else call.target
    losses = Call(prediction, target, draw_call(loss).to(torch.bfloat16).requires).evaluate(loss)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_nan_is_nan_and_harms_no_other(name):
    loss = registry.losses.get(name)
    calls = [draw_call(loss, seed) for seed in range(2)]
    together = stack_calls(calls)
    prediction = together.prediction.clone()
    prediction[0] = torch.nan
    prediction.requires_grad_()
    losses = Call(prediction, together.target, together.requires).evaluate(loss)
    losses.sum().backward()
    torch.testing.assert_close(losses[1], calls[1].evaluate(loss), rtol=1e-12, atol=1e-14)
    assert prediction.grad[1].isfinite().all()
    # a diverged row must be seen to have diverged, in the loss or in its gradient
    assert not (losses[0].isfinite().all() and prediction.grad[0].isfinite().all())
