"""A loss as an ordinary `nn.Module`, for people's own training scripts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.errors import InvalidValue
from lossbench.interfaces.guards import Given, check_values
from lossbench.interfaces.loss import Loss
from lossbench.types import Encoding, Need, Problem, Space


def _mean(losses: Tensor) -> Tensor:
    # torch's mean divides the gradient once for each of the losses
    wide = torch.promote_types(losses.dtype, torch.float32)
    return (losses.sum(dtype=wide) / losses.numel()).to(losses.dtype)


_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _mean,
    "sum": Tensor.sum,
    "none": lambda losses: losses,
}
REDUCTIONS = tuple(_REDUCE)
WHOLE = (Encoding.INDEX, Encoding.TOKENS, Encoding.SEQUENCE)
"""Targets that are whole numbers; all others are taken in the prediction's type."""
SCALE_MOMENTUM = 0.1
"""Weight of the newest batch in the running residual scale, as in BatchNorm."""


def refreshed_scale(scale: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
    """The running robust scale of the residuals, 1.4826 median |r| over the batch axis: `[..., B, D]` to `[..., 1, D]`.

    A scale of zero stands for "none yet". 1.4826 makes it the standard deviation of normal residuals.
    """
    residual = (prediction - target).detach().abs()
    new = 1.4826 * residual.median(-2, keepdim=True).values.clamp_min(1e-6)
    return torch.where(scale > 0, scale.lerp(new, SCALE_MOMENTUM), new)


class LossModule(nn.Module):
    """Reduces a loss over its examples, and holds what the loss needs: parameters are trained with the model's.

    `forward(prediction, target)`: in the loss's `space` and `encoding`; `index=` and `progress=` where it needs them.
    The residual scale and the state move on in training only. `check` looks for values that the space and encoding do
    not allow (`InvalidValue`), for which a GPU waits once in each call.
    """

    residual_scale: Tensor
    state: Tensor | None

    def __init__(
        self,
        loss: Loss,
        reduction: str = "mean",
        problem: Problem | None = None,
        seed: int = 0,
        check: bool = True,
        **extras: Any,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise InvalidValue(f"The 'reduction' must be one of {', '.join(REDUCTIONS)}. Got {reduction!r} instead.")
        self.loss, self.reduction, self.check = loss, reduction, check
        self.trainable = nn.ParameterDict()
        self._hold(extras)
        if {Need.PARAMETERS, Need.STATE} & set(loss.needs):
            self._make(problem, seed)

    def _hold(self, extras: dict[str, Any]) -> None:
        wanted = {Need.CLASS_COUNTS, Need.RESIDUAL_SCALE} & set(self.loss.needs)
        for name in extras.keys() - wanted:
            given = ", ".join(sorted(wanted)) or "nothing"
            raise InvalidValue(f"{type(self.loss).__name__} has no use for {name!r}; it can be given: {given}.")
        if Need.CLASS_COUNTS in wanted - extras.keys():
            raise InvalidValue(f"{type(self.loss).__name__} needs class_counts, the training examples per class.")
        self.fixed_scale = "residual_scale" in extras
        for name in wanted:
            default = torch.zeros(()) if name == Need.RESIDUAL_SCALE else None
            self.register_buffer(str(name), torch.as_tensor(extras.get(name, default)))

    def _make(self, problem: Problem | None, seed: int) -> None:
        if problem is None:
            raise InvalidValue(
                f"{type(self.loss).__name__} has trainable parameters or a state: give problem=Problem(...)."
            )
        generator = torch.Generator().manual_seed(seed)
        self.trainable.update(self.loss.parameters(problem, generator))
        self.register_buffer("state", self.loss.state(problem))

    def _given(self, prediction: Tensor, target: Tensor, call: dict[str, Any]) -> dict[str, Any]:
        held: dict[str, Any] = {name: getattr(self, name, None) for name in map(str, self.loss.needs)} | call
        if Need.PARAMETERS in self.loss.needs:
            held["parameters"] = dict(self.trainable.items())
        if Need.RESIDUAL_SCALE in self.loss.needs:
            held["residual_scale"] = self._scale(prediction, target)
        if missing := [str(name) for name in self.loss.needs if held[name] is None]:
            raise InvalidValue(f"{type(self.loss).__name__} needs {', '.join(missing)} with each call.")
        return {str(name): held[name] for name in self.loss.needs}

    def _scale(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.fixed_scale:
            return self.residual_scale
        refreshed = refreshed_scale(self.residual_scale, prediction, target)
        if self.training:
            self.residual_scale = refreshed
        # before any training there is no scale to hold on to
        return torch.where(self.residual_scale > 0, self.residual_scale, refreshed)

    def _n_classes(self, prediction: Tensor) -> int | None:
        if self.loss.space is not Space.EMBEDDING:
            return prediction.shape[-1]
        return len(self.trainable["weight"]) if "weight" in self.trainable else None

    def forward(self, prediction: Tensor, target: Tensor, **call: Any) -> Tensor:
        """The reduced loss; `[...]` if `reduction` is none."""
        if self.check:
            check_values(Given(self.loss, prediction.detach(), target.detach(), self._n_classes(prediction)))
        if self.loss.encoding not in WHOLE or (target.is_floating_point() and target.shape == prediction.shape):
            target = target.to(prediction.dtype)
        losses = self.loss(prediction, target, **self._given(prediction, target, call))
        if Need.STATE in self.loss.needs:
            losses, state = losses
            if self.training:
                self.state = state.detach()
        return _REDUCE[self.reduction](losses)
