"""The objective that the replicas of a stack minimise: losses and weightings, one call per class."""

from collections.abc import Hashable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from lossbench import registry
from lossbench.interfaces import Level, Loss, Scheme, Task, TermWeighting, Weighting
from lossbench.losses.composition.combined import Combined
from lossbench.training.batches import Batch, DataFacts
from lossbench.training.combined import CombinedGroup
from lossbench.training.groups import LossGroup, Moment, WeightGroup
from lossbench.training.replicas import is_column_major
from lossbench.types import Problem, Trial


def get_group_key(part: Loss | Scheme) -> tuple[Hashable, ...]:
    """Return a key that is equal for replicas that share a call.

    These have the same class, and the same values of all fields that are not free floats. The keys also order the
    replicas of a stack. The module comes last, where it only keeps two classes of one name apart: to move a class to
    another file moves no replica.
    """
    fixed = [
        (f.name, repr(getattr(part, f.name)))
        for f in fields(part)  # type: ignore[arg-type]
        if not isinstance(getattr(part, f.name), float) or f.name in part.static_fields
    ]
    return (type(part).__qualname__, tuple(fixed), type(part).__module__)


def sort_replicas(trials: Sequence[Trial]) -> list[int]:
    """Return the trials' positions, sorted so that replicas that share a call are neighbours.

    Slices of neighbours are views.
    """
    keys = [
        (get_group_key(registry.losses.build(t.loss)), get_group_key(registry.weightings.build(t.weighting)))
        for t in trials
    ]
    return sorted(range(len(trials)), key=lambda i: (keys[i], i))


def find_equal_runs(keys: Sequence[Hashable]) -> list[slice]:
    """Split into slices of equal neighbours."""
    edges = [0, *(i for i in range(1, len(keys)) if keys[i] != keys[i - 1]), len(keys)]
    return [slice(a, b) for a, b in pairwise(edges)]


