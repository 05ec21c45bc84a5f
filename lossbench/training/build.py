"""From trials to the pieces of a stack."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Task
from lossbench.models import heads
from lossbench.seeds import Purpose, seed_for
from lossbench.training.evaluation import Evaluation, evaluation_steps
from lossbench.training.feed import Feed
from lossbench.training.objective import Objective
from lossbench.training.order import Order
from lossbench.training.prepare import Prepared
from lossbench.training.replicas import Replicas
from lossbench.types import Head, Problem, Trial

BLOCK_NUMBERS = 4_000_000
"""Most positions in one block of batches."""


class Pieces(NamedTuple):
    """What one fit is made of."""

    replicas: Replicas
    objective: Objective
    feed: Feed
    order: Order
    evaluation: Evaluation
    steps: int


def n_steps(trial: Trial, n_examples: int) -> int:
    """Length is counted in steps: `epochs` passes over the training split, rounded, at least one step."""
    return max(1, round(trial.epochs * n_examples / min(trial.batch_size, n_examples)))


def network(trial: Trial, task: Task, problem: Problem) -> nn.Sequential:
    """Trunk and head with the initial weights of (model, seed), drawn apart so that heads share trunks."""
    head = Head(trial.head)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(Purpose.TRUNK, trial))
        trunk, width = registry.models.build(trial.model).trunk(problem.input_shape)
        torch.default_generator.manual_seed(seed_for(Purpose.HEAD, trial))
        return nn.Sequential(trunk, heads.build(head, width, task.head_width(head, problem)))


def networks(trials: Sequence[Trial], task: Task, problem: Problem) -> list[nn.Module]:
    """One network per trial; equal seeds share one object, since rows copy its weights."""
    made: dict[int, nn.Module] = {}
    for trial in trials:
        if trial.seed not in made:
            made[trial.seed] = network(trial, task, problem)
    return [made[t.seed] for t in trials]


def block_edges(points: Sequence[int], start: int, most: int) -> list[int]:
    """Steps between which Lightning's batches lie: from `start` over the evaluation points, at most `most` apart."""
    later = {p for p in points if p > start}
    return sorted({start, *later, *(e for e in range(start + most, points[-1], most))})


def build(prepared: Prepared, start: int = 0) -> Pieces:
    """The pieces of one fit, on the CPU; Lightning moves them. Their routes are settled on the first examples.

    A fit that goes on from a checkpoint begins at step `start`.
    """
    trials, problem = prepared.trials, prepared.problem
    first = trials[0]
    task: Task = registry.tasks.build(first.task)
    objective = Objective(trials, [seed_for(Purpose.LOSS, t) for t in trials], task, problem)
    replicas, feed = Replicas(networks(trials, task, problem), objective.columns()), Feed(prepared)
    objective.share(replicas.theta, replicas.n_trunk)
    steps = n_steps(first, problem.n_examples)
    points = evaluation_steps(steps, first.evaluations)
    batch_size = min(first.batch_size, problem.n_examples)
    edges = block_edges(points, start, max(1, BLOCK_NUMBERS // (len(feed.order_seeds) * batch_size)))
    order = Order(feed.order_seeds, problem.n_examples, batch_size, edges)
    metrics = tuple(dict.fromkeys((*task.metrics, first.metric)))
    evaluation = Evaluation(replicas, objective, feed, first.metric, metrics, points, batch_size)
    pieces = Pieces(replicas, objective, feed, order, evaluation, steps)
    _settle(pieces, first)
    return pieces


def _settle(pieces: Pieces, trial: Trial) -> None:
    batch = next(pieces.feed.batches(pieces.order.stream(0, min(12, pieces.order.n))[None]))
    try:
        raw, extra = pieces.replicas.settle(batch.inputs)
    except Exception as error:
        shape = list(batch.inputs.shape[2:])
        raise Incompatible(
            f"model={trial.model.label} fails on inputs of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    pieces.objective.settle(raw.shape[2:], pieces.feed, batch, extra)
