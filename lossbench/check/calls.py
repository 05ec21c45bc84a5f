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
    """The arguments of one call of a loss."""

    prediction: Tensor
    target: Tensor
    requires: dict[str, Any]  # keyword arguments, by `Requirement`

    def evaluate(self, loss: Loss) -> Tensor:
        """Call `loss` and return the losses only, without the next state."""
        result = loss(self.prediction, self.target, **self.requires)
        return result[0] if Requirement.STATE in loss.requires else result

    def to(self, dtype: torch.dtype) -> "Call":
        """Return the call with all floats converted to `dtype`."""

        def cast(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: cast(v) for k, v in value.items()}
            if not isinstance(value, Tensor):
                return value
            return value.to(dtype) if value.is_floating_point() else value

        return Call(cast(self.prediction), cast(self.target), cast(self.requires))

    def list_tensors(self) -> dict[str, Tensor]:
        """Return all tensors among the arguments, by name."""
        parameters: dict[str, Tensor] = self.requires.get("parameters", {})
        requires = {n: v for n, v in self.requires.items() if isinstance(v, Tensor)}
        return {"prediction": self.prediction, "target": self.target, **requires, **parameters}

    def select(self, examples: slice | Tensor) -> "Call":
        """Return the call with only these examples of its batch."""
        # of what a loss requires, only the positions in the training split are per example
        requires = self.requires | ({"index": self.requires["index"][examples]} if "index" in self.requires else {})
        return Call(self.prediction[examples], self.target[examples], requires)


def stack_calls(calls: Sequence[Call]) -> Call:
    """Return one call on a stack: tensors `[...]` of R calls become `[R, ...]`."""

    def stack(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {k: stack([v[k] for v in values]) for k in values[0]}
        if not isinstance(values[0], Tensor):  # shared by all replicas
            return values[0]
        return torch.stack(list(values))

    return Call(*(stack(part) for part in zip(*calls, strict=True)))


def draw_call(loss: Loss, seed: int = 0) -> Call:
    """Draw a batch of `B` examples in float64, in the loss's space and encoding, with all that it requires."""
    generator = torch.Generator().manual_seed(seed)
    # the order of these three decides which random numbers each of them gets
    prediction = map_to_space(SPACES[loss.space].draw(generator), loss)
    target = ENCODINGS[loss.encoding].draw(generator)
    return Call(prediction, target, draw_requirements(loss, generator))


def make_extreme_call(loss: Loss, dtype: torch.dtype = torch.float32) -> Call:
    """Return extreme predictions and targets, also of what the loss requires: scales next to 0, and the like."""
    prediction, target = draw_extremes(loss.space, loss.encoding)
    requires = draw_requirements(loss, torch.Generator().manual_seed(0))
    if "index" in requires:
        requires["index"] = torch.arange(len(prediction)) % N
    if "residual_scale" in requires:
        requires["residual_scale"] = torch.tensor([[1e-6, 1e-3, 1.0, 1e4]])
    vectors = requires.get("parameters", {}).get("weight")
    if vectors is not None and vectors.shape == prediction[::C][:C].shape:
        # class vectors that the embeddings lie along, against and across
        requires["parameters"]["weight"] = prediction[::C][:C]
    call = Call(prediction, target, requires).to(dtype)
    # some targets are no longer valid once they are rounded to dtype
    is_valid = ENCODINGS[loss.encoding].holds
    return call if is_valid is None else call.select(is_valid(call.target).nonzero().flatten())


def map_to_space(raw: Tensor, loss: Loss) -> Tensor:
    """Map unbounded numbers to predictions in the loss's space; probabilities of one of C classes add up to 1."""
    return SPACES[loss.space].apply_link(raw, ENCODINGS[loss.encoding].exclusive)


def draw_requirements(loss: Loss, generator: torch.Generator) -> dict[str, Any]:
    """Draw what the loss requires beyond prediction and target; trainable tensors lie a little off their start."""

    def draw_parameters() -> dict[str, Tensor]:
        start = loss.init_parameters(PROBLEM, generator)
        return {n: p.double() + 0.3 * torch.randn(p.shape, generator=generator).double() for n, p in start.items()}

    def draw_state() -> Tensor:
        state = loss.init_state(PROBLEM)
        shape = (N, C) if state is None else state.shape
        return torch.rand(shape, generator=generator).double() / C

    draw: dict[Requirement, Callable[[], Any]] = {
        Requirement.CLASS_COUNTS: lambda: torch.randint(1, 50, (1, C), generator=generator).double(),
        Requirement.RESIDUAL_SCALE: lambda: torch.rand(1, C, generator=generator).double() + 0.5,
        Requirement.PARAMETERS: draw_parameters,
        Requirement.STATE: draw_state,
        Requirement.INDEX: lambda: torch.randperm(N, generator=generator)[:B],
        Requirement.PROGRESS: lambda: 0.5,
        Requirement.CLASS_NAMES: lambda: CLASS_NAMES,
    }
    # in the order of `requires`, which decides which random numbers each of them gets
    return {str(requirement): draw[requirement]() for requirement in loss.requires}
