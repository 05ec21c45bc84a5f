"""The shapes of losses as numbers: value and gradient along a path of predictions past one target.

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
from lossbench.report.figures.shape_paths import PathsByAxis, PredictionPath, build_paths
from lossbench.types import Array, Problem, Requirement

N_POINTS = 600  # even: no point of a usual range lies on a kink at a round number, which has several slopes
HUGE = 100.0  # a range that goes farther than so many times the default one is spaced logarithmically
EXAMPLES_PER_CLASS = 100.0
FIXED = {
    Requirement.CLASS_COUNTS: "equal class counts",
    Requirement.RESIDUAL_SCALE: "residual scale 1",
    Requirement.PROGRESS: "end of training",
    Requirement.PARAMETERS: "parameters as at the start",
    Requirement.STATE: "state as at the start",
    Requirement.SAMPLE_WEIGHT: "sample weights 1",
}
"""The words of a caption for what a loss requires and `_prepare_inputs` gives it."""


@dataclass(frozen=True)
class Curve:
    """A loss along a path: value and slope at each x; NaN where they are not finite or no such prediction exists.

    variant: which of a loss's paths, the first being the usual one. inside: where such predictions exist.
    """

    loss: str
    variant: str
    is_first: bool
    x: Array  # [N], as are the others
    value: Array
    slope: Array
    inside: Array

    @property
    def n_gaps(self) -> int:
        """Number of points at which value or slope is not finite."""
        return int((self.inside & ~(np.isfinite(self.value) & np.isfinite(self.slope))).sum())


@dataclass(frozen=True)
class Curves:
    """Curves that share an axis; fixed: what is held fixed, with the losses that it concerns."""

    axis: Axis
    range: tuple[float, float]
    curves: tuple[Curve, ...]
    fixed: Mapping[str, tuple[str, ...]]
    normalised: bool = False

    @property
    def labels(self) -> list[str]:
        """The losses, each once."""
        return list(dict.fromkeys(curve.loss for curve in self.curves))

    @property
    def is_huge(self) -> bool:
        """True if the axis spans several orders of magnitude on both sides of zero."""
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
    """Compute values and slopes of losses, by label, on an axis that all have; gradients by autograd in float64.

    against: error, rate, sigma, margin, probability, lead, angle, distance, offset or scale; by default the usual one.
    range: where the axis starts and ends. normalise: scale each loss so that its steepest slope in sight is 1.

    Raises `Incompatible` for losses that have no path or share no axis, `InvalidValue` for an impossible range.
    """
    # 1. the axis and its range
    paths_by_loss = {label: build_paths(label, loss) for label, loss in losses.items()}
    axis = AXES[_choose_axis(paths_by_loss, against)]
    low, high = range or (axis.start, axis.end)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidValue(f"The range must go from a number to a greater one, as -3,3. Got {low:g},{high:g} instead.")
    if axis.logarithmic and low <= 0:
        raise InvalidValue(f"The axis {axis.name!r} is logarithmic: its range starts above 0. Got {low:g} instead.")

    # 2. points, spaced evenly on the scale on which they are drawn
    if axis.logarithmic:
        points = np.geomspace(low, high, N_POINTS)
    elif _is_huge(axis, (low, high)):  # asinh(x) is x near 0, and sign(x) log(2|x|) far from it
        points = np.sinh(np.linspace(math.asinh(low), math.asinh(high), N_POINTS))
    else:
        points = np.linspace(low, high, N_POINTS)

    # 3. curves
    x, curves = torch.as_tensor(points), list[Curve]()
    for label, loss in losses.items():
        curves += _compute_loss_curves(label, loss, paths_by_loss[label][axis.name], axis, x)
    if not any(curve.inside.any() for curve in curves):
        raise InvalidValue(f"Nothing can be predicted between {low:g} and {high:g} on the axis {axis.name!r}.")

    # 4. what is held fixed, and for which losses
    fixed: dict[str, list[str]] = {}
    for label, loss in losses.items():
        paths = paths_by_loss[label][axis.name]
        replaced = {Requirement.PARAMETERS} if paths[0].parameters else set()
        required = [FIXED[need] for need in loss.requires if need in FIXED and need not in replaced]
        for fact in dict.fromkeys([*(fact for path in paths for fact in path.fixed), *required]):
            fixed.setdefault(fact, []).append(label)
    result = Curves(
        axis, (low, high), tuple(curves), {fact: tuple(labels) for fact, labels in fixed.items()}, normalise
    )
    return replace(result, curves=_normalise(result)) if normalise else result


def _choose_axis(paths_by_loss: Mapping[str, PathsByAxis], against: str | None) -> str:
    """Return `against` if all losses can be drawn on it; by default the first axis that all of them share."""
    if against is not None:
        if against not in AXES:
            raise make_unknown("axis", against, AXES, "Axes")
        lacking = [label for label, paths in paths_by_loss.items() if against not in paths]
        if lacking:
            reasons = "; ".join(_list_axes([label], list(paths_by_loss[label])) for label in lacking)
            raise Incompatible(f"Not every loss can be drawn against {against!r}: {reasons}.")
        return against
    for axis in next(iter(paths_by_loss.values())):
        if all(axis in paths for paths in paths_by_loss.values()):
            return axis
    groups: dict[tuple[str, ...], list[str]] = {}  # losses by their axes
    for label, paths in paths_by_loss.items():
        groups.setdefault(tuple(paths), []).append(label)
    reasons = "; ".join(_list_axes(labels, axes) for axes, labels in groups.items())
    raise Incompatible(f"These losses share no axis: {reasons}. Draw them apart.")


def _list_axes(labels: Sequence[str], axes: Sequence[str]) -> str:
    return f"{', '.join(labels)} {'goes' if len(labels) == 1 else 'go'} with {' or '.join(axes)}"


def _is_huge(axis: Axis, ends: tuple[float, float]) -> bool:
    is_unbounded = axis.name in ("error", "margin", "lead", "offset")
    return is_unbounded and max(map(abs, ends)) >= HUGE * axis.end


def _compute_loss_curves(label: str, loss: Loss, paths: Sequence[PredictionPath], axis: Axis, x: Tensor) -> list[Curve]:
    """Return one curve per path, without those that equal the first."""
    curves: list[Curve] = []
    for path in paths:
        inside = (x > path.limits[0]) & (x < path.limits[1])  # [N]
        value, slope = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
        if inside.any():
            value[inside], slope[inside] = _evaluate_path(label, loss, path, axis, x[inside])
        value, slope = (torch.where(part.isfinite(), part, torch.nan) for part in (value, slope))
        curve = Curve(label, path.variant, path is paths[0], *(part.numpy() for part in (x, value, slope, inside)))
        pairs = ((curve.value, curves[0].value), (curve.slope, curves[0].slope)) if curves else ()
        if not pairs or not all(np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True) for a, b in pairs):
            curves.append(curve)
    return curves


def _evaluate_path(label: str, loss: Loss, path: PredictionPath, axis: Axis, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return values ``[N]`` and their slopes ``[N]`` in the place u."""
    refusal = f"{label} cannot be drawn against {axis.name!r}"
    u = path.place(x).requires_grad_()
    with torch.enable_grad():
        prediction, target = path.at(u)
        try:
            values = _compute_values(loss, path, prediction, target)
        except Exception as error:  # a third-party loss may raise anything
            is_ours = isinstance(error, LossbenchError)
            reason = str(error) if is_ours else f"{type(error).__name__}: {error}".splitlines()[0]
            raise Incompatible(f"{refusal}: {reason}") from error
    if values.shape != u.shape:
        expected = f"it must give one value per {'batch' if loss.batch_level else 'example'}, {list(u.shape)} in all"
        raise Incompatible(f"{refusal}: {expected}. Got {list(values.shape)} instead.")
    if not values.requires_grad:
        return values.detach(), torch.zeros_like(u)
    # each value depends on its own place only, so the gradient of their sum is each one's slope
    (slopes,) = torch.autograd.grad(values.sum(), u, allow_unused=True, materialize_grads=True)
    return values.detach(), slopes


