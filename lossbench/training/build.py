"""The components of one fit, made from trials; and how many replicas train at once, and for how long."""

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
from lossbench.training.batches import Batches, Sampler
from lossbench.training.data import Preparation, PreparedData
from lossbench.training.evaluation import Evaluation, choose_evaluation_steps
from lossbench.training.objective import Objective
from lossbench.training.replicas import Replicas
from lossbench.types import Head, Problem, Trial

BLOCK_NUMBERS = 4_000_000
"""Most positions in one block of batches."""
N_PROBED = 12
"""Examples on which routes are tried before the first step."""


class Components(NamedTuple):
    """The components of one fit."""

    replicas: Replicas
    objective: Objective
    batches: Batches
    sampler: Sampler
    evaluation: Evaluation
    steps: int


def count_steps(trial: Trial, n_examples: int) -> int:
    """Return the steps of a training: `epochs` passes over the training split, rounded, at least one step."""
    return max(1, round(trial.epochs * n_examples / min(trial.batch_size, n_examples)))


def build_network(trial: Trial, task: Task, problem: Problem) -> nn.Sequential:
    """Build trunk and head with the initial weights of (model, seed), drawn apart so that heads share trunks."""
    head = Head(trial.head)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(Purpose.TRUNK, trial))
        trunk, width = registry.models.build(trial.model).trunk(problem.input_shape)
        torch.default_generator.manual_seed(derive_seed(Purpose.HEAD, trial))
        return nn.Sequential(trunk, build_head(head, width, task.get_head_width(head, problem)))


def find_block_edges(points: Sequence[int], start: int, longest: int) -> list[int]:
    """Return the steps at which Lightning's batches begin and end.

    They run from `start` over the evaluation points, and lie at most `longest` steps apart.
    """
    later = {p for p in points if p > start}
    return sorted({start, *later, *(e for e in range(start + longest, points[-1], longest))})


