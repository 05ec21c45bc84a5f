"""The routes by which the losses of several replicas are called: broadcasting, folding, vmap, or a loop."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from lossbench.errors import InvalidValue
from lossbench.interfaces import Loss
from lossbench.interfaces.loss import replicate
from lossbench.types import Requirement

Extras = Mapping[str, Any]
"""The arguments that a loss requires beside prediction and target, by name."""
Call = Callable[[Tensor, Tensor, Extras], Any]

SHARED_REQUIREMENTS = (Requirement.PROGRESS, Requirement.EPOCH, Requirement.CLASS_NAMES, Requirement.N_EXAMPLES)
"""Requirements without a leading replica axis."""
TIGHT, LOOSE = (1e-6, 1e-9), (1e-4, 1e-6)
"""Relative and absolute tolerance of two routes to the same numbers, in float64 and in less."""


def find_differing_fields(losses: Sequence[Any]) -> dict[str, list[float]]:
    """Return the fields whose values differ between replicas; by `get_group_key` they all are floats."""
    columns = {f.name: [getattr(x, f.name) for x in losses] for f in fields(losses[0])}
    return {name: values for name, values in columns.items() if any(v != values[0] for v in values)}


def stack_fields(losses: Sequence[Any], like: Tensor, axes: int) -> dict[str, Tensor]:
    """Return the differing fields as tensors `[r, 1, ...]` with `axes` axes."""
    shape = (-1, *[1] * (axes - 1))
    differing = find_differing_fields(losses)
    return {n: torch.tensor(v, dtype=like.dtype, device=like.device).view(shape) for n, v in differing.items()}


class Routes:
    """The ways to call the losses of one group; every one of them takes stacks `[r, B, ...]`."""

    def __init__(self, losses: Sequence[Loss]) -> None:
        self.losses = list(losses)
        self.fields = find_differing_fields(losses)
        self._broadcast_loss: Loss | None = None
        self._vmap_fields: dict[str, Tensor] = {}

    def list_names(self) -> list[str]:
        """List the names of the methods to try, the fastest first."""
        per_replica = set(self.losses[0].requires) - set(SHARED_REQUIREMENTS)
        folds = not (self.fields or per_replica or self.losses[0].batch_level)
        return ["broadcast", *(["fold"] if folds else []), "vmap", "loop"]

    def broadcast(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call once, with fields `[r, 1, ...]`: the loss's leading axes are free."""
        if self._broadcast_loss is None:
            self._broadcast_loss = replicate(self.losses[0], **stack_fields(self.losses, prediction, prediction.ndim))
        return self._broadcast_loss(prediction, target, **extras)

    def fold(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call once on `[r*B, ...]`, for losses that take one batch and require nothing per replica."""
        losses = self.losses[0](prediction.flatten(0, 1), target.flatten(0, 1), **extras)
        return losses.unflatten(0, prediction.shape[:2])  # [r, B]

    def vmap(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call once, with the replica axis hidden from the loss."""
        self._vmap_fields = self._vmap_fields or stack_fields(self.losses, prediction, 1)

        def call(fields: dict[str, Tensor], p: Tensor, t: Tensor, extra: dict[str, Any]) -> Any:
            return replicate(self.losses[0], **fields)(p, t, **extra)

        axes = {name: None if name in SHARED_REQUIREMENTS else 0 for name in extras}
        return vmap(call, in_dims=(0, 0, 0, axes), randomness="different")(
            self._vmap_fields, prediction, target, dict(extras)
        )

    def loop(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call once per replica: this works for any loss."""
        results = [self.call_replica(r, prediction[r], target[r], extras) for r in range(len(self.losses))]
        if Requirement.STATE in self.losses[0].requires:
            return torch.stack([losses for losses, _ in results]), torch.stack([state for _, state in results])
        return torch.stack(results)

    def call_replica(self, replica: int, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call the loss of one replica, on its own prediction `[B, ...]` and target; the extras are those of all.

        Raises `InvalidValue` unless it returns a tensor, or a pair of losses and next state if it requires a state.
        """
        loss = self.losses[replica]
        own = {name: select_replica(value, replica, name) for name, value in extras.items()}
        result = loss(prediction, target, **own)
        pair = Requirement.STATE in loss.requires
        parts = result if pair and isinstance(result, tuple) and len(result) == 2 else (result,)
        if len(parts) != 1 + pair or not all(isinstance(part, Tensor) for part in parts):
            expected = "a pair of tensors, the losses and the next state" if pair else "a tensor"
            raise InvalidValue(f"{get_display_name(loss)} must return {expected}. Got {type(result).__name__} instead.")
        return result


def select_replica(value: Any, replica: int, name: str) -> Any:
    """Select one replica's part of the extra argument `name`."""
    if name in SHARED_REQUIREMENTS:
        return value
    if isinstance(value, Mapping):
        return {k: v[replica] for k, v in value.items()}
    return value[replica]


def choose_route(losses: Sequence[Loss], prediction: Tensor, target: Tensor, extras: Extras) -> str:
    """Return the fastest route that agrees with the loop in value and gradient on probe data `[r, B, ...]`, float64.

    A loss that branches on its data (vmap says so) is looped whatever the probe shows: given a stack at once, one
    replica's values could choose the branch for all. Raises what the loop raises, or `InvalidValue` if the result is
    not one value per example (per batch if batch-level).
    """
    routes = Routes(losses)
    expected = _run_loop_checked(routes, prediction, target, extras)
    for name in [] if _has_data_dependent_branches(routes, prediction, target, extras) else routes.list_names()[:-1]:
        try:
            outcome = _compute_value_and_gradient(getattr(routes, name), prediction, target, extras)
        except (Exception, SystemExit):  # a route that a loss cannot take may fail in any manner; the loop has worked
            continue
        if outcome is not None and _are_close(outcome, expected):
            return name
    return "loop"


def _has_data_dependent_branches(routes: Routes, prediction: Tensor, target: Tensor, extras: Extras) -> bool:
    try:
        with warnings.catch_warnings():
            # it would be slow, and is only tried: no reason to trouble anyone who trains with CTC, which broadcasts
            warnings.filterwarnings("ignore", r"There is a performance drop")
            routes.vmap(prediction, target, extras)
    except RuntimeError as error:
        return "data-dependent control flow" in str(error) or ".item()" in str(error)
    except (Exception, SystemExit):  # not because of a branch: other routes may still work
        return False
    return False


def _run_loop_checked(routes: Routes, prediction: Tensor, target: Tensor, extras: Extras) -> list[Tensor]:
    """Return the outcome of the loop; raise `InvalidValue` if the loss breaks a rule for losses."""
    name = get_display_name(routes.losses[0])

    # 1. the arguments stay as they are; clones, since leaves would refuse to be changed
    arguments = {"prediction": prediction.clone(), "target": target.clone()}
    versions = {argument: tensor._version for argument, tensor in arguments.items()}
    result = routes.loop(arguments["prediction"], arguments["target"], extras)
    losses = result[0] if isinstance(result, tuple) else result
    if changed := [argument for argument, tensor in arguments.items() if tensor._version != versions[argument]]:
        raise InvalidValue(f"{name} changes its {' and its '.join(changed)} in place.")

    # 2. shape and device
    check_shape(routes.losses[0], losses, prediction)
    if losses.device != prediction.device:
        raise InvalidValue(f"{name} was given tensors on {prediction.device} and returned one on {losses.device}.")

    # 3. a gradient
    outcome = _compute_value_and_gradient(routes.loop, prediction, target, extras)
    if outcome is None:
        raise InvalidValue(
            f"{name} returned a tensor without a gradient: it is detached from the prediction. "
            ".detach(), .item(), no_grad and numpy do that."
        )

    # 4. the same losses at the second call
    if not _are_close([losses], outcome[:1]):
        raise InvalidValue(
            f"{name} gives another value when it is called again with the same tensors: it keeps a state of its own, "
            "or draws random numbers."
        )
    return outcome


def _compute_value_and_gradient(call: Call, prediction: Tensor, target: Tensor, extras: Extras) -> list[Tensor] | None:
    """Return losses, their gradient in the prediction and the next state; None if they do not depend on it."""
    prediction = prediction.detach().requires_grad_()
    result = call(prediction, target, extras)
    losses, *state = result if isinstance(result, tuple) else (result,)
    if not losses.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(losses.sum(), prediction, allow_unused=True)
    return None if gradient is None else [losses, gradient, *state]


def _are_close(result: list[Tensor], expected: list[Tensor]) -> bool:
    rtol, atol = TIGHT if expected[0].dtype == torch.float64 else LOOSE
    pairs = zip(result, expected, strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True) for a, b in pairs)


def get_display_name(loss: Loss) -> str:
    """Return the loss's name in messages; for an adapter, that of the loss that it adapts."""
    target = getattr(loss, "target", None)
    return target if isinstance(target, str) else type(loss).__name__


def check_shape(loss: Loss, losses: Tensor, prediction: Tensor) -> None:
    """Raise `InvalidValue` unless there is one value per example (per batch if batch-level)."""
    expected = prediction.shape[:1] if loss.batch_level else prediction.shape[:2]
    if losses.shape != expected:
        kind = "value per batch" if loss.batch_level else "value per example"
        raise InvalidValue(
            f"{get_display_name(loss)} must return one {kind}, shape {list(expected[1:])} for predictions "
            f"{list(prediction.shape[1:])}. Got {list(losses.shape[1:])} instead."
        )


def pick_representatives(losses: Sequence[Loss]) -> list[int]:
    """Pick the replicas on which a route is tried: the first, the last, and one where each field differs.

    Replicas are in the order of their trials, so the last has the highest corruption rate.
    """
    picked = {0, len(losses) - 1}
    for values in find_differing_fields(losses).values():
        picked.add(next(i for i, v in enumerate(values) if v != values[0]))
    return sorted(picked)
