"""Replicas whose loss is a combination: a group per term, each on its own outputs, and the weights of the terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.interfaces import Task, TermWeighting
from lossbench.interfaces.loss import replicate
from lossbench.losses.composition.combined import Combined, narrow_problem, sum_weighted
from lossbench.training.batches import Batch, DataFacts
from lossbench.training.groups import LossGroup, Moment, flatten_parameters
from lossbench.training.routes import stack_fields
from lossbench.types import Problem, Requirement


@dataclass(frozen=True)
class OutputSubset:
    """Selects the outputs of one term among D: in the head's raw output, in targets, and in facts about the data."""

    columns: tuple[int, ...]  # all, if empty
    n_outputs: int  # D

    def select_raw(self, raw: Tensor) -> Tensor:
        """Select columns of `[..., m D]`, m numbers per output."""
        if not self.columns:
            return raw
        return raw.unflatten(-1, (-1, self.n_outputs))[..., list(self.columns)].flatten(-2)

    def select_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape of one example's selected raw output, from that of all raw output."""
        return self.select_raw(torch.empty(shape, device="meta")).shape

    def select_batch(self, batch: Batch) -> Batch:
        """Return the same examples with the columns' targets."""
        return batch._replace(targets=self.select(batch.targets)) if self.columns else batch

    def select_facts(self, facts: DataFacts) -> DataFacts:
        """Return the columns' shifts, scales and counts."""
        return SubsetFacts(self, facts) if self.columns else facts

    def select(self, values: Tensor) -> Tensor:
        """Select columns of `[..., D]`; `[..., 1]`, which all outputs share, stays as it is."""
        return values[..., list(self.columns)] if values.shape[-1] == self.n_outputs else values


class SubsetFacts:
    """`DataFacts` of some outputs."""

    def __init__(self, subset: OutputSubset, facts: DataFacts) -> None:
        self.shift, self.scale = subset.select(facts.shift), subset.select(facts.scale)
        self.class_counts = None if facts.class_counts is None else subset.select(facts.class_counts)
        self.get_sample_weights = facts.get_sample_weights


class CombinedGroup(nn.Module):
    """Neighbouring replicas that share a combined loss and the class of their weighting of terms, if they have one."""

    def __init__(
        self,
        replicas: slice,
        losses: Sequence[Combined],
        weightings: Sequence[TermWeighting],
        seeds: Sequence[int],
        task: Task,
        problem: Problem,
    ) -> None:
        super().__init__()
        self.replicas, self.task, self.problem = replicas, task, problem
        terms = list(losses[0].expand_terms(problem))
        self.fixed_weights = [term.weight for term, _ in terms]
        self.subsets = [OutputSubset(columns, problem.n_outputs) for _, columns in terms]
        self.terms = [
            LossGroup(replicas, [term.loss] * len(losses), seeds, task, narrow_problem(problem, columns))
            for term, columns in terms
        ]
        self.registered = nn.ModuleList(self.terms)  # so that Lightning moves their state
        self.scheme = TermWeightGroup(weightings, len(terms), seeds) if weightings else None

    @property
    def failures(self) -> dict[int, str]:
        """Reasons why replicas cannot go on, by their place in the group: that of the first term that has failed."""
        return {r: reason for term in reversed(self.terms) for r, reason in term.failures.items()}

    @property
    def route(self) -> str:
        """The routes of the terms, in their order."""
        return " + ".join(term.route for term in self.terms)

    def get_initial_parameters(self) -> Tensor:
        """Return the replicas' initial trainable parameters: of each term, then of the scheme, `[r, Q]`."""
        scheme = [] if self.scheme is None else [self.scheme.get_initial_parameters()]
        return torch.cat([*(term.get_initial_parameters() for term in self.terms), *scheme], 1)

    def _split_columns(self, extra: Tensor) -> list[Tensor]:
        """Split the losses' columns `[R, Q]` into those of each term, and the scheme's behind them."""
        widths = [term.width for term in self.terms]
        return list(extra.split([*widths, extra.shape[1] - sum(widths)], 1))

    def choose_route(self, shape: torch.Size, facts: DataFacts, batch: Batch, extra: Tensor) -> None:
        """Choose every term's route; `shape`: of one example's raw output."""
        for term, subset, columns in zip(self.terms, self.subsets, self._split_columns(extra), strict=False):
            term.choose_route(
                subset.select_shape(shape), subset.select_facts(facts), subset.select_batch(batch), columns
            )

    def compute_losses(self, raw: Tensor, facts: DataFacts, batch: Batch, extra: Tensor, moment: Moment) -> Tensor:
        """Compute the weighted sum per example `[r, B]`, or per batch `[r]` if a term is batch-level.

        NaN for replicas of which a term has failed.
        """
        # 1. losses of each term, [r, B] or [r]
        *columns, scheme_columns = self._split_columns(extra)
        losses = [
            term.compute_losses(
                subset.select_raw(raw), subset.select_facts(facts), subset.select_batch(batch), own, moment
            )
            for term, subset, own in zip(self.terms, self.subsets, columns, strict=True)
        ]
        if self.scheme is None:
            return sum_weighted(losses, self.fixed_weights, raw.shape[:2])

        # 2. a scheme weighs the terms' means over the batch, [r, K]
        pairs = zip(self.fixed_weights, losses, strict=True)
        means = torch.stack([w * (x.mean(1) if x.ndim > 1 else x) for w, x in pairs], 1)
        weights, penalty = self.scheme(means, scheme_columns[self.replicas], moment, self.replicas)
        return (weights * means).sum(1) + penalty  # [r]

    def predict(self, raw: Tensor, extra: Tensor, facts: DataFacts) -> Tensor:
        """Return the predictions that metrics take, each output as its first term reads it."""
        points = [
            term.predict(subset.select_raw(raw), columns, subset.select_facts(facts))
            for term, subset, columns in zip(self.terms, self.subsets, self._split_columns(extra), strict=False)
        ]
        everything = not self.subsets[0].columns
        prediction = points[0] if everything else raw.new_zeros((*raw.shape[:-1], self.problem.n_outputs))
        # the first term is written last, and so it counts
        for point, subset in reversed(list(zip(points, self.subsets, strict=True))):
            if subset.columns:
                index = torch.tensor(subset.columns, device=raw.device)
                prediction = prediction.index_copy(-1, index, point.to(prediction))
        return prediction


