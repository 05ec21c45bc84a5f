"""Groups of replicas whose losses, or weightings, are one class, and which share a call."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.errors import InvalidValue, LossbenchError
from lossbench.interfaces import Loss, Scaling, Task, Weighting
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import refresh_scale, replicate
from lossbench.interfaces.spaces import SPACES
from lossbench.sources import find_user_line
from lossbench.training.batches import Batch, DataFacts
from lossbench.training.isolation import InputGuard, needs_input_guard
from lossbench.training.routes import (
    Call,
    Extras,
    Routes,
    check_shape,
    choose_route,
    get_display_name,
    pick_representatives,
    stack_fields,
)
from lossbench.types import Encoding, Problem, Requirement

LOSS_ERRORS = (Exception, SystemExit)
"""The errors that a third-party loss may raise: they end its own trials, and not the program."""


@dataclass(frozen=True)
class Moment:
    """A moment of training, with the way to compare the gradients of several terms at it."""

    progress: float  # share of training done
    epoch: int  # complete passes done
    compute_gradient_gramian: Callable[[Tensor, slice], Tensor]  # from terms [r, K] of some replicas: [r, K, K]


PROBE_MOMENT = Moment(0.5, 1, lambda terms, replicas: torch.zeros(*terms.shape, terms.shape[-1]))
"""The moment at which routes are tried."""


def flatten_parameters(parameters: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Flatten the named parameters of each replica: `[r, Q]`."""
    empty = torch.zeros(0)  # of replicas without parameters
    return torch.stack([torch.cat([empty, *(t.flatten() for t in named.values())]) for named in parameters])


class Group(nn.Module):
    """Neighbouring replicas that share a call: what groups of losses and of weightings have in common.

    part: one of the losses or weightings; encoding: of the targets it takes.
    """

    residual_scale: Tensor | None  # [r, 1, D]

    def __init__(
        self, replicas: slice, part: Loss | Weighting, encoding: Encoding | None, task: Task, problem: Problem
    ) -> None:
        super().__init__()
        self.replicas, self.part, self.encoding, self.task, self.problem = replicas, part, encoding, task, problem
        n = replicas.stop - replicas.start
        scale = torch.zeros(n, 1, problem.n_outputs) if Requirement.RESIDUAL_SCALE in part.requires else None
        self.register_buffer("residual_scale", scale)

    def get_scaling(self, facts: DataFacts) -> Scaling:
        """Return the replicas' target maps, `[r, 1, D]`."""
        return Scaling(facts.shift[self.replicas], facts.scale[self.replicas])

    def convert(self, raw: Tensor, targets: Tensor, scaling: Scaling) -> tuple[Any, Any]:
        """Convert raw outputs and targets to the prediction and target that the part takes, in the precision of `raw`.

        Each is None if the part takes none.
        """
        space, encoding = self.part.space, self.encoding
        prediction = None if space is None else self.task.convert(raw, space, scaling).to(raw.dtype)
        target = None if encoding is None else self.task.encode(targets, encoding, self.problem, scaling)
        return prediction, target.to(raw.dtype) if target is not None and target.is_floating_point() else target

    def update_residual_scale(self, prediction: Tensor, target: Tensor) -> None:
        """Refresh the residuals' scale, if the part requires it."""
        if self.residual_scale is not None:
            self.residual_scale = refresh_scale(self.residual_scale, prediction, target)

    def collect_extras(self, facts: DataFacts, batch: Batch, moment: Moment, **own: Any) -> dict[str, Any]:
        """Collect the arguments that the part requires at this step; `own`: of a loss, its state and parameters."""
        extras: dict[str, Any] = own | {
            Requirement.CLASS_COUNTS: None if facts.class_counts is None else facts.class_counts[self.replicas],
            Requirement.RESIDUAL_SCALE: self.residual_scale,
            Requirement.INDEX: batch.position[self.replicas],
            Requirement.PROGRESS: moment.progress,
            Requirement.EPOCH: moment.epoch,
            Requirement.CLASS_NAMES: self.problem.class_names,
            Requirement.N_EXAMPLES: self.problem.n_examples,
        }
        if Requirement.SAMPLE_WEIGHT in self.part.requires:
            position = batch.position[self.replicas]  # [r, B]
            extras[Requirement.SAMPLE_WEIGHT] = facts.get_sample_weights(position, self.replicas)
        return {str(name): extras[name] for name in self.part.requires}


