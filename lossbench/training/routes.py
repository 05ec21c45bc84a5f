"""How one loss is applied to a stack: by broadcasting, folding, vmap or a loop over rows."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from lossbench.errors import InvalidValue
from lossbench.interfaces import Loss
from lossbench.interfaces.loss import replicated
from lossbench.types import Need

Extras = Mapping[str, Any]
Call = Callable[[Tensor, Tensor, Extras], Any]

SHARED = (Need.PROGRESS, Need.EPOCH, Need.CLASS_NAMES, Need.N_EXAMPLES)
"""Needs without a leading row axis."""
TIGHT, LOOSE = (1e-6, 1e-9), (1e-4, 1e-6)
"""Relative and absolute tolerance of two ways to the same numbers, in float64 and in less."""


def differing(losses: Sequence[Any]) -> dict[str, list[float]]:
    """Fields whose values differ between the rows, all of which are floats by `grouping`."""
    columns = {f.name: [getattr(x, f.name) for x in losses] for f in fields(losses[0])}
    return {name: values for name, values in columns.items() if any(v != values[0] for v in values)}


def stacked_fields(losses: Sequence[Any], like: Tensor, axes: int) -> dict[str, Tensor]:
    """Differing fields as tensors `[r, 1, ...]` with `axes` axes."""
    shape = (-1, *[1] * (axes - 1))
    return {n: torch.tensor(v, dtype=like.dtype, device=like.device).view(shape) for n, v in differing(losses).items()}


class Routes:
    """The ways to call the losses of one group; every one of them takes stacks `[r, B, ...]`."""

    def __init__(self, losses: Sequence[Loss]) -> None:
        self.losses = list(losses)
        self.fields = differing(losses)
        self._stacked: Loss | None = None
        self._columns: dict[str, Tensor] = {}

    def ways(self) -> list[str]:
        """Names of the methods to try, the fastest first."""
        per_row = set(self.losses[0].needs) - set(SHARED)
        folds = not (self.fields or per_row or self.losses[0].coupled)
        return ["broadcast", *(["fold"] if folds else []), "vmap", "loop"]

    def broadcast(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call; the loss's leading axes are free."""
        if self._stacked is None:
            self._stacked = replicated(self.losses[0], **stacked_fields(self.losses, prediction, prediction.ndim))
        return self._stacked(prediction, target, **extras)

    def fold(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call on `[r*B, ...]`, for losses that take one batch and need nothing per row."""
        losses = self.losses[0](prediction.flatten(0, 1), target.flatten(0, 1), **extras)
        return losses.unflatten(0, prediction.shape[:2])

    def vmap(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call, the row axis hidden from the loss."""
        self._columns = self._columns or stacked_fields(self.losses, prediction, 1)

        def one(fields: dict[str, Tensor], p: Tensor, t: Tensor, given: dict[str, Any]) -> Any:
            return replicated(self.losses[0], **fields)(p, t, **given)

        axes = {name: None if name in SHARED else 0 for name in extras}
        return vmap(one, in_dims=(0, 0, 0, axes), randomness="different")(
            self._columns, prediction, target, dict(extras)
        )

    def loop(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call per row: any loss at all."""
        results = [self.alone(row, prediction, target, extras) for row in range(len(self.losses))]
        if Need.STATE in self.losses[0].needs:
            return torch.stack([x[0] for x in results]), torch.stack([x[1] for x in results])
        return torch.stack(results)

    def alone(self, row: int, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """The call of one row; raises `InvalidValue` unless it gives a tensor, or a pair where there is a state."""
        loss = self.losses[row]
        result = loss(prediction[row], target[row], **{n: row_of(v, row, n) for n, v in extras.items()})
        _check_result(loss, result)
        return result


def _check_result(loss: Loss, result: Any) -> None:
    """Raise `InvalidValue` unless it is a tensor, or a pair of them where there is a state."""
    pair = Need.STATE in loss.needs
    parts = result if pair and isinstance(result, tuple) and len(result) == 2 else (result,)
    if len(parts) != 1 + pair or not all(isinstance(part, Tensor) for part in parts):
        wanted = "a pair of tensors, the losses and the next state" if pair else "a tensor"
        raise InvalidValue(f"{name_of(loss)} must return {wanted}. Got {type(result).__name__} instead.")


def row_of(value: Any, row: int, name: str) -> Any:
    """Row `row` of what a loss needs."""
    if name in SHARED:
        return value
    if isinstance(value, Mapping):
        return {k: v[row] for k, v in value.items()}
    return value[row]


def choose(losses: Sequence[Loss], prediction: Tensor, target: Tensor, extras: Extras) -> str:
    """Name of the fastest way that agrees with the loop in value and gradient on trial data `[r, B, ...]`, float64.

    A loss that branches on its data (vmap says so) is looped whatever the trial shows: given a stack at once, one
    row's values could choose the branch for all. Raises what the loop raises, or `InvalidValue` if the result is not
    one value per example (per batch if coupled).
    """
    routes = Routes(losses)
    wanted = _watched(routes, prediction, target, extras)
    for name in [] if _branches(routes, prediction, target, extras) else routes.ways()[:-1]:
        try:
            got = _outcome(getattr(routes, name), prediction, target, extras)
        except Exception:  # a way that a loss cannot take may fail in any manner; the loop has worked
            continue
        if got is not None and _agree(got, wanted):
            return name
    return "loop"


def _branches(routes: Routes, prediction: Tensor, target: Tensor, extras: Extras) -> bool:
    try:
        with warnings.catch_warnings():
            # it would be slow, and is only tried: no reason to trouble anyone who trains with CTC, which broadcasts
            warnings.filterwarnings("ignore", r"There is a performance drop")
            routes.vmap(prediction, target, extras)
    except RuntimeError as error:
        return "data-dependent control flow" in str(error) or ".item()" in str(error)
    except Exception:  # not for a branch: other ways may still do
        return False
    return False


def _watched(routes: Routes, prediction: Tensor, target: Tensor, extras: Extras) -> list[Tensor]:
    """What the loop gives, if the loss keeps to what losses may do."""
    name = name_of(routes.losses[0])
    given = {"prediction": prediction.clone(), "target": target.clone()}  # no leaf, which would refuse to be changed
    versions = {what: tensor._version for what, tensor in given.items()}
    result = routes.loop(given["prediction"], given["target"], extras)
    losses = result[0] if isinstance(result, tuple) else result
    if changed := [what for what, tensor in given.items() if tensor._version != versions[what]]:
        raise InvalidValue(f"{name} changes its {' and its '.join(changed)} in place.")
    check_shape(routes.losses[0], losses, prediction)
    if losses.device != prediction.device:
        raise InvalidValue(f"{name} was given tensors on {prediction.device} and returned one on {losses.device}.")
    wanted = _outcome(routes.loop, prediction, target, extras)
    if wanted is None:
        raise InvalidValue(
            f"{name} returned a tensor without a gradient: it is detached from the prediction. "
            ".detach(), .item(), no_grad and numpy do that."
        )
    if not _agree([losses], wanted[:1]):
        raise InvalidValue(
            f"{name} gives another value when it is called again with the same tensors: it keeps a state of its own, "
            "or draws random numbers."
        )
    return wanted


def _outcome(call: Call, prediction: Tensor, target: Tensor, extras: Extras) -> list[Tensor] | None:
    """Losses, their gradient in the prediction and the next state; None if the losses do not depend on it."""
    prediction = prediction.detach().requires_grad_()
    result = call(prediction, target, extras)
    losses, *state = result if isinstance(result, tuple) else (result,)
    if not losses.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(losses.sum(), prediction, allow_unused=True)
    return None if gradient is None else [losses, gradient, *state]


def name_of(loss: Loss) -> str:
    """What it is called in messages: an adapter, what it adapts."""
    target = getattr(loss, "target", None)
    return target if isinstance(target, str) else type(loss).__name__


def _agree(got: list[Tensor], wanted: list[Tensor]) -> bool:
    rtol, atol = TIGHT if wanted[0].dtype == torch.float64 else LOOSE
    pairs = zip(got, wanted, strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True) for a, b in pairs)


def check_shape(loss: Loss, losses: Tensor, prediction: Tensor) -> None:
    """Raise `InvalidValue` unless there is one value per example (per batch if coupled)."""
    wanted = prediction.shape[:1] if loss.coupled else prediction.shape[:2]
    if losses.shape != wanted:
        kind = "value per batch" if loss.coupled else "value per example"
        raise InvalidValue(
            f"{name_of(loss)} must return one {kind}, shape {list(wanted[1:])} for predictions "
            f"{list(prediction.shape[1:])}. Got {list(losses.shape[1:])} instead."
        )
