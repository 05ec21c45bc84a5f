"""Calls of losses for checks: predictions in their space and targets in their encoding, random or extreme."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import B, C, N
from lossbench.interfaces.spaces import SPACES, draw_extremes
from lossbench.types import Problem, Requirement

CLASS_NAMES = ("a", "b", "c", "d")
PROBLEM = Problem(input_shape=(3,), n_outputs=C, n_examples=N, class_names=CLASS_NAMES)


class Call(NamedTuple):
    """What one call of a loss is given."""

    prediction: Tensor
    target: Tensor
    requires: dict[str, Any]

    def of(self, loss: Loss) -> Tensor:
        """The losses; what a loss returns beside them is left out."""
        result = loss(self.prediction, self.target, **self.requires)
        return result[0] if Requirement.STATE in loss.requires else result

    def to(self, dtype: torch.dtype) -> "Call":
        """The same in another type of floats."""

        def cast(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: cast(v) for k, v in value.items()}
            if not isinstance(value, Tensor):
                return value
            return value.to(dtype) if value.is_floating_point() else value

        return Call(cast(self.prediction), cast(self.target), cast(self.requires))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that are given, by name."""
        parameters: dict[str, Tensor] = self.requires.get("parameters", {})
        requires = {n: v for n, v in self.requires.items() if isinstance(v, Tensor)}
        return {"prediction": self.prediction, "target": self.target, **requires, **parameters}

    def rows(self, rows: slice | Tensor) -> "Call":
        """Some of the examples of one batch."""
        requires = self.requires | ({"index": self.requires["index"][rows]} if "index" in self.requires else {})
        return Call(self.prediction[rows], self.target[rows], requires)


def stack(calls: Sequence[Call]) -> Call:
    """Calls as the rows of one on a stack."""

    def together(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {k: together([v[k] for v in values]) for k in values[0]}
        if not isinstance(values[0], Tensor):  # shared by all rows
            return values[0]
        return torch.stack(list(values))

    return Call(*(together(part) for part in zip(*calls, strict=True)))


def call_for(loss: Loss, seed: int = 0) -> Call:
    """One random batch of `B` examples in float64, in the loss's space and encoding, with all that it needs."""
    draw = torch.Generator().manual_seed(seed)
    prediction = in_space(SPACES[loss.space].draw(draw), loss)
    return Call(prediction, ENCODINGS[loss.encoding].draw(draw), needs_of(loss, draw))


def in_space(raw: Tensor, loss: Loss) -> Tensor:
    """Unbounded numbers as predictions that the loss's space allows; probabilities of one of C classes add up to 1."""
    return SPACES[loss.space].apply_link(raw, ENCODINGS[loss.encoding].exclusive)


def needs_of(loss: Loss, draw: torch.Generator) -> dict[str, Any]:
    """What the loss needs beyond prediction and target; trainable tensors a little away from their start."""

    def made() -> dict[str, Tensor]:
        start = loss.init_parameters(PROBLEM, draw)
        return {n: p.double() + 0.3 * torch.randn(p.shape, generator=draw).double() for n, p in start.items()}

    ways: dict[Requirement, Callable[[], Any]] = {
        Requirement.CLASS_COUNTS: lambda: torch.randint(1, 50, (1, C), generator=draw).double(),
        Requirement.RESIDUAL_SCALE: lambda: torch.rand(1, C, generator=draw).double() + 0.5,
        Requirement.PARAMETERS: made,
        Requirement.STATE: lambda: torch.rand(_state_shape(loss), generator=draw).double() / C,
        Requirement.INDEX: lambda: torch.randperm(N, generator=draw)[:B],
        Requirement.PROGRESS: lambda: 0.5,
        Requirement.CLASS_NAMES: lambda: CLASS_NAMES,
    }
    return {str(n): ways[n]() for n in loss.requires}


def _state_shape(loss: Loss) -> torch.Size:
    state = loss.init_state(PROBLEM)
    return torch.Size((N, C)) if state is None else state.shape


def extreme_call(loss: Loss, dtype: torch.dtype = torch.float32) -> Call:
    """Extremes with all that the loss needs, at its own ends: scales next to 0, embeddings along class vectors."""
    prediction, target = draw_extremes(loss.space, loss.encoding)
    requires = needs_of(loss, torch.Generator().manual_seed(0))
    if "index" in requires:
        requires["index"] = torch.arange(len(prediction)) % N
    if "residual_scale" in requires:
        requires["residual_scale"] = torch.tensor([[1e-6, 1e-3, 1.0, 1e4]])
    vectors = requires.get("parameters", {}).get("weight")
    if vectors is not None and vectors.shape == prediction[::C][:C].shape:
        # embeddings along, against and across their class vectors
        requires["parameters"]["weight"] = prediction[::C][:C]
    call = Call(prediction, target, requires).to(dtype)
    holds = ENCODINGS[loss.encoding].holds
    return call if holds is None else call.rows(holds(call.target).nonzero().flatten())