class WeightGroup(Group):
    """Replicas whose weightings are one class."""

    def __init__(self, replicas: slice, weightings: Sequence[Weighting], task: Task, problem: Problem) -> None:
        super().__init__(replicas, weightings[0], weightings[0].select_encoding(task), task, problem)
        self.weightings, self.weighting = list(weightings), weightings[0]

    def compute_weights(self, losses: Tensor, raw: Tensor, facts: DataFacts, batch: Batch, moment: Moment) -> Tensor:
        """Compute weights of the replicas' losses `[r, B]`, from raw outputs `[r, B, ..., K]`.

        For weightings of labels, losses and weights are `[r, B L]`. Weights are detached, unless their scheme gives
        them a gradient.
        """
        raw = raw if self.weighting.differentiable else raw.detach()
        prediction, target = self.convert(raw, batch.targets[self.replicas], self.get_scaling(facts))
        self.update_residual_scale(prediction, target)
        losses = losses.detach()
        if self.encoding is not None and ENCODINGS[self.encoding].per_label:
            losses = losses.unflatten(1, (-1, target.shape[-1]))  # [r, B, L]
        stacked = replicate(self.weighting, **stack_fields(self.weightings, losses, losses.ndim))
        weights = stacked(losses, prediction, target, **self.collect_extras(facts, batch, moment)).flatten(1)
        return weights if self.weighting.differentiable else weights.detach()