def build_components(prepared: PreparedData, start: int = 0) -> Components:
    """Build the components of one fit on the CPU (Lightning moves them), and choose their routes.

    A fit that goes on from a checkpoint begins at step `start`. Raises `Incompatible` if the network fails on its
    inputs.
    """
    trials, problem = prepared.trials, prepared.problem
    first = trials[0]
    task: Task = registry.tasks.build(first.task)

    # 1. objective and networks; equal seeds share one network object, since replicas copy its weights
    objective = Objective(trials, [derive_seed(Purpose.LOSS, t) for t in trials], task, problem)
    by_seed: dict[int, nn.Module] = {}
    for trial in trials:
        if trial.seed not in by_seed:
            by_seed[trial.seed] = build_network(trial, task, problem)
    replicas = Replicas([by_seed[t.seed] for t in trials], objective.get_initial_parameters())
    objective.share_trunk(replicas.theta, replicas.n_trunk)

    # 2. batches, in blocks that end at evaluation points
    batches = Batches(prepared)
    steps = count_steps(first, problem.n_examples)
    points = choose_evaluation_steps(steps, first.evaluations)
    batch_size = min(first.batch_size, problem.n_examples)
    longest = max(1, BLOCK_NUMBERS // (len(batches.order_seeds) * batch_size))
    sampler = Sampler(batches.order_seeds, problem.n_examples, batch_size, find_block_edges(points, start, longest))

    # 3. evaluation
    metrics = tuple(dict.fromkeys((*task.metrics, first.metric)))
    evaluation = Evaluation(replicas, objective, batches, first.metric, metrics, points, batch_size)

    # 4. routes, tried on the first examples
    positions = sampler.get_positions(0, min(N_PROBED, problem.n_examples))[None]  # [1, S, 12]
    batch = next(batches.iterate(positions))
    try:
        raw, extra = replicas.choose_route(batch.inputs)
    except Exception as error:
        shape = list(batch.inputs.shape[2:])
        raise Incompatible(
            f"model={first.model.label} fails on inputs of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    objective.choose_routes(raw.shape[2:], batches, batch, extra)
    return Components(replicas, objective, batches, sampler, evaluation, steps)


PARAMETER_COPIES = 9
"""Theta, gradient (as it comes and with frozen replicas zeroed), two moments, delta, decay, clipped, best epoch."""
FEWEST_REPLICAS, MOST_REPLICAS = 16, 4096
CPU_REPLICAS = 128
CPU_BYTES = 128 << 20
"""Working set of one chunk on a CPU. Measured (32 MB of cache): time per trial falls up to 64 or 128 replicas."""
STEP_SECONDS, FLOPS, CONVOLUTION_FLOPS = 20e-6, 100e9, 30e9
"""Seconds of a step per replica apart from its arithmetic; operations per second of matrices, and of convolutions."""


@dataclass(frozen=True)
class StackSize:
    """The size of a stack.

    n_replicas: how many train at once.
    seconds: a rough estimate of one replica's training time on a CPU.
    """

    n_replicas: int
    seconds: float


def estimate_stack_size(trials: Sequence[Trial]) -> StackSize:
    """Estimate the size of a stack.

    If its data or its network fail, return the smallest size: the fit will fail as well, and give the reason.
    """
    try:
        problem = Preparation(trials[:1]).build_problem(trials[0])
        return StackSize(choose_chunk_size(trials, problem), estimate_replica_seconds(trials[0], problem))
    except Exception as error:
        logging.getLogger("lossbench").debug("size unknown: %s", error)
        return StackSize(FEWEST_REPLICAS, 0.0)


def choose_chunk_size(trials: Sequence[Trial], problem: Problem) -> int:
    """Choose how many replicas train at once: 16 to 128 on a CPU, as many as half of the free memory holds on a GPU."""
    n_bytes = estimate_replica_bytes(trials, problem)
    if torch.cuda.is_available():
        # free, or kept by torch from earlier work
        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        free = torch.cuda.mem_get_info()[0] + cached
        return max(1, min(MOST_REPLICAS, free // 2 // n_bytes))
    return max(FEWEST_REPLICAS, min(CPU_REPLICAS, CPU_BYTES // n_bytes))


def estimate_replica_bytes(trials: Sequence[Trial], problem: Problem) -> int:
    """Estimate the memory that one replica works on in a step.

    That is copies of its parameters, activations with their gradients, and the loss's state.
    """
    trial = trials[0]
    network = build_network(trial, registry.tasks.build(trial.task), problem)
    losses = [registry.losses.build(choice) for choice in {t.loss for t in trials}]
    state = max(_count_numbers(loss.init_state(problem)) for loss in losses)
    parameters = sum(p.numel() for p in network.parameters())
    activations = count_activations(network, problem)
    numbers = PARAMETER_COPIES * parameters + 2 * trial.batch_size * activations + 2 * state
    return (8 if trial.precision == "64" else 4) * numbers


def count_activations(network: nn.Module, problem: Problem) -> int:
    """Count the numbers that all layers put out for one example."""
    sizes: list[int] = []
    leaves = [m for m in network.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(lambda _m, _i, out: sizes.append(_count_numbers(out))) for m in leaves]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *problem.input_shape))
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def _count_numbers(out: object) -> int:
    if isinstance(out, tuple | list):  # recurrent layers
        return sum(map(_count_numbers, out))
    return out.numel() if isinstance(out, torch.Tensor) else 0


def estimate_replica_seconds(trial: Trial, problem: Problem) -> float:
    """Estimate steps times (a constant + the arithmetic of three forward passes: one forward, two for backward)."""
    network = build_network(trial, registry.tasks.build(trial.task), problem)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *problem.input_shape))
    convolutions = counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0)
    seconds = convolutions / CONVOLUTION_FLOPS + (counter.get_total_flops() - convolutions) / FLOPS
    return count_steps(trial, problem.n_examples) * (STEP_SECONDS + 3 * seconds * trial.batch_size)


def split_evenly(n: int, most: int) -> list[slice]:
    """Split range(n) into as few slices of at most `most` as possible, of nearly equal size."""
    parts = math.ceil(n / most)
    return [slice(a, b) for a, b in pairwise(round(i * n / parts) for i in range(parts + 1))]


def count_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
