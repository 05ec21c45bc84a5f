"""Losses of others that take less than ours are checked with what they take."""

import pytest
import torch
from torch import nn

from lossbench.check import Status, check_loss
from lossbench.check.external_wrapper import ExternalWrapper, wrap_external
from lossbench.losses import External
from lossbench.types import Encoding, Space

LOGITS = {"space": "logit", "encoding": "multi_hot"}


def one_output(prediction, target):
    """What only takes `[N, 1]`."""
    if prediction.shape[1] != 1:
        raise ValueError(f"1 channel, please, not {prediction.shape[1]}")
    return nn.functional.binary_cross_entropy_with_logits(prediction, target, reduction="none")


def one_output_of_index(prediction, target):
    return one_output(prediction, target[:, None].to(prediction)).mean()


def of_float32(prediction, target):
    if prediction.dtype != torch.float32:
        raise RuntimeError("expected float")
    return nn.functional.binary_cross_entropy_with_logits(prediction, target, reduction="none")


def inside_float32(prediction, target):
    return (prediction.float() - target.float()).square().double()


def of_nothing(prediction, target):
    raise ValueError("no")


def half_detached(prediction, target):
    return (prediction.float() - target) * (prediction.detach() - target)


def loss_of(function, **fields):
    return External(target=f"{function.__module__}.{function.__name__}", **fields)


def failed(loss):
    return {r.check for r in check_loss(loss) if r.status is Status.FAILED}


CTC = {"space": "log_probability", "encoding": "tokens", "layout": "steps"}
CTC["arguments"] = ["prediction", "target", "input_lengths", "target_lengths"]
ASKED = {
    "one output": (one_output, LOGITS, "one output at a time"),
    "of two classes": (
        one_output_of_index,
        LOGITS | {"encoding": "index", "batch_level": True},
        "one output at a time",
    ),
    "float32": (of_float32, LOGITS, "float32"),
    "steps": (nn.CTCLoss, CTC, "log probabilities of time steps"),
}


def asked(name):
    function, fields, _ = ASKED[name]
    return loss_of(function, **fields)


@pytest.mark.parametrize("name", ASKED)
def test_it_is_checked_with_what_it_takes(name):
    loss, given = asked(name), ASKED[name][2]
    called = wrap_external(loss)
    assert isinstance(called, ExternalWrapper)
    assert called.describe() == f"The checks give it {given}, as it takes nothing else."
    half = {"bfloat16_is_taken", "extremes_are_finite_in_bfloat16"} if name == "steps" else set()
    assert failed(loss) == half


def test_values_are_those_of_its_outputs():
    loss = asked("one output")
    prediction, target = torch.randn(3, 2), torch.ones(3, 2)
    wanted = nn.functional.binary_cross_entropy_with_logits(prediction, target, reduction="none").mean(1)
    torch.testing.assert_close(wrap_external(loss)(prediction, target), wanted)
    assert wrap_external(asked("of two classes")).encoding is Encoding.MULTI_HOT
    assert wrap_external(asked("steps")).space is Space.SEQUENCE_LOGIT


def test_what_can_be_called_is_called_itself():
    loss = External(target="torch.nn.HuberLoss")
    assert wrap_external(loss) is loss
    nothing = loss_of(of_nothing)
    assert wrap_external(nothing) is nothing
    assert "one_value_per_example" in failed(nothing)


def test_a_gradient_of_float32_is_told_from_a_detached_one():
    (said,) = [r for r in check_loss(loss_of(inside_float32)) if r.check == "gradient_is_that_of_the_value"]
    assert (said.status, said.message.partition(":")[0]) == (Status.PASSED, "to 1% only")
    assert "gradient_is_that_of_the_value" in failed(loss_of(half_detached))
