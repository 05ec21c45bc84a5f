"""From trials to the pieces of a stack; and how many replicas train at once, and for how long."""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Task
from lossbench.models.heads import build_head
from lossbench.seeds import Purpose, derive_seed
from lossbench.training.batches import Feed, Order
from lossbench.training.data import Preparation, Prepared
from lossbench.training.evaluation import Evaluation, evaluation_steps
from lossbench.training.objective import Objective
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
        torch.default_generator.manual_seed(derive_seed(Purpose.TRUNK, trial))
        trunk, width = registry.models.build(trial.model).trunk(problem.input_shape)
        torch.default_generator.manual_seed(derive_seed(Purpose.HEAD, trial))
        return nn.Sequential(trunk, build_head(head, width, task.get_head_width(head, problem)))


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
    objective = Objective(trials, [derive_seed(Purpose.LOSS, t) for t in trials], task, problem)
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


PARAMETER_COPIES = 9
"""Theta, gradient (as it comes and with frozen rows out), two moments, delta, decay, clipped, best epoch."""
FEWEST_ROWS, MOST_ROWS = 16, 4096
CPU_ROWS = 128
CPU_BYTES = 128 << 20
"""Working set of one chunk on a CPU. Measured (32 MB of cache): time per trial falls up to 64 or 128 rows."""
STEP_SECONDS, FLOPS, CONVOLVED = 20e-6, 100e9, 30e9
"""A row's share of a step apart from its arithmetic, and the arithmetic of a second: matrices, and small images."""


@dataclass(frozen=True)
class Size:
    """rows: how many train at once. seconds: a rough estimate of one row's training time on a CPU."""

    rows: int
    seconds: float


def measure_stack(trials: Sequence[Trial]) -> Size:
    """The size of a stack; of the smallest where its data or network fail: the fit says so, with the reason."""
    try:
        problem = Preparation(trials[:1]).problem(trials[0])
        return Size(chunk_rows(trials, problem), row_seconds(trials[0], problem))
    except Exception as error:
        logging.getLogger("lossbench").debug("size unknown: %s", error)
        return Size(FEWEST_ROWS, 0.0)


def chunk_rows(trials: Sequence[Trial], problem: Problem) -> int:
    """How many rows train at once: 16 to 128 on a CPU, what half of the free memory holds on a GPU."""
    need = row_bytes(trials, problem)
    if torch.cuda.is_available():
        return max(1, min(MOST_ROWS, free_bytes() // 2 // need))
    return max(FEWEST_ROWS, min(CPU_ROWS, CPU_BYTES // need))


def free_bytes() -> int:
    """Memory of the GPU that is free, or that torch keeps from earlier work."""
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + kept


def row_bytes(trials: Sequence[Trial], problem: Problem) -> int:
    """Memory that one row works on in a step: copies of its parameters, activations with gradients, loss state."""
    trial = trials[0]
    net = network(trial, registry.tasks.build(trial.task), problem)
    losses = [registry.losses.build(choice) for choice in {t.loss for t in trials}]
    state = max(_numel(loss.init_state(problem)) for loss in losses)
    parameters = sum(p.numel() for p in net.parameters())
    numbers = PARAMETER_COPIES * parameters + 2 * trial.batch_size * activations(net, problem) + 2 * state
    return (8 if trial.precision == "64" else 4) * numbers


def activations(net: nn.Module, problem: Problem) -> int:
    """Numbers that the layers put out for one example."""
    sizes: list[int] = []
    leaves = [m for m in net.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(lambda _m, _i, out: sizes.append(_numel(out))) for m in leaves]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *problem.input_shape))
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def _numel(out: object) -> int:
    if isinstance(out, tuple | list):  # recurrent layers
        return sum(map(_numel, out))
    return out.numel() if isinstance(out, torch.Tensor) else 0


def row_seconds(trial: Trial, problem: Problem) -> float:
    """Steps times what a step costs: a constant, and three forward passes' arithmetic for forward and backward."""
    net = network(trial, registry.tasks.build(trial.task), problem)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, *problem.input_shape))
    convolved = counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0)
    seconds = convolved / CONVOLVED + (counter.get_total_flops() - convolved) / FLOPS
    return n_steps(trial, problem.n_examples) * (STEP_SECONDS + 3 * seconds * trial.batch_size)


def split_evenly(n: int, most: int) -> list[slice]:
    """As few parts of `n` rows as `most` allows, of nearly equal size."""
    parts = math.ceil(n / most)
    return [slice(a, b) for a, b in pairwise(round(i * n / parts) for i in range(parts + 1))]


def count_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
