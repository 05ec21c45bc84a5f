"""What the rows of a stack minimise: losses and weightings, one call per class."""

from collections.abc import Hashable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from lossbench import registry
from lossbench.interfaces import Level, Loss, Scheme, Task, TermWeighting, Weighting
from lossbench.losses.composition.combined import Combined
from lossbench.training.batches import Batch, Feed
from lossbench.training.combined import TermsGroup
from lossbench.training.groups import LossGroup, Moment, WeightGroup
from lossbench.training.replicas import is_by_columns
from lossbench.types import Problem, Trial


def grouping(part: Loss | Scheme) -> tuple[Hashable, ...]:
    """Rows with equal keys share a call: same class, and same values of all fields that are not free floats.

    The keys also order the replicas of a stack. The module comes last, where it only keeps two classes of one name
    apart: to move a class to another file moves no replica.
    """
    fixed = [
        (f.name, repr(getattr(part, f.name)))
        for f in fields(part)  # type: ignore[arg-type]
        if not isinstance(getattr(part, f.name), float) or f.name in part.static_fields
    ]
    return (type(part).__qualname__, tuple(fixed), type(part).__module__)


def sort_replicas(trials: Sequence[Trial]) -> list[int]:
    """The trials' positions, sorted so that rows that share a call lie side by side: their slices are views."""
    keys = [(grouping(registry.losses.build(t.loss)), grouping(registry.weightings.build(t.weighting))) for t in trials]
    return sorted(range(len(trials)), key=lambda i: (keys[i], i))


def runs(keys: Sequence[Hashable]) -> list[slice]:
    """Slices of equal neighbours."""
    edges = [0, *(i for i in range(1, len(keys)) if keys[i] != keys[i - 1]), len(keys)]
    return [slice(a, b) for a, b in pairwise(edges)]


def parts_of(group: LossGroup | TermsGroup) -> list[LossGroup]:
    """The terms of a combined loss, or the group itself."""
    return group.terms if isinstance(group, TermsGroup) else [group]


class Objective(nn.Module):
    """The mean over the batch of weight times loss, of each row."""

    def __init__(self, trials: Sequence[Trial], seeds: Sequence[int], task: Task, problem: Problem) -> None:
        super().__init__()
        losses = [registry.losses.build(t.loss) for t in trials]
        weightings = [registry.weightings.build(t.weighting) for t in trials]
        levels = [w.get_level(task, problem.n_outputs) for w in weightings]
        self.epochs = trials[0].epochs
        self._shared: list[tuple[Tensor, int]] = []  # in a list it is not registered: it is the replicas'

        def weight_group(rows: slice) -> WeightGroup:
            return WeightGroup(rows, cast(list[Weighting], weightings[rows]), task, problem)  # of examples or labels

        def group(rows: slice) -> LossGroup | TermsGroup:
            if combined := [x for x in losses[rows] if isinstance(x, Combined)]:
                of_terms = cast(list[TermWeighting], weightings[rows]) if levels[rows.start] is Level.TERM else []
                return TermsGroup(rows, combined, of_terms, seeds[rows], task, problem)
            of_labels = weight_group(rows) if levels[rows.start] is Level.LABEL else None
            return LossGroup(rows, losses[rows], seeds[rows], task, problem, of_labels)

        # what weighs labels or terms is called within the group of the losses, so these must share its call, too
        inside = [level is not Level.EXAMPLE for level in levels]
        keys = [(grouping(x), grouping(w) if i else None) for x, w, i in zip(losses, weightings, inside, strict=True)]
        self.groups = [group(rows) for rows in runs(keys)]
        self.weight_groups = [
            weight_group(s)
            for s in runs([grouping(x) for x in weightings])
            if trials[s.start].weighting.name != "none" and not inside[s.start]
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
        """Raw outputs `[R, B, ..., K]` to what each row minimises, `[R]`; `progress` is the share of training done."""
        # a hair, since step / steps * epochs may fall short of a whole epoch
        moment = Moment(progress, int(progress * self.epochs + 1e-9), self.gramian)
        parts = [g.losses_of(raw[g.rows], feed, batch, extra, moment) for g in self.groups]
        size = raw.shape[1]
        losses = joined([p[:, None].expand(-1, size) if p.ndim == 1 else p for p in parts], 0)  # [R, B]
        if self.weight_groups:
            weights = torch.ones_like(losses)
            for group in self.weight_groups:
                r = group.rows
                weights[r] = group.weights_of(losses[r], raw[r], feed, batch, moment)
            losses = losses * weights
        return losses.mean(1)

    def share(self, theta: Tensor, n_shared: int) -> None:
        """Tell where the rows' parameters `[R, P]` are, the first ones being those that all outputs share."""
        self._shared = [(theta, n_shared)]

    def gramian(self, terms: Tensor, rows: slice) -> Tensor:
        """Inner products of the gradients of terms `[r, K]` of `rows` in the shared parameters, `[r, K, K]`."""
        ((theta, n_shared),) = self._shared
        parts = [torch.autograd.grad(term.sum(), theta, retain_graph=True)[0] for term in terms.unbind(1)]
        gradients = torch.stack([part[rows, :n_shared] for part in parts], 1)
        return gradients @ gradients.mT

    def failures(self) -> dict[int, str]:
        """Rows whose loss has raised, with the message."""
        return {g.rows.start + r: reason for g in self.groups for r, reason in g.failures.items()}

    def group_failures(self) -> list[dict[int, str]]:
        """Why rows of each group's, or term's, loss have raised, by their place in the group."""
        return [dict(part.failures) for g in self.groups for part in parts_of(g)]

    def fail_again(self, failures: Sequence[dict[int, str]]) -> None:
        """Go on from `group_failures()`."""
        for part, found in zip((p for g in self.groups for p in parts_of(g)), failures, strict=True):
            part.failures |= found

    def predict(self, raw: Tensor, extra: Tensor, feed: Feed) -> Tensor:
        """Point predictions of all rows."""
        return joined([g.predict(raw[g.rows], extra, feed) for g in self.groups], 0)


def joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    """The parts side by side, stored as they are; a single one itself, where `torch.cat` would copy."""
    if len(parts) == 1:
        return parts[0]
    if axis == 1 and parts[0].ndim == 3 and is_by_columns(parts[0]):
        return torch.cat([p.mT for p in parts], 2).mT
    return torch.cat(list(parts), axis)
