"""What the rows of a stack minimise: losses and weightings, one call per class."""

from collections.abc import Hashable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lossbench import registry
from lossbench.interfaces import Loss, Scaling, Task, Weighting
from lossbench.interfaces.loss import replicated
from lossbench.interfaces.module import refreshed_scale
from lossbench.training.feed import Batch, Feed
from lossbench.training.routes import Call, Routes, choose, stacked_fields
from lossbench.types import Need, Problem, Space, Trial


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


class Group(nn.Module):
    """Rows that share a call: what losses and weightings have in common, with the state that they carry."""

    residual_scale: Tensor | None
    state: Tensor | None

    def __init__(self, rows: slice, part: Loss | Weighting, problem: Problem) -> None:
        super().__init__()
        self.rows, self.part, self.problem = rows, part, problem
        n = rows.stop - rows.start
        scale = torch.zeros(n, 1, problem.n_outputs) if Need.RESIDUAL_SCALE in part.needs else None
        self.register_buffer("residual_scale", scale)
        state = part.state(problem) if isinstance(part, Loss) else None
        self.register_buffer("state", None if state is None else state.expand(n, *state.shape).clone())

    def refresh(self, values: Tensor, targets: Tensor) -> None:
        """Follow the residuals' scale, from standardised values and targets `[r, B, D]`."""
        assert self.residual_scale is not None
        self.residual_scale = refreshed_scale(self.residual_scale, values, targets)

    def extras(self, feed: Feed, batch: Batch, parameters: dict[str, Tensor], progress: float) -> dict[str, Any]:
        """What the part needs at this step."""
        found: dict[str, Any] = {
            Need.CLASS_COUNTS: None if feed.class_counts is None else feed.class_counts[self.rows],
            Need.RESIDUAL_SCALE: self.residual_scale,
            Need.STATE: self.state,
            Need.PARAMETERS: parameters,
            Need.INDEX: batch.position[self.rows],
            Need.PROGRESS: progress,
            Need.CLASS_NAMES: self.problem.class_names,
        }
        return {str(n): found[n] for n in self.part.needs}