class LossGroup(Group):
    """Replicas whose losses are one class; where weightings act on each label, theirs are one class as well."""

    state: Tensor | None

    def __init__(
        self,
        replicas: slice,
        losses: Sequence[Loss],
        seeds: Sequence[int],
        task: Task,
        problem: Problem,
        label_weights: WeightGroup | None = None,
    ) -> None:
        super().__init__(replicas, losses[0], losses[0].encoding, task, problem)
        self.label_weights = label_weights
        self.losses, self.loss = list(losses), losses[0]
        states = [s for loss in losses if (s := loss.init_state(problem)) is not None]
        self.register_buffer("state", torch.stack(states) if states else None)
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        self.initial_parameters = [
            loss.init_parameters(problem, generator) for loss, generator in zip(losses, generators, strict=True)
        ]
        self.shapes = {n: t.shape for n, t in self.initial_parameters[0].items()}
        self.width = sum(s.numel() for s in self.shapes.values())
        self._routes = Routes(losses)
        self._is_guarded = any(map(needs_input_guard, losses))
        self._call: Call | None = None
        self.route = ""
        self.failures: dict[int, str] = {}
        """Reasons why replicas cannot go on, by their place in the group."""

    def get_initial_parameters(self) -> Tensor:
        """Return the replicas' initial trainable parameters, flat: `[r, Q]`."""
        return flatten_parameters(self.initial_parameters)

    def get_parameters(self, extra: Tensor) -> dict[str, Tensor]:
        """Return named parameters `[r, ...]` as views of the stack's extra columns `[R, Q]`."""
        parts = extra[self.replicas, : self.width].split([s.numel() for s in self.shapes.values()], 1)
        return {n: p.view(len(p), *s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}

    def choose_route(self, shape: torch.Size, facts: DataFacts, batch: Batch, extra: Tensor) -> None:
        """Choose the route on random outputs and this batch's targets, and record replicas whose loss fails there.

        shape: of one example's raw output.
        """

        def try_replicas(picked: list[int]) -> BaseException | None:
            """Set the route that suits these replicas; return the error of a loss that fails."""
            failure: BaseException | None = None
            # in float64; in float32 where that fails, as some third-party losses take nothing else
            for dtype in (torch.float64, torch.float32):
                try:
                    self.route = choose_route(*self._make_probe(shape, facts, batch, extra, picked, dtype))
                except LOSS_ERRORS as error:  # a third-party loss may raise anything; the other groups go on
                    failure = error
                else:
                    self._call = getattr(self._routes, self.route)
                    return None
            return failure

        if try_replicas(pick_representatives(self.losses)) is None:
            return
        for replica in range(len(self.losses)):  # a loss may raise on the data of some replicas only
            if (error := try_replicas([replica])) is not None:
                self.record_failure([replica], error)
        self._switch_to_loop()

    def _switch_to_loop(self) -> None:
        self.route, self._call = "loop", self._routes.loop

    def _make_probe(
        self, shape: torch.Size, facts: DataFacts, batch: Batch, extra: Tensor, picked: list[int], dtype: torch.dtype
    ) -> tuple[list[Loss], Tensor, Tensor, Extras]:
        """Make the arguments of `choose_route` for some replicas of the group."""
        generator = torch.Generator().manual_seed(0)
        size = (len(picked), batch.targets.shape[1], *shape)
        # heavy tails, so that branches for large errors are met
        spread = torch.linspace(1, 8, size[1]).view(-1, *[1] * len(shape))  # [B, 1, ...]
        raw = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) * spread  # [r, B, ..., K]
        in_stack = [self.replicas.start + i for i in picked]
        scaling = Scaling(_pick_replicas(facts.shift, in_stack), _pick_replicas(facts.scale, in_stack))
        prediction, target = self._flatten_labels(*self.convert(raw, _pick_replicas(batch.targets, in_stack), scaling))
        state, parameters = self.state, self.get_parameters(extra)
        extras = self.collect_extras(facts, batch, PROBE_MOMENT, state=state, parameters=parameters)
        if self.residual_scale is not None:
            extras[Requirement.RESIDUAL_SCALE] = torch.ones_like(self.residual_scale)
        extras = {name: _pick_replicas(value, picked) for name, value in extras.items()}
        return [self.losses[i] for i in picked], prediction, target, extras

    def record_failure(self, replicas: Iterable[int], error: BaseException) -> None:
        """Record why these replicas, counted within the group, cannot go on."""
        reason = next(iter(str(error).strip().splitlines()), "no message")
        if not isinstance(error, LossbenchError):
            name = get_display_name(self.loss)
            reason = f"{name} raises {type(error).__name__}: {reason}{find_user_line(error)}"
        self.failures |= dict.fromkeys(replicas, reason)

    def compute_losses(self, raw: Tensor, facts: DataFacts, batch: Batch, extra: Tensor, moment: Moment) -> Tensor:
        """Compute one loss per example `[r, B]`, or per batch `[r]`; NaN for replicas whose loss has failed."""
        if len(self.failures) == len(self.losses):
            return _make_nan_losses(raw)
        try:
            losses = self._compute_losses(raw, facts, batch, extra, moment)
        except torch.OutOfMemoryError:  # not the loss's fault: the chunk is too large
            raise
        except LOSS_ERRORS as error:  # as in choose_route(): the other groups go on
            self.record_failure(range(len(self.losses)), error)
            return _make_nan_losses(raw)
        if not self.failures:
            return losses
        # NaN from each failed replica's own outputs: from all of raw, even a gradient of 0 times NaN would be NaN
        parts = list(losses)
        for r in self.failures:
            nan = _make_nan_losses(raw[r : r + 1])[0]  # [B]
            parts[r] = nan if losses.ndim > 1 else nan.sum()
        return torch.stack(parts)

    def _compute_losses(self, raw: Tensor, facts: DataFacts, batch: Batch, extra: Tensor, moment: Moment) -> Tensor:
        if self._call is None:
            raise InvalidValue("choose_route() comes before the first step.")
        # 1. prediction and target as the loss takes them
        prediction, target = self._flatten_labels(
            *self.convert(raw, batch.targets[self.replicas], self.get_scaling(facts))
        )
        self.update_residual_scale(prediction, target)
        # 2. the call
        extras = self.collect_extras(facts, batch, moment, state=self.state, parameters=self.get_parameters(extra))
        result = self._call_losses(self._call, prediction, target, extras)
        if Requirement.STATE in self.loss.requires:
            result, state = result
            self.state = state.detach()
        # 3. where labels have weights, their weighted mean: [r, B L] to [r, B]
        if self.label_weights is None:
            return result
        weights = self.label_weights.compute_weights(result, raw, facts, batch, moment)
        return (result * weights).unflatten(1, raw.shape[1:]).mean(2)

    def _call_losses(self, call: Call, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call the losses. Once that of one replica raises, call them one by one, so that the others go on."""
        if not self.failures:
            try:
                result = self._call_guarded(call, prediction, target, extras)
                check_shape(self.loss, result[0] if isinstance(result, tuple) else result, prediction)
            except torch.OutOfMemoryError:
                raise
            except LOSS_ERRORS:  # the calls below find out which replicas' it is
                self._switch_to_loop()
            else:
                return result
        parts = [self._call_or_fail(r, prediction, target, extras) for r in range(len(self.losses))]
        return tuple(map(torch.stack, zip(*parts, strict=True))) if isinstance(parts[0], tuple) else torch.stack(parts)

    def _call_guarded(self, call: Call, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call the losses; third-party ones on copies of their inputs, which they must leave as they are."""
        if not self._is_guarded:
            return call(prediction, target, extras)
        guard = InputGuard(prediction, target)
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # put back afterwards, whatever the loss does or raises
            result = call(guard.prediction, guard.target, extras)
            if problem := guard.find_problem(result):
                raise InvalidValue(f"{get_display_name(self.loss)} {problem}.")
        return result

    def _call_or_fail(self, replica: int, prediction: Tensor, target: Tensor, extras: Extras) -> Any:
        """Call the loss of one replica; return zeros in its place if it raises, or has raised before."""
        if replica not in self.failures:
            try:
                call = partial(self._routes.call_replica, replica)
                result = self._call_guarded(call, prediction[replica], target[replica], extras)
                losses = result[0] if isinstance(result, tuple) else result
                check_shape(self.loss, losses[None], prediction[replica : replica + 1])
            except torch.OutOfMemoryError:
                raise
            except LOSS_ERRORS as error:
                self.record_failure([replica], error)
            else:
                return result
        zeros = prediction.new_zeros(() if self.loss.batch_level else prediction.shape[1:2])
        return (zeros, extras[Requirement.STATE][replica]) if Requirement.STATE in self.loss.requires else zeros

    def _flatten_labels(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Make each label an example, `[r, B L, 1]`, where labels have weights."""
        if self.label_weights is None:
            return prediction, target
        return prediction.flatten(1).unsqueeze(-1), target.flatten(1).unsqueeze(-1)

    def predict(self, raw: Tensor, extra: Tensor, facts: DataFacts) -> Tensor:
        """Return the predictions that metrics take, from the replicas' raw outputs `[r, N, K]`."""
        if SPACES[self.loss.space].scored_by_loss and not self.task.held_out_classes:
            stacked = replicate(self.loss, **stack_fields(self.losses, raw, raw.ndim))
            raw = stacked.score_classes(raw, self.get_parameters(extra))
        return self.task.predict(raw, self.loss.space, self.problem, self.get_scaling(facts))


def _make_nan_losses(raw: Tensor) -> Tensor:
    """Return NaN in place of losses, `[r, B]`; its gradient, NaN as well, freezes the replicas."""
    return raw.flatten(2)[:, :, 0] * torch.nan


def _pick_replicas(value: Any, replicas: list[int]) -> Any:
    """Pick replicas from a tensor or a mapping of tensors, floats as float64; leave other values as they are."""
    if isinstance(value, Tensor):
        picked = value[torch.tensor(replicas)].detach()
        return picked.double() if picked.is_floating_point() else picked
    if isinstance(value, dict):
        return {k: _pick_replicas(v, replicas) for k, v in value.items()}
    return value
