"""What the rows of a stack minimise: losses and weightings, one call per class."""

from collections.abc import Hashable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lossbench import registry
from lossbench.errors import InvalidValue
from lossbench.interfaces import Loss, Scaling, Task, Weighting
from lossbench.interfaces.loss import replicated
from lossbench.interfaces.module import refreshed_scale
from lossbench.training.feed import Batch, Feed
from lossbench.training.products import is_by_columns
from lossbench.training.routes import Call, Routes, check_shape, choose, differing, stacked_fields
from lossbench.types import Encoding, Need, Problem, Space, Trial


def grouping(part: Loss | Weighting) -> tuple[Hashable, ...]:
    """Rows with equal keys share a call: same class, and same values of all fields that are not free floats."""
    fixed = [
        (f.name, repr(getattr(part, f.name)))
        for f in fields(part)  # type: ignore[arg-type]
        if not isinstance(getattr(part, f.name), float) or f.name in part.scalar_fields
    ]
    return (type(part).__module__, type(part).__qualname__, *fixed)


def row_order(trials: Sequence[Trial]) -> list[int]:
    """The trials' positions, sorted so that rows that share a call lie side by side: their slices are views."""
    keys = [(grouping(registry.losses.build(t.loss)), grouping(registry.weightings.build(t.weighting))) for t in trials]
    return sorted(range(len(trials)), key=lambda i: (keys[i], i))


def runs(keys: Sequence[Hashable]) -> list[slice]:
    """Slices of equal neighbours."""
    edges = [0, *(i for i in range(1, len(keys)) if keys[i] != keys[i - 1]), len(keys)]
    return [slice(a, b) for a, b in pairwise(edges)]


def representatives(parts: Sequence[Loss]) -> list[int]:
    """Rows that stand for all when a route is tried: the first, the last (the highest rate), one for each field."""
    picked = {0, len(parts) - 1}
    for values in differing(parts).values():
        picked.add(next(i for i, v in enumerate(values) if v != values[0]))
    return sorted(picked)


class Group(nn.Module):
    """Neighbouring rows that share a call: what losses and weightings have in common."""

    residual_scale: Tensor | None

    def __init__(self, rows: slice, part: Loss | Weighting, task: Task, problem: Problem) -> None:
        super().__init__()
        self.rows, self.part, self.task, self.problem = rows, part, task, problem
        self.encoding = part.encoding_in(task) if isinstance(part, Weighting) else part.encoding
        n = rows.stop - rows.start
        scale = torch.zeros(n, 1, problem.n_outputs) if Need.RESIDUAL_SCALE in part.needs else None
        self.register_buffer("residual_scale", scale)

    def scaling(self, feed: Feed) -> Scaling:
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
            self.residual_scale = refreshed_scale(self.residual_scale, prediction, target)

    def extras(self, feed: Feed, batch: Batch, progress: float, **own: Any) -> dict[str, Any]:
        """What the part needs at this step."""
        found: dict[str, Any] = own | {
            Need.CLASS_COUNTS: None if feed.class_counts is None else feed.class_counts[self.rows],
            Need.RESIDUAL_SCALE: self.residual_scale,
            Need.INDEX: batch.position[self.rows],
            Need.PROGRESS: progress,
            Need.CLASS_NAMES: self.problem.class_names,
            Need.N_EXAMPLES: self.problem.n_examples,
        }
        if Need.SAMPLE_WEIGHT in self.part.needs:
            found[Need.SAMPLE_WEIGHT] = feed.weights_at(batch.position[self.rows], self.rows)
        return {str(n): found[n] for n in self.part.needs}


