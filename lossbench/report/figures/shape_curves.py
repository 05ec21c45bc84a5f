"""What losses look like: value and gradient along a line of predictions past one target.

`compute_curves` gives the numbers, `lossbench.report.figures.shapes.draw_shapes` draws them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lossbench.errors import Incompatible, InvalidValue, LossbenchError, make_unknown
from lossbench.interfaces.loss import Loss
from lossbench.report.figures.shape_axes import AXES, Axis
from lossbench.report.figures.shape_paths import Path, Paths, paths
from lossbench.types import Array, Problem, Requirement

N_POINTS = 600
"""An even number: no point of a usual range lies on a kink at a round number, which has several slopes."""
HUGE = 100.0
"""A range that goes farther than so many times the usual one is spaced like logarithms."""
EXAMPLES_PER_CLASS = 100.0
HELD = {
    Requirement.CLASS_COUNTS: "equal class counts",
    Requirement.RESIDUAL_SCALE: "residual scale 1",
    Requirement.PROGRESS: "end of training",
    Requirement.PARAMETERS: "parameters as at the start",
    Requirement.STATE: "state as at the start",
    Requirement.SAMPLE_WEIGHT: "sample weights 1",
}
"""What is said of what losses are given."""


@dataclass(frozen=True)
class Curve:
    """A loss along a line: value and slope at each x, NaN where they are not finite or there is no such prediction.

    variant: which of a loss's lines, the first being the usual one. inside: where there are such predictions.
    """

    loss: str
    variant: str
    is_first: bool
    x: Array
    value: Array
    slope: Array
    inside: Array

    @property
    def n_gaps(self) -> int:
        """At how many points value or slope is not finite."""
        return int((self.inside & ~(np.isfinite(self.value) & np.isfinite(self.slope))).sum())


@dataclass(frozen=True)
class Curves:
    """Curves that share an axis; held: what is held fixed, with the losses that it concerns."""

    axis: Axis
    range: tuple[float, float]
    curves: tuple[Curve, ...]
    held: Mapping[str, tuple[str, ...]]
    normalised: bool = False

    @property
    def labels(self) -> list[str]:
        """The losses, each once."""
        return list(dict.fromkeys(curve.loss for curve in self.curves))

    @property
    def is_huge(self) -> bool:
        """Whether the axis spans several orders of magnitude on both sides of zero."""
        return _is_huge(self.axis, self.range)

    def tidy(self) -> pd.DataFrame:
        """Return one row per point: loss, variant, x, value, slope."""
        columns = ("loss", "variant", "x", "value", "slope")
        return pd.concat([pd.DataFrame({name: getattr(c, name) for name in columns}) for c in self.curves])


def compute_curves(
    losses: Mapping[str, Loss],
    against: str | None = None,
    range: tuple[float, float] | None = None,
    normalise: bool = False,
) -> Curves:
    """Compute values and slopes of losses, by label, against what all have; gradients by autograd in float64.

    against: error, rate, sigma, margin, probability, lead, angle, distance, offset or scale; by default the usual one.
    range: where the axis starts and ends. normalise: scale each loss so that its steepest slope in sight is 1.

    Raises `Incompatible` for losses that have no line or share no axis, `InvalidValue` for a range that is none.
    """
    lines = {label: paths(label, loss) for label, loss in losses.items()}
    axis = AXES[_shared(lines, against)]
    ends = _checked(axis, range)
    x = torch.as_tensor(_spaced(axis, ends))
    found = [c for label, loss in losses.items() for c in _curves(label, loss, lines[label][axis.name], axis, x)]
    if not any(c.inside.any() for c in found):
        raise InvalidValue(f"Nothing can be predicted between {ends[0]:g} and {ends[1]:g} on the axis {axis.name!r}.")
    held = _held({label: (loss, lines[label][axis.name]) for label, loss in losses.items()})
    made = Curves(axis, ends, tuple(found), held, normalise)
    return replace(made, curves=_normalised(made)) if normalise else made


def _shared(lines: Mapping[str, Paths], against: str | None) -> str:
    """The axis that is asked for, or the first that all have."""
    if against is not None:
        if against not in AXES:
            raise make_unknown("axis", against, AXES, "Axes")
        if lacking := [label for label, own in lines.items() if against not in own]:
            told = "; ".join(_told(lines[label], [label]) for label in lacking)
            raise Incompatible(f"Not every loss can be drawn against {against!r}: {told}.")
        return against
    first = next(iter(lines.values()))
    common = [name for name in first if all(name in own for own in lines.values())]
    if common:
        return common[0]
    kinds: dict[tuple[str, ...], list[str]] = {}
    for label, own in lines.items():
        kinds.setdefault(tuple(own), []).append(label)
    told = "; ".join(_told(names, labels) for names, labels in kinds.items())
    raise Incompatible(f"These losses share no axis: {told}. Draw them apart.")


def _told(names: Sequence[str] | Paths, labels: Sequence[str]) -> str:
    return f"{', '.join(labels)} {'goes' if len(labels) == 1 else 'go'} with {' or '.join(names)}"


def _checked(axis: Axis, asked: tuple[float, float] | None) -> tuple[float, float]:
    low, high = asked or (axis.start, axis.end)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidValue(f"The range must go from a number to a greater one, as -3,3. Got {low:g},{high:g} instead.")
    if axis.logarithmic and low <= 0:
        raise InvalidValue(f"The axis {axis.name!r} is logarithmic: its range starts above 0. Got {low:g} instead.")
    return low, high


def _is_huge(axis: Axis, ends: tuple[float, float]) -> bool:
    unbounded = axis.name in ("error", "margin", "lead", "offset")
    return unbounded and max(map(abs, ends)) >= HUGE * axis.end


def _spaced(axis: Axis, ends: tuple[float, float]) -> Array:
    if axis.logarithmic:
        return np.geomspace(*ends, N_POINTS)
    if _is_huge(axis, ends):
        low, high = map(math.asinh, ends)
        return np.sinh(np.linspace(low, high, N_POINTS))
    return np.linspace(*ends, N_POINTS)


def _curves(label: str, loss: Loss, lines: Sequence[Path], axis: Axis, x: Tensor) -> list[Curve]:
    """One curve per line; those that are like the first are left out."""
    found: list[Curve] = []
    for line in lines:
        inside = (x > line.limits[0]) & (x < line.limits[1])
        value, slope = (torch.full_like(x, torch.nan) for _ in "vs")
        if inside.any():
            value[inside], slope[inside] = _along(label, loss, line, axis, x[inside])
        value, slope = (torch.where(part.isfinite(), part, torch.nan) for part in (value, slope))
        curve = Curve(label, line.variant, line is lines[0], *(p.numpy() for p in (x, value, slope, inside)))
        if not found or not _alike(curve, found[0]):
            found.append(curve)
    return found


def _alike(one: Curve, other: Curve) -> bool:
    pairs = ((one.value, other.value), (one.slope, other.slope))
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True) for a, b in pairs)


def _along(label: str, loss: Loss, line: Path, axis: Axis, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values `[N]` and their slopes in the place."""
    u = line.place(x).requires_grad_()
    with torch.enable_grad():
        prediction, target = line.at(u)
        try:
            values = _values(loss, line, prediction, target)
        except Exception as error:  # a stranger's loss may raise anything
            told = (
                str(error) if isinstance(error, LossbenchError) else f"{type(error).__name__}: {error}".splitlines()[0]
            )
            raise Incompatible(f"{label} cannot be drawn against {axis.name!r}: {told}") from error
        if values.shape != u.shape:
            told = f"it must give one value per {'batch' if loss.batch_level else 'example'}, {list(u.shape)} in all"
            raise Incompatible(
                f"{label} cannot be drawn against {axis.name!r}: {told}. Got {list(values.shape)} instead."
            )
    if not values.requires_grad:
        return values.detach(), torch.zeros_like(u)
    (slopes,) = torch.autograd.grad(values.sum(), u, allow_unused=True, materialize_grads=True)
    return values.detach(), slopes


