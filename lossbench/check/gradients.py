"""Checks of gradients, at random predictions and at the ends of the range of numbers."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lossbench.check.assertions import assert_finite
from lossbench.check.calls import Call, draw_call, make_extreme_call, map_to_space
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.check.external_wrapper import is_external
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES

SCALES = (0.0, 1e-12, 1e-6, 1.0, 1e3, 1e6)
"""Sizes of unbounded predictions."""
FLOAT32 = {"eps": 2e-4, "atol": 2e-3, "rtol": 0.01}
"""Step and tolerances for differences of float32 values, which need wide steps."""
TRIES = 3
"""Batches to try with wide steps, which may cross a kink, where there is no slope: one of them must pass."""


def gradient_is_that_of_the_value(loss: Loss) -> str:
    """In float64 the gradient agrees with central differences, for the prediction and what is trained."""
    if loss.held_still is not None:
        if not loss.held_still:
            raise NotApplicable("part of the formula has no gradient on purpose (held_still)")
        loss = replace(loss, **loss.held_still)  # type: ignore[type-var]  # fields with which that part does not matter
    if _gradient_is_slope(loss, draw_call(loss)):
        return ""
    if is_external(loss) and any(_gradient_is_slope(loss, draw_call(loss, seed), **FLOAT32) for seed in range(TRIES)):
        return f"to {FLOAT32['rtol']:.0%} only: part of the formula is computed in float32, whatever it is given"
    raise CheckFailed(
        "got a gradient that is not the slope of the value: is part of the formula detached or under no_grad? "
        "If that is meant, the class fact held_still says so"
    )


def _gradient_is_slope(loss: Loss, call: Call, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3) -> bool:
    trainable = call.requires.get("parameters", {})

    def compute_losses(prediction: Tensor, *values: Tensor) -> Tensor:
        requires = call.requires | ({"parameters": dict(zip(trainable, values, strict=True))} if trainable else {})
        return Call(prediction, call.target, requires).evaluate(loss)

    inputs = [x.detach().requires_grad_() for x in (call.prediction, *trainable.values())]
    return torch.autograd.gradcheck(compute_losses, inputs, eps=eps, atol=atol, rtol=rtol, raise_exception=False)


def extremes_are_finite(loss: Loss) -> None:
    """Value and gradient are finite in float32 for predictions as wrong, as right and as empty as there are."""
    _check_extremes(loss, torch.float32)


def extremes_are_finite_in_bfloat16(loss: Loss) -> None:
    """Value and gradient are finite in bfloat16 for the same predictions."""
    _check_extremes(loss, torch.bfloat16)


def _check_extremes(loss: Loss, dtype: torch.dtype) -> None:
    call = make_extreme_call(loss, dtype)
    prediction = call.prediction.clone().requires_grad_()
    losses = call._replace(prediction=prediction).evaluate(loss)
    assert_finite(losses, prediction, call.target, f"value in {dtype}")
    (gradient,) = torch.autograd.grad(losses.sum(), prediction)
    assert_finite(gradient, prediction, call.target, f"gradient in {dtype}")


def finite_values_have_gradients(loss: Loss) -> None:
    """No entry of the gradient is NaN where the value is finite: at ties, exact hits, and far out."""
    for dtype in (torch.float64, torch.float32):
        for call in _draw_scaled_calls(loss, dtype):
            prediction = call.prediction.requires_grad_()
            losses = call.evaluate(loss)
            (gradient,) = torch.autograd.grad(losses.sum(), prediction)
            # [B] to [B, 1, ...]; one value for the whole batch stays []
            is_finite = losses.isfinite().view(-1, *[1] * (gradient.ndim - 1)) if losses.ndim else losses.isfinite()
            # infinite gradients of finite values are allowed: only NaN counts
            nans = torch.where(gradient.isnan() & is_finite, gradient, 0.0)
            assert_finite(nans, prediction, call.target, f"gradient of a finite value in {dtype}")


def _draw_scaled_calls(loss: Loss, dtype: torch.dtype) -> Iterator[Call]:
    """Yield predictions of all sizes, and where the target has their shape the target itself, an exact hit."""
    call = draw_call(loss)
    raw = SPACES[loss.space].draw(torch.Generator().manual_seed(1))
    for scale in SCALES:
        yield call._replace(prediction=map_to_space(scale * raw, loss)).to(dtype)
    if SPACES[loss.space].holds_targets and call.target.shape == call.prediction.shape:
        yield call._replace(prediction=call.target.clone()).to(dtype)