class LossGroup(Group):
    """Rows whose losses are one class."""

    def __init__(self, rows: slice, losses: Sequence[Loss], task: Task, problem: Problem) -> None:
        super().__init__(rows, losses[0], problem)
        self.losses, self.task = list(losses), task
        self.loss = losses[0]
        made = self.loss.parameters(problem, torch.Generator().manual_seed(0))
        self.shapes = {n: t.shape for n, t in made.items()}
        self._call: Call | None = None
        self.route, self.failure = "", ""

    def columns(self, seeds: Sequence[int]) -> Tensor:
        """The rows' initial trainable parameters, flat: `[r, Q]`."""
        made = [self.loss.parameters(self.problem, torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack([torch.cat([t.flatten() for t in m.values()]) if m else torch.zeros(0) for m in made])

    def parameters_of(self, extra: Tensor) -> dict[str, Tensor]:
        """Named parameters `[r, ...]` as views of the stack's extra columns `[R, Q]`."""
        sizes = [s.numel() for s in self.shapes.values()]
        parts = extra[self.rows, : sum(sizes)].split(sizes, 1)
        return {n: p.unflatten(1, s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}

    def settle(self, width: int, feed: Feed, batch: Batch, extra: Tensor) -> None:
        """Choose the route on random outputs and this batch's targets, in float64; a loss that fails is remembered.

        Up to four rows stand for all, as different as the rows are.
        """
        picked = self._representatives()
        rows = torch.tensor([self.rows.start + i for i in picked], device=batch.targets.device)
        generator = torch.Generator().manual_seed(0)
        raw = torch.randn(len(picked), batch.targets.shape[1], width, generator=generator, dtype=torch.float64)
        raw, scaling = raw.to(rows.device), Scaling(*(s[rows].double() for s in feed.scaling))
        target = _double(self.task.encode(_double(batch.targets[rows]), self.loss.encoding, self.problem, scaling))
        extras = self.extras(feed, batch, self.parameters_of(extra), 0.5)
        if self.residual_scale is not None:
            extras[Need.RESIDUAL_SCALE] = torch.ones_like(self.residual_scale)
        try:
            self.route = choose(
                [self.losses[i] for i in picked],
                self.task.convert(raw, self.loss.space, scaling),
                target,
                {n: _pick(v, picked) for n, v in extras.items()},
            )
            self._call = getattr(Routes(self.losses), self.route)
        except Exception as error:  # a stranger's loss may raise anything; its rows fail, the others go on
            self.fail(error)

    def _representatives(self) -> list[int]:
        first_of = {repr(loss): i for i, loss in reversed(list(enumerate(self.losses)))}
        return (sorted(first_of.values()) + [i for i in range(len(self.losses)) if i not in first_of.values()])[:4]

    def fail(self, error: Exception) -> None:
        """Remember why these rows cannot go on."""
        self.failure = f"{type(error).__name__}: {error}".splitlines()[0]

    def losses_of(self, raw: Tensor, feed: Feed, batch: Batch, extra: Tensor, progress: float) -> Tensor:
        """One loss per example `[r, B]`, or per batch `[r]`; NaN if the loss has failed."""
        if not self.failure:
            try:
                return self._losses(raw, feed, batch, extra, progress)
            except Exception as error:  # as in settle(): the other rows go on
                self.fail(error)
        return raw[:, :, 0] * torch.nan  # the NaN gradient freezes the rows

    def _losses(self, raw: Tensor, feed: Feed, batch: Batch, extra: Tensor, progress: float) -> Tensor:
        scaling = Scaling(*(s[self.rows] for s in feed.scaling))
        prediction = self.task.convert(raw, self.loss.space, scaling)
        target = self.task.encode(batch.targets[self.rows], self.loss.encoding, self.problem, scaling)
        if self.residual_scale is not None:
            self.refresh(prediction, target)
        assert self._call is not None
        result = self._call(prediction, target, self.extras(feed, batch, self.parameters_of(extra), progress))
        if Need.STATE in self.loss.needs:
            result, state = result
            self.state = state.detach()
        return result

    def point(self, raw: Tensor, extra: Tensor, feed: Feed) -> Tensor:
        """What the metrics take, from the rows' raw outputs `[r, N, K]`."""
        if self.loss.space == Space.EMBEDDING:
            raw = self.loss.scores(raw, self.parameters_of(extra))
        return self.task.point(raw, self.loss.space, self.problem, Scaling(*(s[self.rows] for s in feed.scaling)))


class WeightGroup(Group):
    """Rows whose weightings are one class."""

    def __init__(self, rows: slice, weightings: Sequence[Weighting], task: Task, problem: Problem) -> None:
        super().__init__(rows, weightings[0], problem)
        self.weightings, self.task = list(weightings), task
        self._stacked: Weighting | None = None

    def weights_of(self, losses: Tensor, raw: Tensor, feed: Feed, batch: Batch, progress: float) -> Tensor:
        """Detached weights `[r, B]` for losses `[r, B]`."""
        scaling = Scaling(*(s[self.rows] for s in feed.scaling))
        space, encoding = self.part.space, self.part.encoding
        prediction = None if space is None else self.task.convert(raw[self.rows].detach(), space, scaling)
        target = (
            None if encoding is None else self.task.encode(batch.targets[self.rows], encoding, self.problem, scaling)
        )
        if self.residual_scale is not None and prediction is not None and target is not None:
            self.refresh(prediction, target)
        if self._stacked is None:
            self._stacked = replicated(self.weightings[0], **stacked_fields(self.weightings, losses, 2))
        extras = self.extras(feed, batch, {}, progress)
        return self._stacked(losses.detach()[self.rows], prediction, target, **extras).detach()  # type: ignore[arg-type]


class Objective(nn.Module):
    """The mean over the batch of weight times loss, of each row."""

    def __init__(self, trials: Sequence[Trial], task: Task, problem: Problem) -> None:
        super().__init__()
        losses = [registry.losses.build(t.loss) for t in trials]
        weightings = [registry.weightings.build(t.weighting) for t in trials]
        self.groups = [LossGroup(s, losses[s], task, problem) for s in runs([grouping(x) for x in losses])]
        self.weight_groups = [
            WeightGroup(s, weightings[s], task, problem)
            for s in runs([grouping(x) for x in weightings])
            if trials[s.start].weighting.name != "none"
        ]
        self.registered = nn.ModuleList([*self.groups, *self.weight_groups])  # so that Lightning moves their state

    def columns(self, seeds: Sequence[int]) -> Tensor:
        """All losses' initial trainable parameters, padded to the widest: `[R, Q]`."""
        parts = [g.columns(seeds[g.rows]) for g in self.groups]
        width = max(p.shape[1] for p in parts)
        return torch.cat([nn.functional.pad(p, (0, width - p.shape[1])) for p in parts])

    def settle(self, width: int, feed: Feed, batch: Batch, extra: Tensor) -> None:
        """Choose every group's route."""
        for group in self.groups:
            group.settle(width, feed, batch, extra)

    def forward(self, raw: Tensor, feed: Feed, batch: Batch, extra: Tensor, progress: float) -> Tensor:
        """Raw outputs `[R, B, K]` to what each row minimises, `[R]`."""
        parts = [g.losses_of(raw[g.rows], feed, batch, extra, progress) for g in self.groups]
        size = raw.shape[1]
        losses = torch.cat([p[:, None].expand(-1, size) if p.ndim == 1 else p for p in parts])  # [R, B]
        if self.weight_groups:
            weights = torch.ones_like(losses)
            for group in self.weight_groups:
                weights[group.rows] = group.weights_of(losses, raw, feed, batch, progress)
            losses = losses * weights
        return losses.mean(1)

    def failures(self) -> dict[int, str]:
        """Rows whose loss has raised, with the message."""
        return {r: g.failure for g in self.groups if g.failure for r in range(g.rows.start, g.rows.stop)}

    def point(self, raw: Tensor, extra: Tensor, feed: Feed) -> list[Tensor]:
        """Point predictions, group by group."""
        return [g.point(raw[g.rows], extra, feed) for g in self.groups]


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _pick(value: Any, rows: list[int]) -> Any:
    if isinstance(value, Tensor):
        picked = value[torch.tensor(rows, device=value.device)]
        return _double(picked.detach())
    if isinstance(value, dict):
        return {k: _pick(v, rows) for k, v in value.items()}
    return value
