"""`run_stack`: a function of plain, serialisable input. Local processes call it; a cluster's workers can."""

import ctypes
import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import pytorch_lightning as pl
import torch

from lossbench.plan import trial_id
from lossbench.records import Record
from lossbench.training.build import Pieces, build, network, settle
from lossbench.training.module import StackModule
from lossbench.training.objective import row_order
from lossbench.training.prepare import Prepared, prepare
from lossbench.training.results import failed, records
from lossbench.types import Stack, Trial

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "64": "64-true"}
CACHE_BYTES = 16 << 20
"""Working set of one chunk on a CPU: measured, rows gain nothing beyond what the caches hold."""
MOST_ROWS = 4096

Progress = Callable[[int, int, int], None]
"""Called after every step with the rows of the chunk, its steps done, and its steps in all."""


@cache
def keep_heap() -> None:
    """Tell glibc to keep big blocks: giving them back to the kernel after each step costs up to 2x on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library: nothing to tell
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(option, value)


def row_bytes(trial: Trial, prepared: Prepared) -> int:
    """Memory that one row works on in a step: five copies of its parameters, and its activations with gradients."""
    from lossbench import registry

    net = network(trial, registry.tasks.build(trial.task), prepared.problem)
    sizes: list[int] = []
    leaves = [m for m in net.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(lambda _m, _i, out: sizes.append(out.numel())) for m in leaves]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *prepared.problem.input_shape))
    for hook in hooks:
        hook.remove()
    parameters = sum(p.numel() for p in net.parameters())
    return 4 * (5 * parameters + 2 * trial.batch_size * sum(sizes))


def chunk_rows(trial: Trial, prepared: Prepared) -> int:
    """How many rows train at once: what the caches hold on a CPU (at least 16), half the free memory on a GPU."""
    need = row_bytes(trial, prepared)
    if torch.cuda.is_available():
        return max(1, min(MOST_ROWS, torch.cuda.mem_get_info()[0] // 2 // need))
    return max(16, min(128, CACHE_BYTES // need))


def chunks(trials: Sequence[Trial], most: int) -> list[list[Trial]]:
    """As few parts as `most` allows, of nearly equal size."""
    n = math.ceil(len(trials) / most)
    edges = [round(i * len(trials) / n) for i in range(n + 1)]
    return [list(trials[a:b]) for a, b in pairwise(edges)]


def run_stack(stack: Stack, progress: Progress = lambda rows, step, steps: None) -> list[Record]:
    """Train the trials of a stack; their records, in the order of the trials."""
    keep_heap()
    trials = [stack.trials[i] for i in row_order(stack.trials)]
    found: dict[str, Record] = {}
    prepared = prepare(trials)
    for part in chunks(trials, chunk_rows(trials[0], prepared)):
        for record in _run_chunk(part, progress):
            found[record.trial] = record
    return [found[trial_id(t)] for t in stack.trials]


def _run_chunk(trials: list[Trial], progress: Progress) -> list[Record]:
    prepared = prepare(trials)
    rejected = {trials[r]: reason for r, reason in prepared.rejected.items()}
    if rejected:
        good = [t for t in trials if t not in rejected]
        return [failed(t, reason) for t, reason in rejected.items()] + (_run_chunk(good, progress) if good else [])
    started = time.perf_counter()
    pieces = build(trials, prepared)
    settle(pieces)
    module = StackModule(trials, pieces)
    module.on_step = lambda step: progress(len(trials), step, pieces.steps)
    if len(pieces.objective.failures()) < len(trials):
        fit(module, pieces, trials[0].precision)
    seconds = (time.perf_counter() - started) / len(trials)
    return records(trials, prepared, pieces, module, seconds)


def fit(module: StackModule, pieces: Pieces, precision: str) -> None:
    """One Lightning fit; curves and checkpoints are ours, so its own are off."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=1,
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        # raised inside Lightning 2.6 at each batch, about its own use of torch's pytree
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
        trainer.fit(module, train_dataloaders=pieces.order)
