"""Rows whose loss is a combination: a group per term, each on its own outputs, and what weighs the terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.interfaces import Task, TermWeighting
from lossbench.interfaces.loss import replicate
from lossbench.losses.composition.combined import Combined, narrow_problem, sum_weighted
from lossbench.training.batches import Batch, Maps
from lossbench.training.groups import LossGroup, Moment, stacked_fields
from lossbench.types import Problem, Requirement


@dataclass(frozen=True)
class View:
    """What a term on some of D outputs sees: of the head's raw output, of targets, and of what is known of them."""

    columns: tuple[int, ...]  # all, if empty
    n_outputs: int

    def raw(self, raw: Tensor) -> Tensor:
        """Of `[..., m D]`, m numbers per output, those of the columns."""
        if not self.columns:
            return raw
        return raw.unflatten(-1, (-1, self.n_outputs))[..., list(self.columns)].flatten(-2)

    def shape(self, shape: torch.Size) -> torch.Size:
        """Of one example's raw output."""
        return self.raw(torch.empty(shape, device="meta")).shape

    def batch(self, batch: Batch) -> Batch:
        """The same examples with the columns' targets."""
        return batch._replace(targets=self.of(batch.targets)) if self.columns else batch

    def maps(self, maps: Maps) -> Maps:
        """The columns' shifts, scales and counts."""
        return ViewedMaps(self, maps) if self.columns else maps

    def of(self, values: Tensor) -> Tensor:
        """Of `[..., D]` the columns; what all outputs share, `[..., 1]`, as it is."""
        return values[..., list(self.columns)] if values.shape[-1] == self.n_outputs else values


class ViewedMaps:
    """`Maps` of some outputs."""

    def __init__(self, view: View, maps: Maps) -> None:
        self.shift, self.scale = view.of(maps.shift), view.of(maps.scale)
        self.class_counts = None if maps.class_counts is None else view.of(maps.class_counts)
        self.weights_at = maps.weights_at


class TermsGroup(nn.Module):
    """Neighbouring rows that share a combined loss and the class of what weighs its terms, if anything does."""

    def __init__(
        self,
        rows: slice,
        losses: Sequence[Combined],
        weightings: Sequence[TermWeighting],
        seeds: Sequence[int],
        task: Task,
        problem: Problem,
    ) -> None:
        super().__init__()
        self.rows, self.task, self.problem = rows, task, problem
        terms = list(losses[0].expand_terms(problem))
        self.fixed = [term.weight for term, _ in terms]
        self.views = [View(columns, problem.n_outputs) for _, columns in terms]
        self.terms = [
            LossGroup(rows, [term.loss] * len(losses), seeds, task, narrow_problem(problem, columns))
            for term, columns in terms
        ]
        self.registered = nn.ModuleList(self.terms)  # so that Lightning moves their state
        self.scheme = TermWeights(weightings, len(terms), seeds) if weightings else None

    @property
    def failures(self) -> dict[int, str]:
        """Why rows cannot go on, by their place in the group: that of the first term that has failed."""
        return {row: reason for term in reversed(self.terms) for row, reason in term.failures.items()}

    @property
    def route(self) -> str:
        """How the terms are called, in their order."""
        return " + ".join(term.route for term in self.terms)

    def columns(self) -> Tensor:
        """The rows' initial trainable parameters: of each term, then of the scheme, `[r, Q]`."""
        own = [] if self.scheme is None else [self.scheme.columns()]
        return torch.cat([*(term.columns() for term in self.terms), *own], 1)

    def settle(self, shape: torch.Size, feed: Maps, batch: Batch, extra: Tensor) -> None:
        """Choose every term's route; `shape`: of one example's raw output."""
        for term, view, own in zip(self.terms, self.views, self._split(extra), strict=False):
            term.settle(view.shape(shape), view.maps(feed), view.batch(batch), own)

    def losses_of(self, raw: Tensor, feed: Maps, batch: Batch, extra: Tensor, moment: Moment) -> Tensor:
        """The weighted sum per example `[r, B]`, or per batch `[r]` if a term couples examples; NaN if one failed."""
        values = [
            term.losses_of(view.raw(raw), view.maps(feed), view.batch(batch), own, moment)
            for term, view, own in zip(self.terms, self.views, self._split(extra), strict=False)
        ]
        if self.scheme is None:
            return sum_weighted(values, self.fixed, raw.shape[:2])
        means = torch.stack([w * (v.mean(1) if v.ndim > 1 else v) for w, v in zip(self.fixed, values, strict=True)], 1)
        weights, penalty = self.scheme(means, self._split(extra)[-1][self.rows], moment, self.rows)
        return (weights * means).sum(1) + penalty

    def predict(self, raw: Tensor, extra: Tensor, feed: Maps) -> Tensor:
        """What the metrics take, each output as its first term reads it."""
        points = [
            term.predict(view.raw(raw), own, view.maps(feed))
            for term, view, own in zip(self.terms, self.views, self._split(extra), strict=False)
        ]
        found = points[0] if not self.views[0].columns else raw.new_zeros((*raw.shape[:-1], self.problem.n_outputs))
        for point, view in reversed(list(zip(points, self.views, strict=True))):
            if view.columns:
                found = found.index_copy(-1, torch.tensor(view.columns, device=raw.device), point.to(found))
        return found

    def _split(self, extra: Tensor) -> list[Tensor]:
        """The columns `[R, Q]` of each term, and the scheme's behind them."""
        widths = [term.width for term in self.terms]
        return list(extra.split([*widths, extra.shape[1] - sum(widths)], 1))


class TermWeights(nn.Module):
    """The rows' weightings of terms, one class, with their parameters and state."""

    state: Tensor | None

    def __init__(self, parts: Sequence[TermWeighting], n_terms: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.part = parts, parts[0]
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        states = [s for w, g in zip(parts, generators, strict=True) if (s := w.init_state(n_terms, g)) is not None]
        self.register_buffer("state", torch.stack(states) if states else None)
        self.made = [w.init_parameters(n_terms) for w in parts]

    def columns(self) -> Tensor:
        """The rows' initial trainable parameters, flat: `[r, Q]`."""
        return torch.stack([torch.cat([torch.zeros(0), *(t.flatten() for t in made.values())]) for made in self.made])

    def forward(self, means: Tensor, extra: Tensor, moment: Moment, rows: slice) -> tuple[Tensor, Tensor | float]:
        """Weights of the terms' means `[r, K]`, and what is added to their sum, `[r]`."""
        sizes = {n: t.shape for n, t in self.made[0].items()}
        parts = extra[:, : sum(s.numel() for s in sizes.values())].split([s.numel() for s in sizes.values()], 1)
        parameters = {n: p.unflatten(1, s) for (n, s), p in zip(sizes.items(), parts, strict=True)}
        stacked = replicate(self.part, **stacked_fields(self.parts, means, 2))
        result = stacked(means.detach(), **self._given(means, parameters, moment, rows))
        if Requirement.STATE in self.part.requires:
            result, state = result
            self.state = state.detach()
        return result, self.part.penalty(parameters)

    def _given(self, means: Tensor, parameters: dict[str, Tensor], moment: Moment, rows: slice) -> dict[str, Any]:
        found: dict[Requirement, Any] = {
            Requirement.PARAMETERS: parameters,
            Requirement.STATE: self.state,
            Requirement.PROGRESS: moment.share,
            Requirement.EPOCH: moment.epoch,
        }
        if Requirement.GRAMIAN in self.part.requires:
            found[Requirement.GRAMIAN] = moment.gramian(means, rows)
        return {str(n): found[n] for n in self.part.requires}