class WeightGroup(Group):
    """Rows whose weightings are one class."""

    def __init__(self, rows: slice, weightings: Sequence[Weighting], task: Task, problem: Problem) -> None:
        super().__init__(rows, weightings[0], task, problem)
        self.weightings, self.weighting = list(weightings), weightings[0]

    def weights_of(self, losses: Tensor, raw: Tensor, feed: Feed, batch: Batch, progress: float) -> Tensor:
        """Weights of its rows' losses `[r, B]`, from raw outputs `[r, B, ..., K]`; of labels, both are `[r, B L]`.

        They are detached, unless their scheme gives them a gradient.
        """
        raw = raw if self.weighting.differentiable else raw.detach()
        prediction, target = self.given(raw, batch.targets[self.rows], self.scaling(feed))
        self.follow(prediction, target)
        losses = losses.detach()
        if self.encoding is Encoding.MULTI_HOT:
            losses = losses.unflatten(1, (-1, target.shape[-1]))
        stacked = replicated(self.weighting, **stacked_fields(self.weightings, losses, losses.ndim))
        weights = stacked(losses, prediction, target, **self.extras(feed, batch, progress)).flatten(1)
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
        super().__init__(rows, losses[0], task, problem)
        self.of_labels = of_labels
        self.losses, self.loss = list(losses), losses[0]
        states = [s for loss in losses if (s := loss.state(problem)) is not None]
        self.register_buffer("state", torch.stack(states) if states else None)
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        self.made = [loss.parameters(problem, g) for loss, g in zip(losses, generators, strict=True)]
        self.shapes = {n: t.shape for n, t in self.made[0].items()}
        self._call: Call | None = None
        self.route, self.failure = "", ""

    def columns(self) -> Tensor:
        """The rows' initial trainable parameters, flat: `[r, Q]`."""
        empty = torch.zeros(0)
        return torch.stack([torch.cat([empty, *(t.flatten() for t in made.values())]) for made in self.made])

    def parameters_of(self, extra: Tensor) -> dict[str, Tensor]:
        """Named parameters `[r, ...]` as views of the stack's extra columns `[R, Q]`."""
        sizes = [s.numel() for s in self.shapes.values()]
        parts = extra[self.rows, : sum(sizes)].split(sizes, 1)
        return {n: p.unflatten(1, s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}

    def settle(self, shape: torch.Size, feed: Feed, batch: Batch, extra: Tensor) -> None:
        """Choose the route on random outputs and this batch's targets, in float64; a loss that fails is remembered.

        shape: of one example's raw output.
        """
        try:
            self.route = choose(*self._trial_run(shape, feed, batch, extra))
            self._call = getattr(Routes(self.losses), self.route)
        except Exception as error:  # a stranger's loss may raise anything; its rows fail, the others go on
            self.fail(error)

    def _trial_run(self, shape: torch.Size, feed: Feed, batch: Batch, extra: Tensor) -> tuple[Any, ...]:
        picked = representatives(self.losses)
        generator = torch.Generator().manual_seed(0)
        size = (len(picked), batch.targets.shape[1], *shape)
        # heavy tails, so that branches for large errors are met
        spread = torch.linspace(1, 8, size[1]).view(-1, *[1] * len(shape))
        raw = torch.randn(size, generator=generator, dtype=torch.float64) * spread
        rows = [self.rows.start + i for i in picked]
        scaling = Scaling(_pick(feed.shift, rows), _pick(feed.scale, rows))
        prediction, target = self._examples(*self.given(raw, _pick(batch.targets, rows), scaling))
        extras = self.extras(feed, batch, 0.5, state=self.state, parameters=self.parameters_of(extra))
        if self.residual_scale is not None:
            extras[Need.RESIDUAL_SCALE] = torch.ones_like(self.residual_scale)
        return [self.losses[i] for i in picked], prediction, target, {n: _pick(v, picked) for n, v in extras.items()}

    def fail(self, error: Exception) -> None:
        """Remember why these rows cannot go on."""
        text = str(error).strip().splitlines()
        self.failure = f"{type(error).__name__}: {text[0] if text else 'no message'}"

    def losses_of(self, raw: Tensor, feed: Feed, batch: Batch, extra: Tensor, progress: float) -> Tensor:
        """One loss per example `[r, B]`, or per batch `[r]`; NaN if the loss has failed."""
        if not self.failure:
            try:
                return self._losses(raw, feed, batch, extra, progress)
            except torch.OutOfMemoryError:  # not the loss's fault: the chunk is too large
                raise
            except Exception as error:  # as in settle(): the other rows go on
                self.fail(error)
        return raw.flatten(2)[:, :, 0] * torch.nan  # the NaN gradient freezes the rows

    def _losses(self, raw: Tensor, feed: Feed, batch: Batch, extra: Tensor, progress: float) -> Tensor:
        if self._call is None:
            raise InvalidValue("settle() comes before the first step.")
        prediction, target = self._examples(*self.given(raw, batch.targets[self.rows], self.scaling(feed)))
        self.follow(prediction, target)
        extras = self.extras(feed, batch, progress, state=self.state, parameters=self.parameters_of(extra))
        result = self._call(prediction, target, extras)
        if Need.STATE in self.loss.needs:
            result, state = result
            self.state = state.detach()
        check_shape(self.loss, result, prediction)
        if self.of_labels is None:
            return result
        weights = self.of_labels.weights_of(result, raw, feed, batch, progress)
        return (result * weights).unflatten(1, raw.shape[1:]).mean(2)

    def _examples(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What the loss is to take for examples: each label, `[r, B L, 1]`, where labels are weighed."""
        if self.of_labels is None:
            return prediction, target
        return prediction.flatten(1).unsqueeze(-1), target.flatten(1).unsqueeze(-1)

    def point(self, raw: Tensor, extra: Tensor, feed: Feed) -> Tensor:
        """What the metrics take, from the rows' raw outputs `[r, N, K]`."""
        if self.loss.space == Space.EMBEDDING:
            stacked = replicated(self.loss, **stacked_fields(self.losses, raw, raw.ndim))
            raw = stacked.scores(raw, self.parameters_of(extra))
        return self.task.point(raw, self.loss.space, self.problem, self.scaling(feed))


class Objective(nn.Module):
    """The mean over the batch of weight times loss, of each row."""

    def __init__(self, trials: Sequence[Trial], seeds: Sequence[int], task: Task, problem: Problem) -> None:
        super().__init__()
        losses = [registry.losses.build(t.loss) for t in trials]
        weightings = [registry.weightings.build(t.weighting) for t in trials]
        by_label = [problem.n_outputs > 1 and w.encoding_in(task) is Encoding.MULTI_HOT for w in weightings]

        def weight_group(rows: slice) -> WeightGroup:
            return WeightGroup(rows, weightings[rows], task, problem)

        keys = [(grouping(x), grouping(w) if b else None) for x, w, b in zip(losses, weightings, by_label, strict=True)]
        self.groups = [
            LossGroup(s, losses[s], seeds[s], task, problem, weight_group(s) if by_label[s.start] else None)
            for s in runs(keys)
        ]
        self.weight_groups = [
            weight_group(s)
            for s in runs([grouping(x) for x in weightings])
            if trials[s.start].weighting.name != "none" and not by_label[s.start]
        ]
        self.registered = nn.ModuleList([*self.groups, *self.weight_groups])  # so that Lightning moves their state

    def columns(self) -> Tensor:
        """All losses' initial trainable parameters, padded to the widest: `[R, Q]`."""
        parts = [g.columns() for g in self.groups]
        width = max(p.shape[1] for p in parts)
        return torch.cat([nn.functional.pad(p, (0, width - p.shape[1])) for p in parts])

    def settle(self, shape: torch.Size, feed: Feed, batch: Batch, extra: Tensor) -> None:
        """Choose every group's route; `shape`: of one example's raw output."""
        for group in self.groups:
            group.settle(shape, feed, batch, extra)

    def forward(self, raw: Tensor, feed: Feed, batch: Batch, extra: Tensor, progress: float) -> Tensor:
        """Raw outputs `[R, B, ..., K]` to what each row minimises, `[R]`."""
        parts = [g.losses_of(raw[g.rows], feed, batch, extra, progress) for g in self.groups]
        size = raw.shape[1]
        losses = joined([p[:, None].expand(-1, size) if p.ndim == 1 else p for p in parts], 0)  # [R, B]
        if self.weight_groups:
            weights = torch.ones_like(losses)
            for group in self.weight_groups:
                r = group.rows
                weights[r] = group.weights_of(losses[r], raw[r], feed, batch, progress)
            losses = losses * weights
        return losses.mean(1)

    def failures(self) -> dict[int, str]:
        """Rows whose loss has raised, with the message."""
        return {r: g.failure for g in self.groups if g.failure for r in range(g.rows.start, g.rows.stop)}

    def group_failures(self) -> list[str]:
        """Why each group's loss has raised; empty where it has not."""
        return [g.failure for g in self.groups]

    def fail_again(self, failures: Sequence[str]) -> None:
        """Go on from `group_failures()`."""
        for group, failure in zip(self.groups, failures, strict=True):
            group.failure = group.failure or failure

    def point(self, raw: Tensor, extra: Tensor, feed: Feed) -> Tensor:
        """Point predictions of all rows."""
        return joined([g.point(raw[g.rows], extra, feed) for g in self.groups], 0)


def joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    """The parts side by side, stored as they are; a single one itself, where `torch.cat` would copy."""
    if len(parts) == 1:
        return parts[0]
    if axis == 1 and parts[0].ndim == 3 and is_by_columns(parts[0]):
        return torch.cat([p.mT for p in parts], 2).mT
    return torch.cat(list(parts), axis)


def _pick(value: Any, rows: list[int]) -> Any:
    """Some rows of a tensor, or of a mapping of tensors, in float64 where they are floats; others as they are."""
    if isinstance(value, Tensor):
        picked = value[torch.tensor(rows)].detach()
        return picked.double() if picked.is_floating_point() else picked
    if isinstance(value, dict):
        return {k: _pick(v, rows) for k, v in value.items()}
    return value