class Objective(nn.Module):
    """The mean over the batch of weight times loss, for each replica."""

    def __init__(self, trials: Sequence[Trial], seeds: Sequence[int], task: Task, problem: Problem) -> None:
        super().__init__()
        losses = [registry.losses.build(t.loss) for t in trials]
        weightings = [registry.weightings.build(t.weighting) for t in trials]
        levels = [w.get_level(task, problem.n_outputs) for w in weightings]
        self.epochs = trials[0].epochs
        self._shared: list[tuple[Tensor, int]] = []  # in a list it is not registered: it belongs to the replicas

        def build_weight_group(run: slice) -> WeightGroup:
            return WeightGroup(run, cast(list[Weighting], weightings[run]), task, problem)  # of examples or labels

        # 1. groups of losses. Weightings of labels or terms are called within the group of the losses, so neighbours
        # must share that call, too
        is_inside = [level is not Level.EXAMPLE for level in levels]
        keys = [
            (get_group_key(loss), get_group_key(weighting) if inside else None)
            for loss, weighting, inside in zip(losses, weightings, is_inside, strict=True)
        ]
        self.groups: list[LossGroup | CombinedGroup] = []
        for run in find_equal_runs(keys):
            level = levels[run.start]
            if combined := [x for x in losses[run] if isinstance(x, Combined)]:
                of_terms = cast(list[TermWeighting], weightings[run]) if level is Level.TERM else []
                self.groups.append(CombinedGroup(run, combined, of_terms, seeds[run], task, problem))
            else:
                label_weights = build_weight_group(run) if level is Level.LABEL else None
                self.groups.append(LossGroup(run, losses[run], seeds[run], task, problem, label_weights))

        # 2. groups of weightings of examples, which act on the losses afterwards
        self.weight_groups = [
            build_weight_group(run)
            for run in find_equal_runs([get_group_key(w) for w in weightings])
            if trials[run.start].weighting.name != "none" and not is_inside[run.start]
        ]
        self.registered = nn.ModuleList([*self.groups, *self.weight_groups])  # so that Lightning moves their state

    def get_initial_parameters(self) -> Tensor:
        """Return all losses' initial trainable parameters, padded to the widest: `[R, Q]`."""
        parts = [g.get_initial_parameters() for g in self.groups]
        width = max(p.shape[1] for p in parts)
        return torch.cat([nn.functional.pad(p, (0, width - p.shape[1])) for p in parts])

    def choose_routes(self, shape: torch.Size, facts: DataFacts, batch: Batch, extra: Tensor) -> None:
        """Choose every group's route; `shape`: of one example's raw output."""
        for group in self.groups:
            group.choose_route(shape, facts, batch, extra)

    def forward(self, raw: Tensor, facts: DataFacts, batch: Batch, extra: Tensor, progress: float) -> Tensor:
        """Return what each replica minimises, `[R]`, from raw outputs `[R, B, ..., K]`.

        extra: the losses' columns `[R, Q]`; progress: the share of training done.
        """
        # 1. one loss per example, or one per batch, which then is every example's
        # the epoch: 1e-9 is added since step / steps * epochs may fall short of a whole number
        moment = Moment(progress, int(progress * self.epochs + 1e-9), self.compute_gradient_gramian)
        parts = [g.compute_losses(raw[g.replicas], facts, batch, extra, moment) for g in self.groups]
        size = raw.shape[1]
        losses = join_replicas([p[:, None].expand(-1, size) if p.ndim == 1 else p for p in parts], 0)  # [R, B]

        # 2. times its weight, 1 where there is no weighting
        if self.weight_groups:
            weights = torch.ones_like(losses)
            for group in self.weight_groups:
                r = group.replicas
                weights[r] = group.compute_weights(losses[r], raw[r], facts, batch, moment)
            losses = losses * weights

        # 3. the mean over the batch
        return losses.mean(1)

    def share_trunk(self, theta: Tensor, n_shared: int) -> None:
        """Set the replicas' parameters `[R, P]`, of which all outputs share the first `n_shared`."""
        self._shared = [(theta, n_shared)]

    def compute_gradient_gramian(self, terms: Tensor, replicas: slice) -> Tensor:
        """Compute inner products of the gradients of terms `[r, K]` in the shared parameters, `[r, K, K]`."""
        ((theta, n_shared),) = self._shared
        parts = [torch.autograd.grad(term.sum(), theta, retain_graph=True)[0] for term in terms.unbind(1)]  # K [R, P]
        gradients = torch.stack([part[replicas, :n_shared] for part in parts], 1)  # [r, K, P_shared]
        return gradients @ gradients.mT

    def get_failures(self) -> dict[int, str]:
        """Return the replicas whose loss has raised, with the reason."""
        return {g.replicas.start + r: reason for g in self.groups for r, reason in g.failures.items()}

    def get_group_failures(self) -> list[dict[int, str]]:
        """Return why replicas of each group's, or term's, loss have raised, by their place in the group."""
        return [dict(group.failures) for group in self._list_loss_groups()]

    def restore_failures(self, failures: Sequence[dict[int, str]]) -> None:
        """Go on from `get_group_failures()`."""
        for group, reasons in zip(self._list_loss_groups(), failures, strict=True):
            group.failures |= reasons

    def _list_loss_groups(self) -> list[LossGroup]:
        """List the groups, and for a combined loss its terms."""
        return [x for g in self.groups for x in (g.terms if isinstance(g, CombinedGroup) else [g])]

    def predict(self, raw: Tensor, extra: Tensor, facts: DataFacts) -> Tensor:
        """Return the point predictions of all replicas, `[R, N, ...]`."""
        return join_replicas([g.predict(raw[g.replicas], extra, facts) for g in self.groups], 0)


def join_replicas(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Concatenate, stored as the parts are; a single part is returned itself, where `torch.cat` would copy."""
    if len(parts) == 1:
        return parts[0]
    if axis == 1 and parts[0].ndim == 3 and is_column_major(parts[0]):
        return torch.cat([p.mT for p in parts], 2).mT
    return torch.cat(list(parts), axis)
