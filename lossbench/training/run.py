"""`run_stack`: a function of plain, serialisable input. Local processes call it; a cluster's workers can."""

import ctypes
import gc
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytorch_lightning as pl
import torch

from lossbench.errors import Incompatible, InvalidValue, LossbenchError
from lossbench.records import UNTRAINED, Record
from lossbench.seeds import stable_hash, trial_id
from lossbench.training.build import FEWEST_ROWS, Pieces, build, chunk_rows, chunks
from lossbench.training.checkpoint import Stopped, Unusable, Watch
from lossbench.training.data import Prepared, prepare
from lossbench.training.module import StackModule
from lossbench.training.objective import row_order
from lossbench.training.results import failed, records
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

    Goes on from the checkpoints in the watch's folder. Raises `Stopped` if the watch says so, and what a chunk has
    raised if no other could be trained; else that chunk's trials have failed with it.
    """
    if len({t.stack_key for t in stack.trials}) > 1:
        raise InvalidValue("These trials cannot train together: lossbench.seeds.stacks sorts them into stacks.")
    keep_heap()
    watch = watch or Watch()
    prepared, rejected = prepare([stack.trials[i] for i in row_order(stack.trials)])
    found = {trial_id(t): failed(t, reason, "skipped") for t, reason in rejected.items()}
    if prepared is not None:
        parts, errors = chunks(len(prepared.trials), _most_rows(prepared)), list[Exception]()
        while parts:
            rows = parts.pop(0)
            new = _tried(prepared.part(rows), watch, errors)
            parts = parts if new is not None else _halves(rows) + parts
            found |= {r.trial: r for r in new or ()}
        if len(errors) and all(r.row["status"] in UNTRAINED for r in found.values()):
            raise errors[0]
    return [found[trial_id(t)] for t in stack.trials]


def _tried(prepared: Prepared, watch: Watch, errors: list[Exception]) -> list[Record] | None:
    """A chunk's records, those of failed trials if it raises; None if it needs more memory than there is."""
    try:
        return _run_chunk(prepared, watch)
    except Stopped:
        raise
    except torch.OutOfMemoryError:
        if len(prepared.trials) > 1:
            return None
        error: Exception = Incompatible(
            "One trial alone needs more memory than the device has: use a smaller model or batch_size."
        )
    except Exception as raised:  # whatever it is, the other chunks go on
        error = raised
    errors.append(error)
    return [failed(t, reason_of(error)) for t in prepared.trials]


def reason_of(error: Exception) -> str:
    """Why trials failed, in one line; an error that is not one of ours goes to the log with its traceback."""
    if isinstance(error, LossbenchError):
        return str(error)
    log.error("Trials could not be trained.", exc_info=error)
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def attempt(stack: Stack, watch: Watch) -> list[Record]:
    """`run_stack`, with a stack that cannot be trained at all recorded as failed: others are to go on."""
    try:
        return run_stack(stack, watch)
    except Stopped:
        raise
    except Exception as error:
        reason = reason_of(error)
        return [failed(t, reason) for t in stack.trials]


def _most_rows(prepared: Prepared) -> int:
    try:
        return chunk_rows(prepared.trials, prepared.problem)
    except Exception:  # the network fails on its input: building the first chunk says so, with the reason
        return FEWEST_ROWS


def _halves(rows: slice) -> list[slice]:
    """The estimate was too low: half as many at once. What the attempt held on the GPU is let go first."""
    gc.collect()
    torch.cuda.empty_cache()
    middle = (rows.start + rows.stop) // 2
    return [slice(rows.start, middle), slice(middle, rows.stop)]


def _run_chunk(prepared: Prepared, watch: Watch) -> list[Record]:
    name = stable_hash("chunk", [trial_id(t) for t in prepared.trials])[:16]
    try:
        return _fitted(prepared, watch, name, watch.load(name))
    except Unusable as error:
        log.warning("The checkpoint %s cannot be used (%s): these trials start again.", name, error)
        return _fitted(prepared, watch, name, None)


def _fitted(prepared: Prepared, watch: Watch, name: str, state: dict[str, Any] | None) -> list[Record]:
    started, rows = time.perf_counter(), len(prepared.trials)
    with _own_randomness(name):
        pieces = build(prepared, start=0 if state is None else state["step"])
        module = StackModule(prepared.trials, pieces, state)
        module.on_start = _own_sigterm()
        module.on_step = lambda step: watch.after_step(name, rows, step, pieces.steps, module.state)
        if len(pieces.objective.failures()) < rows:
            fit(module, pieces, prepared.trials[0].precision)
    seconds = time.perf_counter() - started + (state["seconds"] if state else 0.0)
    return records(prepared, pieces, module, seconds / rows)


def _own_sigterm() -> Callable[[], None]:
    """Puts back, once the fit has begun, who took SIGTERM before: Lightning would end the fit by it, without saving."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None or threading.current_thread() is not threading.main_thread():
        return lambda: None

    def put_back() -> None:
        signal.signal(signal.SIGTERM, handler)

    return put_back


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
