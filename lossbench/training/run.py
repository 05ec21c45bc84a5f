"""`run_stack`: a function of plain, serialisable input. Local processes call it; a cluster's workers can."""

import ctypes
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import pytorch_lightning as pl
import torch

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.plan import trial_id
from lossbench.records import Record
from lossbench.seeds import stable_hash
from lossbench.training.build import Pieces, build, network
from lossbench.training.module import StackModule
from lossbench.training.objective import row_order
from lossbench.training.prepare import Prepared, prepare
from lossbench.training.results import failed, records
from lossbench.types import Problem, Stack, Trial

LIGHTNING_LOGGERS = ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
PARAMETER_COPIES = 9
"""Theta, gradient (as it comes and with frozen rows out), two moments, delta, decay, clipped, best epoch."""
FEWEST_ROWS = 16
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "64": "64-true"}
CPU_BYTES = 128 << 20
"""Working set of one chunk on a CPU. Measured (32 MB of cache): time per trial falls up to 64 or 128 rows."""
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


def row_bytes(trials: Sequence[Trial], problem: Problem) -> int:
    """Memory that one row works on in a step: copies of its parameters, activations with gradients, loss state."""
    trial = trials[0]
    net = network(trial, registry.tasks.build(trial.task), problem)
    sizes: list[int] = []
    leaves = [m for m in net.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(lambda _m, _i, out: sizes.append(_numel(out))) for m in leaves]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *problem.input_shape))
    for hook in hooks:
        hook.remove()
    losses = [registry.losses.build(choice) for choice in {t.loss for t in trials}]
    state = max(_numel(loss.state(problem)) for loss in losses)
    parameters = sum(p.numel() for p in net.parameters())
    numbers = PARAMETER_COPIES * parameters + 2 * trial.batch_size * sum(sizes) + 2 * state
    return (8 if trial.precision == "64" else 4) * numbers


def _numel(out: object) -> int:
    if isinstance(out, tuple | list):  # recurrent layers
        return sum(map(_numel, out))
    return out.numel() if isinstance(out, torch.Tensor) else 0


def chunk_rows(trials: Sequence[Trial], problem: Problem) -> int:
    """How many rows train at once: 16 to 128 on a CPU, what half of the free memory holds on a GPU."""
    try:
        need = row_bytes(trials, problem)
    except Exception:  # the network fails on its input: building the first chunk says so, with the reason
        return FEWEST_ROWS
    if torch.cuda.is_available():
        return max(1, min(MOST_ROWS, torch.cuda.mem_get_info()[0] // 2 // need))
    return max(FEWEST_ROWS, min(128, CPU_BYTES // need))


def chunks(n: int, most: int) -> list[slice]:
    """As few parts of `n` rows as `most` allows, of nearly equal size."""
    parts = math.ceil(n / most)
    return [slice(a, b) for a, b in pairwise(round(i * n / parts) for i in range(parts + 1))]


def run_stack(stack: Stack, progress: Progress = lambda rows, step, steps: None) -> list[Record]:
    """Train the trials of a stack; their records, in the order of the trials."""
    keep_heap()
    prepared, rejected = prepare([stack.trials[i] for i in row_order(stack.trials)])
    found = {trial_id(t): failed(t, reason) for t, reason in rejected.items()}
    if prepared is not None:
        parts = chunks(len(prepared.trials), chunk_rows(prepared.trials, prepared.problem))
        while parts:
            rows = parts.pop(0)
            try:
                new = _run_chunk(prepared.part(rows), progress)
            except torch.OutOfMemoryError:
                parts = _halves(rows) + parts
            else:
                found |= {r.trial: r for r in new}
    return [found[trial_id(t)] for t in stack.trials]


def _halves(rows: slice) -> list[slice]:
    """The estimate was too low: try half as many at once. Raises where there is nothing left to halve."""
    if rows.stop - rows.start == 1:
        raise Incompatible("One trial alone needs more memory than the device has: use a smaller model or batch_size.")
    torch.cuda.empty_cache()
    middle = (rows.start + rows.stop) // 2
    return [slice(rows.start, middle), slice(middle, rows.stop)]


def _run_chunk(prepared: Prepared, progress: Progress) -> list[Record]:
    started = time.perf_counter()
    rows = len(prepared.trials)
    with _own_randomness(prepared.trials):
        pieces = build(prepared)
        module = StackModule(prepared.trials, pieces)
        module.on_step = lambda step: progress(rows, step, pieces.steps)
        if len(pieces.objective.failures()) < rows:
            fit(module, pieces, prepared.trials[0].precision)
    return records(prepared, pieces, module, (time.perf_counter() - started) / rows)


@contextmanager
def _own_randomness(trials: Sequence[Trial]) -> Iterator[None]:
    """Nothing of ours draws from the global generators, but a model with dropout does: give it seeded ones.

    Such draws differ between the rows, and depend on which trials train together.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(stable_hash("chunk", [trial_id(t) for t in trials])[:15], 16))
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's tips and its warnings about how it is used here."""
    loggers = [logging.getLogger(name) for name in LIGHTNING_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # raised inside Lightning 2.6 at each batch, about its own use of torch's pytree
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def fit(module: StackModule, pieces: Pieces, precision: str) -> None:
    """One Lightning fit; curves and checkpoints are ours, so its own are off."""
    # Apple's GPUs have no float64, which the targets' maps need, and small models are faster beside them
    accelerator = "cpu" if torch.backends.mps.is_available() else "auto"
    with _quiet():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=1,
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, train_dataloaders=pieces.order)