class TermWeightGroup(nn.Module):
    """The replicas' weightings of terms, of one class, with their parameters and state."""

    state: Tensor | None

    def __init__(self, weightings: Sequence[TermWeighting], n_terms: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.weightings, self.weighting = weightings, weightings[0]
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        pairs = zip(weightings, generators, strict=True)
        states = [s for w, g in pairs if (s := w.init_state(n_terms, g)) is not None]
        self.register_buffer("state", torch.stack(states) if states else None)
        self.initial_parameters = [w.init_parameters(n_terms) for w in weightings]

    def get_initial_parameters(self) -> Tensor:
        """Return the replicas' initial trainable parameters, flat: `[r, Q]`."""
        return flatten_parameters(self.initial_parameters)

    def forward(self, means: Tensor, extra: Tensor, moment: Moment, replicas: slice) -> tuple[Tensor, Tensor | float]:
        """Return weights for the terms' means `[r, K]`, and the penalty that is added to their sum, `[r]`."""
        # 1. named parameters, as views of the columns [r, Q]
        shapes = {n: t.shape for n, t in self.initial_parameters[0].items()}
        sizes = [s.numel() for s in shapes.values()]
        parts = extra[:, : sum(sizes)].split(sizes, 1)
        parameters = {n: p.unflatten(1, s) for (n, s), p in zip(shapes.items(), parts, strict=True)}

        # 2. what the weighting requires
        extras: dict[Requirement, Any] = {
            Requirement.PARAMETERS: parameters,
            Requirement.STATE: self.state,
            Requirement.PROGRESS: moment.progress,
            Requirement.EPOCH: moment.epoch,
        }
        requires = self.weighting.requires
        if Requirement.GRAMIAN in requires:
            extras[Requirement.GRAMIAN] = moment.compute_gradient_gramian(means, replicas)

        # 3. one call for all replicas
        stacked = replicate(self.weighting, **stack_fields(self.weightings, means, 2))
        result = stacked(means.detach(), **{str(name): extras[name] for name in requires})
        if Requirement.STATE in requires:
            result, state = result
            self.state = state.detach()
        return result, self.weighting.penalty(parameters)