def _values(loss: Loss, line: Path, prediction: Tensor, target: Tensor) -> Tensor:
    if not loss.batch_level:
        return _call(loss, line, prediction, target)
    with suppress(Exception):  # a stranger's loss may take one batch at a time; what it raises then is told
        if (together := _call(loss, line, prediction, target)).shape == prediction.shape[:1]:
            return together
    return torch.stack([_call(loss, line, p, t) for p, t in zip(prediction, target, strict=True)])


def _call(loss: Loss, line: Path, prediction: Tensor, target: Tensor) -> Tensor:
    result = loss(prediction, target, **_needs(loss, line, len(prediction)))
    return result[0] if Requirement.STATE in loss.requires else result


def _needs(loss: Loss, line: Path, n: int) -> dict[str, Any]:
    """Return what the loss is given beside prediction and target: the same for all, and nothing that stands out."""
    names = tuple(f"class {i}" for i in range(line.n_outputs))
    problem = Problem((1,), line.n_outputs, n, names)

    def parameters() -> dict[str, Tensor]:
        made = loss.init_parameters(problem, torch.Generator().manual_seed(0)) | dict(line.parameters)
        return {name: tensor.detach().double() for name, tensor in made.items()}

    def state() -> Tensor | None:
        made = loss.init_state(problem)
        return made.double() if made is not None and made.is_floating_point() else made

    ways: dict[Requirement, Callable[[], Any]] = {
        Requirement.CLASS_COUNTS: lambda: torch.full((1, line.n_outputs), EXAMPLES_PER_CLASS, dtype=torch.float64),
        Requirement.RESIDUAL_SCALE: lambda: torch.ones(1, line.n_outputs, dtype=torch.float64),
        Requirement.PROGRESS: lambda: 1.0,
        Requirement.PARAMETERS: parameters,
        Requirement.STATE: state,
        Requirement.INDEX: lambda: torch.arange(n),
        Requirement.SAMPLE_WEIGHT: lambda: torch.ones(n, dtype=torch.float64),
        Requirement.CLASS_NAMES: lambda: names,
        Requirement.N_EXAMPLES: lambda: n,
    }
    return {str(need): ways[need]() for need in loss.requires}


def _held(given: Mapping[str, tuple[Loss, Sequence[Path]]]) -> dict[str, tuple[str, ...]]:
    """Return what is held fixed, with the losses that it concerns."""
    found: dict[str, list[str]] = {}
    for label, (loss, lines) in given.items():
        replaced = {Requirement.PARAMETERS} if lines[0].parameters else set()
        needed = [HELD[need] for need in loss.requires if need in HELD and need not in replaced]
        for fact in dict.fromkeys([*(fact for line in lines for fact in line.held), *needed]):
            found.setdefault(fact, []).append(label)
    return {fact: tuple(labels) for fact, labels in found.items()}


def _normalised(made: Curves) -> tuple[Curve, ...]:
    """Each loss divided by its steepest slope."""
    steepest = {label: 0.0 for label in made.labels}
    for curve in made.curves:
        known = np.abs(curve.slope[np.isfinite(curve.slope)])
        steepest[curve.loss] = max(steepest[curve.loss], float(known.max(initial=0.0)))
    scale = {label: 1 / s if s > 0 else 1.0 for label, s in steepest.items()}
    return tuple(replace(c, value=c.value * scale[c.loss], slope=c.slope * scale[c.loss]) for c in made.curves)