def _compute_values(loss: Loss, path: PredictionPath, prediction: Tensor, target: Tensor) -> Tensor:
    """Return a value per example, or per batch ``[N, B, ...]`` for a batch-level loss."""
    if not loss.batch_level:
        return _call_loss(loss, path, prediction, target)
    with suppress(Exception):  # a third-party loss may take one batch at a time only; it then raises below
        values = _call_loss(loss, path, prediction, target)
        if values.shape == prediction.shape[:1]:
            return values
    return torch.stack([_call_loss(loss, path, p, t) for p, t in zip(prediction, target, strict=True)])


def _call_loss(loss: Loss, path: PredictionPath, prediction: Tensor, target: Tensor) -> Tensor:
    result = loss(prediction, target, **_prepare_inputs(loss, path, len(prediction)))
    return result[0] if Requirement.STATE in loss.requires else result  # a loss with a state returns the next one, too


def _prepare_inputs(loss: Loss, path: PredictionPath, n: int) -> dict[str, Any]:
    """Return what the loss requires beside prediction and target: the same for all examples, and nothing unusual."""
    names = tuple(f"class {i}" for i in range(path.n_outputs))
    problem = Problem((1,), path.n_outputs, n, names)

    def make_parameters() -> dict[str, Tensor]:
        parameters = loss.init_parameters(problem, torch.Generator().manual_seed(0)) | dict(path.parameters)
        return {name: tensor.detach().double() for name, tensor in parameters.items()}

    def make_state() -> Tensor | None:
        state = loss.init_state(problem)
        return state.double() if state is not None and state.is_floating_point() else state

    makers: dict[Requirement, Callable[[], Any]] = {
        Requirement.CLASS_COUNTS: lambda: torch.full((1, path.n_outputs), EXAMPLES_PER_CLASS, dtype=torch.float64),
        Requirement.RESIDUAL_SCALE: lambda: torch.ones(1, path.n_outputs, dtype=torch.float64),
        Requirement.PROGRESS: lambda: 1.0,
        Requirement.PARAMETERS: make_parameters,
        Requirement.STATE: make_state,
        Requirement.INDEX: lambda: torch.arange(n),
        Requirement.SAMPLE_WEIGHT: lambda: torch.ones(n, dtype=torch.float64),
        Requirement.CLASS_NAMES: lambda: names,
        Requirement.N_EXAMPLES: lambda: n,
    }
    return {str(need): makers[need]() for need in loss.requires}


def _normalise(result: Curves) -> tuple[Curve, ...]:
    """Return the curves, each loss divided by its steepest slope."""
    steepest = {label: 0.0 for label in result.labels}
    for curve in result.curves:
        slopes = np.abs(curve.slope[np.isfinite(curve.slope)])
        steepest[curve.loss] = max(steepest[curve.loss], float(slopes.max(initial=0.0)))
    scale = {label: 1 / slope if slope > 0 else 1.0 for label, slope in steepest.items()}  # a flat loss stays as it is
    return tuple(replace(c, value=c.value * scale[c.loss], slope=c.slope * scale[c.loss]) for c in result.curves)
