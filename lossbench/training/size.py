"""How many rows train at once, and how long that may take: from one network of the stack, without training it."""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lossbench import registry
from lossbench.training.build import n_steps, network
from lossbench.training.prepare import Preparation
from lossbench.types import Problem, Trial

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


def size(trials: Sequence[Trial]) -> Size:
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
    state = max(_numel(loss.state(problem)) for loss in losses)
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


def chunks(n: int, most: int) -> list[slice]:
    """As few parts of `n` rows as `most` allows, of nearly equal size."""
    parts = math.ceil(n / most)
    return [slice(a, b) for a, b in pairwise(round(i * n / parts) for i in range(parts + 1))]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
