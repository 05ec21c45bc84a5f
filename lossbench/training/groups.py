"""Replicas whose losses, or weightings, are one class: one call for all, by broadcasting, folding, vmap or a loop."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from lossbench.errors import InvalidValue, LossbenchError
from lossbench.interfaces import Loss, Scaling, Task, Weighting
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import refresh_scale, replicate
from lossbench.interfaces.spaces import SPACES
from lossbench.sources import find_user_line
from lossbench.training.batches import Batch, Maps
from lossbench.types import Encoding, Problem, Requirement

Extras = Mapping[str, Any]
Call = Callable[[Tensor, Tensor, Extras], Any]

SHARED = (Requirement.PROGRESS, Requirement.EPOCH, Requirement.CLASS_NAMES, Requirement.N_EXAMPLES)
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
        per_row = set(self.losses[0].requires) - set(SHARED)
        folds = not (self.fields or per_row or self.losses[0].batch_level)
        return ["broadcast", *(["fold"] if folds else []), "vmap", "loop"]

    def broadcast(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call; the loss's leading axes are free."""
        if self._stacked is None:
            self._stacked = replicate(self.losses[0], **stacked_fields(self.losses, prediction, prediction.ndim))
        return self._stacked(prediction, target, **extras)

    def fold(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call on `[r*B, ...]`, for losses that take one batch and need nothing per row."""
        losses = self.losses[0](prediction.flatten(0, 1), target.flatten(0, 1), **extras)
        return losses.unflatten(0, prediction.shape[:2])

    def vmap(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call, the row axis hidden from the loss."""
        self._columns = self._columns or stacked_fields(self.losses, prediction, 1)

        def one(fields: dict[str, Tensor], p: Tensor, t: Tensor, given: dict[str, Any]) -> Any:
            return replicate(self.losses[0], **fields)(p, t, **given)

        axes = {name: None if name in SHARED else 0 for name in extras}
        return vmap(one, in_dims=(0, 0, 0, axes), randomness="different")(
            self._columns, prediction, target, dict(extras)
        )

    def loop(self, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """One call per row: any loss at all."""
        results = [self.alone(row, prediction, target, extras) for row in range(len(self.losses))]
        if Requirement.STATE in self.losses[0].requires:
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
    pair = Requirement.STATE in loss.requires
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
    one value per example (per batch if batch-level).
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
    """Raise `InvalidValue` unless there is one value per example (per batch if batch-level)."""
    wanted = prediction.shape[:1] if loss.batch_level else prediction.shape[:2]
    if losses.shape != wanted:
        kind = "value per batch" if loss.batch_level else "value per example"
        raise InvalidValue(
            f"{name_of(loss)} must return one {kind}, shape {list(wanted[1:])} for predictions "
            f"{list(prediction.shape[1:])}. Got {list(losses.shape[1:])} instead."
        )


@dataclass(frozen=True)
class Moment:
    """Where training is, and how the gradients of what is minimised agree there."""

    share: float  # of training done
    epoch: int  # whole passes done
    gramian: Callable[[Tensor, slice], Tensor]  # of terms [r, K] of some rows: [r, K, K]


TRIAL_MOMENT = Moment(0.5, 1, lambda terms, rows: torch.zeros(*terms.shape, terms.shape[-1]))
"""When routes are tried."""


def representatives(parts: Sequence[Loss]) -> list[int]:
    """Rows that stand for all when a route is tried: the first, the last (the highest rate), one for each field."""
    picked = {0, len(parts) - 1}
    for values in differing(parts).values():
        picked.add(next(i for i, v in enumerate(values) if v != values[0]))
    return sorted(picked)


class Group(nn.Module):
    """Neighbouring rows that share a call: what losses and weightings have in common."""

    residual_scale: Tensor | None

    def __init__(
        self, rows: slice, part: Loss | Weighting, encoding: Encoding | None, task: Task, problem: Problem
    ) -> None:
        super().__init__()
        self.rows, self.part, self.encoding, self.task, self.problem = rows, part, encoding, task, problem
        n = rows.stop - rows.start
        scale = torch.zeros(n, 1, problem.n_outputs) if Requirement.RESIDUAL_SCALE in part.requires else None
        self.register_buffer("residual_scale", scale)

    def scaling(self, feed: Maps) -> Scaling:
        """The rows' target maps, `[r, 1, D]`."""
        return Scaling(feed.shift[self.rows], feed.scale[self.rows])

    def given(self, raw: Tensor, targets: Tensor, scaling: Scaling) -> tuple[Any, Any]:
        """Prediction and target as the part wants them (None where it does not), in the precision of `raw`."""
        space, encoding = self.part.space, self.encoding
        prediction = None if space is None else self.task.convert(raw, space, scaling).to(raw.dtype)
        target = None if encoding is None else self.task.encode(targets, encoding, self.problem, scaling)
        return prediction, target.to(raw.dtype) if target is not None and target.is_floating_point() else target

    def follow(self, prediction: Tensor, target: Tensor) -> None:
        """Refresh the residuals' scale, if it is wanted."""
        if self.residual_scale is not None:
            self.residual_scale = refresh_scale(self.residual_scale, prediction, target)

    def extras(self, feed: Maps, batch: Batch, moment: Moment, **own: Any) -> dict[str, Any]:
        """What the part needs at this step."""
        found: dict[str, Any] = own | {
            Requirement.CLASS_COUNTS: None if feed.class_counts is None else feed.class_counts[self.rows],
            Requirement.RESIDUAL_SCALE: self.residual_scale,
            Requirement.INDEX: batch.position[self.rows],
            Requirement.PROGRESS: moment.share,
            Requirement.EPOCH: moment.epoch,
            Requirement.CLASS_NAMES: self.problem.class_names,
            Requirement.N_EXAMPLES: self.problem.n_examples,
        }
        if Requirement.SAMPLE_WEIGHT in self.part.requires:
            found[Requirement.SAMPLE_WEIGHT] = feed.weights_at(batch.position[self.rows], self.rows)
        return {str(n): found[n] for n in self.part.requires}


class WeightGroup(Group):
    """Rows whose weightings are one class."""

    def __init__(self, rows: slice, weightings: Sequence[Weighting], task: Task, problem: Problem) -> None:
        super().__init__(rows, weightings[0], weightings[0].select_encoding(task), task, problem)
        self.weightings, self.weighting = list(weightings), weightings[0]

    def weights_of(self, losses: Tensor, raw: Tensor, feed: Maps, batch: Batch, moment: Moment) -> Tensor:
        """Weights of its rows' losses `[r, B]`, from raw outputs `[r, B, ..., K]`; of labels, both are `[r, B L]`.

        They are detached, unless their scheme gives them a gradient.
        """
        raw = raw if self.weighting.differentiable else raw.detach()
        prediction, target = self.given(raw, batch.targets[self.rows], self.scaling(feed))
        self.follow(prediction, target)
        losses = losses.detach()
        if self.encoding is not None and ENCODINGS[self.encoding].per_label:
            losses = losses.unflatten(1, (-1, target.shape[-1]))
        stacked = replicate(self.weighting, **stacked_fields(self.weightings, losses, losses.ndim))
        weights = stacked(losses, prediction, target, **self.extras(feed, batch, moment)).flatten(1)
        return weights if self.weighting.differentiable else weights.detach()


class LossGroup(Group):
    """Rows whose losses are one class; and whose weightings are, where those weigh each label."""

    state: Tensor | None

    def __init__(
        self,
        rows: slice,
        losses: Sequence[Loss],
        seeds: Sequence[int],
        task: Task,
        problem: Problem,
        of_labels: WeightGroup | None = None,
    ) -> None:
        super().__init__(rows, losses[0], losses[0].encoding, task, problem)
        self.of_labels = of_labels
        self.losses, self.loss = list(losses), losses[0]
        states = [s for loss in losses if (s := loss.init_state(problem)) is not None]
        self.register_buffer("state", torch.stack(states) if states else None)
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        self.made = [loss.init_parameters(problem, g) for loss, g in zip(losses, generators, strict=True)]
        self.shapes = {n: t.shape for n, t in self.made[0].items()}
        self.width = sum(s.numel() for s in self.shapes.values())
        self._routes = Routes(losses)
        self._call: Call | None = None
        self.route = ""
        self.failures: dict[int, str] = {}
        """Why rows cannot go on, by their place in the group."""

    def columns(self) -> Tensor:
        """The rows' initial trainable parameters, flat: `[r, Q]`."""
        empty = torch.zeros(0)
        return torch.stack([torch.cat([empty, *(t.flatten() for t in made.values())]) for made in self.made])

    def parameters_of(self, extra: Tensor) -> dict[str, Tensor]:
        """Named parameters `[r, ...]` as views of the stack's extra columns `[R, Q]`."""
        parts = extra[self.rows, : self.width].split([s.numel() for s in self.shapes.values()], 1)
        return {n: p.view(len(p), *s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}

    def settle(self, shape: torch.Size, feed: Maps, batch: Batch, extra: Tensor) -> None:
        """Choose the route on random outputs and this batch's targets; rows whose loss fails there are remembered.

        shape: of one example's raw output.
        """
        trial = partial(self._trial_run, shape, feed, batch, extra)
        if self._chosen(representatives(self.losses), trial) is None:
            return
        for row in range(len(self.losses)):  # a loss may raise on the data of some rows only
            if (error := self._chosen([row], trial)) is not None:
                self.fail([row], error)
        self._by_row()

    def _chosen(self, picked: list[int], trial: Callable[[list[int], torch.dtype], tuple[Any, ...]]) -> Any:
        """Settle on the route of some rows; the error of a loss that fails.

        In float64; in float32 where that fails, as some losses of others take nothing else.
        """
        found: Exception | None = None
        for dtype in (torch.float64, torch.float32):
            try:
                self.route = choose(*trial(picked, dtype))
            except Exception as error:  # a stranger's loss may raise anything; its rows fail, the others go on
                found = error
            else:
                self._call = getattr(self._routes, self.route)
                return None
        return found

    def _by_row(self) -> None:
        self.route, self._call = "loop", self._routes.loop

    def _trial_run(
        self, shape: torch.Size, feed: Maps, batch: Batch, extra: Tensor, picked: list[int], dtype: torch.dtype
    ) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(0)
        size = (len(picked), batch.targets.shape[1], *shape)
        # heavy tails, so that branches for large errors are met
        spread = torch.linspace(1, 8, size[1]).view(-1, *[1] * len(shape))
        raw = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) * spread
        rows = [self.rows.start + i for i in picked]
        scaling = Scaling(_pick(feed.shift, rows), _pick(feed.scale, rows))
        prediction, target = self._examples(*self.given(raw, _pick(batch.targets, rows), scaling))
        extras = self.extras(feed, batch, TRIAL_MOMENT, state=self.state, parameters=self.parameters_of(extra))
        if self.residual_scale is not None:
            extras[Requirement.RESIDUAL_SCALE] = torch.ones_like(self.residual_scale)
        return [self.losses[i] for i in picked], prediction, target, {n: _pick(v, picked) for n, v in extras.items()}

    def fail(self, rows: Iterable[int], error: Exception) -> None:
        """Remember why these rows, counted within the group, cannot go on."""
        text = next(iter(str(error).strip().splitlines()), "no message")
        ours = isinstance(error, LossbenchError)
        reason = text if ours else f"{name_of(self.loss)} raises {type(error).__name__}: {text}{find_user_line(error)}"
        self.failures |= dict.fromkeys(rows, reason)

    def losses_of(self, raw: Tensor, feed: Maps, batch: Batch, extra: Tensor, moment: Moment) -> Tensor:
        """One loss per example `[r, B]`, or per batch `[r]`; NaN for rows whose loss has failed."""
        if len(self.failures) == len(self.losses):
            return _nothing(raw)
        try:
            losses = self._losses(raw, feed, batch, extra, moment)
        except torch.OutOfMemoryError:  # not the loss's fault: the chunk is too large
            raise
        except Exception as error:  # as in settle(): the other groups go on
            self.fail(range(len(self.losses)), error)
            return _nothing(raw)
        return self._without_failed(losses, raw) if self.failures else losses

    def _without_failed(self, losses: Tensor, raw: Tensor) -> Tensor:
        # of those rows alone: through NaN times all of raw even a gradient of 0 would come back as NaN
        failed = {r: _nothing(raw[r : r + 1])[0] for r in self.failures}
        nothing = {r: row if losses.ndim > 1 else row.sum() for r, row in failed.items()}
        return torch.stack([nothing.get(r, row) for r, row in enumerate(losses)])

    def _losses(self, raw: Tensor, feed: Maps, batch: Batch, extra: Tensor, moment: Moment) -> Tensor:
        if self._call is None:
            raise InvalidValue("settle() comes before the first step.")
        prediction, target = self._examples(*self.given(raw, batch.targets[self.rows], self.scaling(feed)))
        self.follow(prediction, target)
        extras = self.extras(feed, batch, moment, state=self.state, parameters=self.parameters_of(extra))
        result = self._called(self._call, prediction, target, extras)
        if Requirement.STATE in self.loss.requires:
            result, state = result
            self.state = state.detach()
        if self.of_labels is None:
            return result
        weights = self.of_labels.weights_of(result, raw, feed, batch, moment)
        return (result * weights).unflatten(1, raw.shape[1:]).mean(2)

    def _called(self, call: Call, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """What the losses return; once that of one row raises, row by row, so that the others go on."""
        if not self.failures:
            try:
                result = call(prediction, target, extras)
                check_shape(self.loss, result[0] if isinstance(result, tuple) else result, prediction)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # whose it is, the calls below tell
                self._by_row()
            else:
                return result
        parts = [self._alone(row, prediction, target, extras) for row in range(len(self.losses))]
        return tuple(map(torch.stack, zip(*parts, strict=True))) if isinstance(parts[0], tuple) else torch.stack(parts)

    def _alone(self, row: int, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """What the loss of one row returns; zeros in the place of it if it raises, or has before."""
        if row not in self.failures:
            try:
                result = self._routes.alone(row, prediction, target, extras)
                values = result[0] if isinstance(result, tuple) else result
                check_shape(self.loss, values[None], prediction[row : row + 1])
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                self.fail([row], error)
            else:
                return result
        losses = prediction.new_zeros(() if self.loss.batch_level else prediction.shape[1:2])
        return (losses, extras[Requirement.STATE][row]) if Requirement.STATE in self.loss.requires else losses

    def _examples(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What the loss is to take for examples: each label, `[r, B L, 1]`, where labels are weighed."""
        if self.of_labels is None:
            return prediction, target
        return prediction.flatten(1).unsqueeze(-1), target.flatten(1).unsqueeze(-1)

    def predict(self, raw: Tensor, extra: Tensor, feed: Maps) -> Tensor:
        """What the metrics take, from the rows' raw outputs `[r, N, K]`."""
        if SPACES[self.loss.space].scored_by_loss and not self.task.held_out_classes:
            stacked = replicate(self.loss, **stacked_fields(self.losses, raw, raw.ndim))
            raw = stacked.score_classes(raw, self.parameters_of(extra))
        return self.task.predict(raw, self.loss.space, self.problem, self.scaling(feed))


def _nothing(raw: Tensor) -> Tensor:
    """In place of losses, `[r, B]`: NaN, whose gradient, NaN as well, freezes the rows."""
    return raw.flatten(2)[:, :, 0] * torch.nan


def _pick(value: Any, rows: list[int]) -> Any:
    """Some rows of a tensor, or of a mapping of tensors, in float64 where they are floats; others as they are."""
    if isinstance(value, Tensor):
        picked = value[torch.tensor(rows)].detach()
        return picked.double() if picked.is_floating_point() else picked
    if isinstance(value, dict):
        return {k: _pick(v, rows) for k, v in value.items()}
    return value
