"""Checks of gradients, at random places and at the ends of the range of numbers."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lossbench.check.comparison import is_finite
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.check.samples import Call, call_for, extreme_call, in_space
from lossbench.check.stand_in import is_external
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES

SCALES = (0.0, 1e-12, 1e-6, 1.0, 1e3, 1e6)
"""Sizes of unbounded predictions; about 0, and about the target where the two have the same shape."""

ROUGHLY = {"eps": 2e-4, "atol": 2e-3, "rtol": 0.01}
"""As far as differences of float32 values tell, which need wide steps."""
TRIES = 3
"""A wide step may cross a kink, where there is no slope: one batch of so many must do."""


def gradient_is_that_of_the_value(loss: Loss) -> str:
    """In float64 the gradient agrees with central differences, for the prediction and what is trained."""
    loss = _moving(loss)
    if _is_slope(loss, call_for(loss)):
        return ""
    if is_external(loss) and any(_is_slope(loss, call_for(loss, seed), **ROUGHLY) for seed in range(TRIES)):
        return f"to {ROUGHLY['rtol']:.0%} only: part of the formula is computed in float32, whatever it is given"
    raise CheckFailed(
        "found a gradient that is not the slope of the value: is part of the formula detached or under no_grad? "
        "If that is meant, the class fact held_still says so"
    )


def _is_slope(loss: Loss, call: Call, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3) -> bool:
    trainable = call.requires.get("parameters", {})

    def losses(prediction: Tensor, *values: Tensor) -> Tensor:
        requires = call.requires | ({"parameters": dict(zip(trainable, values, strict=True))} if trainable else {})
        return Call(prediction, call.target, requires).of(loss)

    inputs = [x.detach().requires_grad_() for x in (call.prediction, *trainable.values())]
    return torch.autograd.gradcheck(losses, inputs, eps=eps, atol=atol, rtol=rtol, raise_exception=False)


def _moving(loss: Loss) -> Loss:
    """The loss with fields at which what it holds still does not matter."""
    if loss.held_still is None:
        return loss
    if not loss.held_still:
        raise NotApplicable("part of the formula has no gradient on purpose (held_still)")
    return replace(loss, **loss.held_still)  # type: ignore[type-var]


def extremes_are_finite(loss: Loss) -> None:
    """Value and gradient are finite in float32 for predictions as wrong, as right and as empty as there are."""
    _check_extremes(loss, torch.float32)


def extremes_are_finite_in_bfloat16(loss: Loss) -> None:
    """The same in bfloat16."""
    _check_extremes(loss, torch.bfloat16)


def _check_extremes(loss: Loss, dtype: torch.dtype) -> None:
    call = extreme_call(loss, dtype)
    prediction = call.prediction.clone().requires_grad_()
    losses = call._replace(prediction=prediction).of(loss)
    is_finite(losses, prediction, call.target, f"value in {dtype}")
    (gradient,) = torch.autograd.grad(losses.sum(), prediction)
    is_finite(gradient, prediction, call.target, f"gradient in {dtype}")


def finite_values_have_gradients(loss: Loss) -> None:
    """Where the value is finite, no entry of the gradient is NaN: at ties, exact hits, and far out."""
    for dtype in (torch.float64, torch.float32):
        for call in _places(loss, dtype):
            prediction = call.prediction.requires_grad_()
            losses = call.of(loss)
            (gradient,) = torch.autograd.grad(losses.sum(), prediction)
            known = losses.isfinite().view(-1, *[1] * (gradient.ndim - 1)) if losses.ndim else losses.isfinite()
            nans = torch.where(gradient.isnan() & known, gradient, 0.0)
            is_finite(nans, prediction, call.target, f"gradient of a finite value in {dtype}")


def _places(loss: Loss, dtype: torch.dtype) -> Iterator[Call]:
    call = call_for(loss)
    raw = SPACES[loss.space].draw(torch.Generator().manual_seed(1))
    for scale in SCALES:
        yield call._replace(prediction=in_space(scale * raw, loss)).to(dtype)
    if SPACES[loss.space].holds_targets and call.target.shape == call.prediction.shape:
        yield call._replace(prediction=call.target.clone()).to(dtype)
