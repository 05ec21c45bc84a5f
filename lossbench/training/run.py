"""`run_stack`: a function of plain, serialisable input. Local processes call it; a cluster's workers can."""

import ctypes
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytorch_lightning as pl
import torch

from lossbench.errors import Incompatible, LossbenchError
from lossbench.plan import trial_id
from lossbench.records import Record
from lossbench.seeds import stable_hash
from lossbench.training.build import Pieces, build
from lossbench.training.checkpoint import Stopped, Watch
from lossbench.training.module import StackModule
from lossbench.training.objective import row_order
from lossbench.training.prepare import Prepared, prepare
from lossbench.training.results import failed, records
from lossbench.training.size import FEWEST_ROWS, chunk_rows, chunks
from lossbench.types import Stack

log = logging.getLogger("lossbench")

LIGHTNING_LOGGERS = ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "64": "64-true"}


@cache
def keep_heap() -> None:
    """Tell glibc to keep big blocks: giving them back to the kernel after each step costs up to 2x on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library: nothing to tell
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(option, value)


def run_stack(stack: Stack, watch: Watch | None = None) -> list[Record]:
    """Train the trials of a stack; their records, in the order of the trials.

    Goes on from the checkpoints in the watch's folder. Raises `Stopped` if the watch says so.
    """
    keep_heap()
    watch = watch or Watch()
    prepared, rejected = prepare([stack.trials[i] for i in row_order(stack.trials)])
    found = {trial_id(t): failed(t, reason) for t, reason in rejected.items()}
    if prepared is not None:
        parts = chunks(len(prepared.trials), _most_rows(prepared))
        while parts:
            rows = parts.pop(0)
            try:
                new = _run_chunk(prepared.part(rows), watch)
            except torch.OutOfMemoryError:
                parts = _halves(rows) + parts
            else:
                found |= {r.trial: r for r in new}
    return [found[trial_id(t)] for t in stack.trials]


def attempt(stack: Stack, watch: Watch) -> list[Record]:
    """`run_stack`, with a stack that cannot be trained at all recorded as failed: others are to go on."""
    try:
        return run_stack(stack, watch)
    except (Stopped, KeyboardInterrupt):
        raise
    except LossbenchError as error:
        reason = str(error)
    except Exception as error:
        log.exception("A stack of %d trials could not be trained.", len(stack.trials))
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return [failed(t, reason) for t in stack.trials]


def _most_rows(prepared: Prepared) -> int:
    try:
        return chunk_rows(prepared.trials, prepared.problem)
    except Exception:  # the network fails on its input: building the first chunk says so, with the reason
        return FEWEST_ROWS


def _halves(rows: slice) -> list[slice]:
    """The estimate was too low: try half as many at once. Raises where there is nothing left to halve."""
    if rows.stop - rows.start == 1:
        raise Incompatible("One trial alone needs more memory than the device has: use a smaller model or batch_size.")
    torch.cuda.empty_cache()
    middle = (rows.start + rows.stop) // 2
    return [slice(rows.start, middle), slice(middle, rows.stop)]


def _run_chunk(prepared: Prepared, watch: Watch) -> list[Record]:
    started, rows = time.perf_counter(), len(prepared.trials)
    name = stable_hash("chunk", [trial_id(t) for t in prepared.trials])[:16]
    state = watch.load(name)
    with _own_randomness(name):
        pieces = build(prepared, start=0 if state is None else state["step"])
        module = StackModule(prepared.trials, pieces, state)
        module.on_step = lambda step: watch.after_step(name, rows, step, pieces.steps, module.state)
        if len(pieces.objective.failures()) < rows:
            fit(module, pieces, prepared.trials[0].precision)
    seconds = time.perf_counter() - started + (state["seconds"] if state else 0.0)
    return records(prepared, pieces, module, seconds / rows)


@contextmanager
def _own_randomness(name: str) -> Iterator[None]:
    """Nothing of ours draws from the global generators, but a model with dropout does: give it seeded ones.

    Such draws differ between the rows, and depend on which trials train together.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(name[:15], 16))
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
