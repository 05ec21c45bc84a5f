"""`run_stack`: a function of plain, serialisable input. Local processes call it; a cluster's workers can.

A stack is one LightningModule and one fit; what it leaves are records.
"""

import ctypes
import gc
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lossbench import registry
from lossbench.errors import Incompatible, InvalidValue, LossbenchError
from lossbench.interfaces import Metric
from lossbench.interfaces.metric import to_numpy
from lossbench.records import UNTRAINED, Record, Samples
from lossbench.seeds import hash_values, trial_id
from lossbench.training.batches import Batch
from lossbench.training.build import FEWEST_ROWS, Pieces, build, chunk_rows, split_evenly
from lossbench.training.checkpoint import Stopped, Unusable, Watch
from lossbench.training.data import Prepared, Variant, prepare
from lossbench.training.objective import sort_replicas
from lossbench.training.optimizer import RowOptimizer
from lossbench.types import Array, Choice, Stack, Trial, list_columns

MEASURED = ("loss", "gradient_norm", "clipped_share")


class StackModule(pl.LightningModule):
    """Trains the rows of a stack. Sums over rows: they share nothing, so their gradients do not mix.

    Lightning's batch is a block of steps from one evaluation point to the next, under manual optimisation: its own
    bookkeeping, about 0.25 ms a step, would otherwise be a third of a small model's time.
    """

    def __init__(self, trials: Sequence[Trial], pieces: Pieces, resumed: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.resumed = resumed
        self.automatic_optimization = False
        self.trials, self.steps = list(trials), pieces.steps
        self.replicas, self.objective, self.feed = pieces.replicas, pieces.objective, pieces.feed
        self.evaluation = pieces.evaluation
        self.on_start: Callable[[], None] = lambda: None
        self.on_step: Callable[[int], None] = lambda step: None
        self.meter = Meter()

    def configure_optimizers(self) -> RowOptimizer:
        """One optimiser whose rows are independent."""
        sizes = [*self.replicas.sizes, *([self.replicas.n_extra] if self.replicas.n_extra else [])]
        settings = [t.optimizer for t in self.trials]
        self.row_optimizer = RowOptimizer(self.replicas.theta, settings, self.steps, sizes, self.replicas.decays())
        return self.row_optimizer

    def training_step(self, block: Tensor, _: int) -> None:
        """The steps of a block, at positions `[K, S, B]` of the order streams."""
        for batch in self.feed.batches(block):
            self._step(batch)
            self.on_step(self.meter.step)

    def _step(self, batch: Batch) -> None:
        raw, extra = self.replicas(batch.inputs)
        with self._full_precision():
            losses = self.objective(raw.to(batch.inputs.dtype), self.feed, batch, extra, self.meter.step / self.steps)
        self.replicas.theta.grad = None
        losses.backward(torch.ones_like(losses))
        self.row_optimizer.losses = losses.detach()
        self.row_optimizer.step()
        self.meter.take(self.row_optimizer.losses, self.row_optimizer.norm, self.row_optimizer.clipped)

    def _full_precision(self) -> AbstractContextManager[Any]:
        # losses are in full precision, also where the network runs under autocast
        bf16 = self.trials[0].precision == "bf16"
        return torch.autocast(self.device.type, enabled=False) if bf16 else nullcontext()

    def on_train_start(self) -> None:
        """Evaluate the untrained rows, or go on from a checkpoint."""
        self.on_start()
        if self.resumed is not None:
            try:
                self._restore(self.resumed)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise Unusable(f"{type(error).__name__}: {error}") from error
        self._evaluate()

    def on_train_batch_end(self, *_: object) -> None:
        """A block ends at an evaluation point, unless it has been cut short for its size."""
        self._evaluate()

    def on_train_end(self) -> None:
        """Score the test examples while everything is still on its device: Lightning moves the module off it after."""
        self.evaluation.finish()

    def _evaluate(self) -> None:
        if not self.evaluation.is_due(self.meter.step):
            return
        active = self.row_optimizer.active
        finite = self.evaluation.at(self.meter.step, active, self.meter.means(active))
        self.row_optimizer.keep(finite)  # the last step may have been the one that blew up

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on, as tensors and plain values."""
        return {
            "step": self.meter.step,
            "seconds": self.evaluation.elapsed(),
            "tensors": self.state_dict(),
            "failures": self.objective.group_failures(),
            "optimizer": self.row_optimizer.state_dict(),
            "meter": self.meter.state(),
            "evaluation": self.evaluation.state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state["tensors"])
        self.objective.fail_again(state["failures"])
        self.row_optimizer.load_state_dict(_on(self.device, state["optimizer"]))
        self.meter.restore(_on(self.device, state["meter"]))
        self.evaluation.restore(_on(self.device, state["evaluation"]))
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random_cuda"])


class Meter:
    """Means over the steps since the last evaluation, per row, kept on the device without a host sync."""

    def __init__(self) -> None:
        self.step = self._since = 0
        self._sums: list[Tensor] = []

    def take(self, *values: Tensor) -> None:
        """Add one step's `MEASURED`, `[R]` each."""
        if self._since:
            torch._foreach_add_(self._sums, values)
        else:
            self._sums = [v.clone() for v in values]
        self._since += 1
        self.step += 1

    def means(self, active: Tensor) -> dict[str, Tensor]:
        """By name, `[R]`; NaN for rows that have diverged and before the first step."""
        nothing = torch.full_like(active, torch.nan, dtype=torch.float32)
        sums = self._sums if self._since else [nothing] * len(MEASURED)
        means = [torch.where(active, s / max(self._since, 1), torch.nan) for s in sums]
        self._since = 0
        return dict(zip(MEASURED, means, strict=True))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "since": self._since, "sums": [s.clone() for s in self._sums]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `init_state()`."""
        self.step, self._since, self._sums = state["step"], state["since"], state["sums"]


def _on(device: torch.device, value: Any) -> Any:
    """The same with its tensors on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _on(device, v) for k, v in value.items()}
    return [_on(device, v) for v in value] if isinstance(value, list) else value


NOTHING: Array = np.zeros(0)


def settings(trial: Trial) -> dict[str, Any]:
    """Every setting of a trial, for its row in `trials.parquet`."""
    parts = {f.name: getattr(trial, f.name) for f in fields(trial)}
    return {
        "trial": trial_id(trial),
        **{name: part.label for name, part in parts.items() if isinstance(part, Choice)},
        "corruption_rate": trial.corruption_rate,
        "seed": trial.seed,
        "contender": trial.contender,
        **dict(list_columns(trial)),
        **dict(list_columns(trial.optimizer)),
    }


def metric_facts(metric: Metric) -> dict[str, Any]:
    """What a comparison must know of the primary metric without importing it."""
    return {"higher_is_better": metric.higher_is_better, "transform": metric.transform, "perfect": metric.limit}


def make_failed_record(trial: Trial, reason: str, status: str = "failed") -> Record:
    """The record of a trial that was not trained; `status="skipped"`: as its parts do not fit its data."""
    facts = metric_facts(registry.metrics.get(trial.metric))
    row = settings(trial) | facts | {"status": status, "reason": reason}
    return Record(trial_id(trial), row, NOTHING, NOTHING, {}, NOTHING, {})


def records(prepared: Prepared, pieces: Pieces, module: StackModule, seconds: float) -> list[Record]:
    """One record per row; `seconds` is one row's share of the wall time."""
    failures = pieces.objective.failures()
    if len(failures) == len(prepared.trials):
        return [make_failed_record(t, failures[r]) for r, t in enumerate(prepared.trials)]
    curves, diverged = pieces.evaluation.table(), module.row_optimizer.diverged_step.tolist()
    best, samples = pieces.evaluation.best_step.tolist(), _samples(prepared, pieces)
    shared = _shared(prepared.trials[0], prepared, pieces) | {"wall_seconds": seconds}

    def record(row: int, trial: Trial) -> Record:
        if row in failures:
            return make_failed_record(trial, failures[row])
        own = {key: values[:, row] for key, values in curves.items()}
        steps, clock = np.array(pieces.evaluation.steps), np.array(pieces.evaluation.seconds)
        facts = _data_facts(trial, prepared.variants[row], prepared, pieces.evaluation.primary)
        outcome = _outcome(own, steps, best[row], diverged[row])
        columns = settings(trial) | shared | outcome | facts | {"reason": module.row_optimizer.why_diverged(row)}
        if pieces.evaluation.residual_scale is not None:
            columns["residual_scale"] = float(pieces.evaluation.residual_scale[row])
        columns["route"] = f"{pieces.replicas.route}, {_route(row, pieces)}"
        ends = (pieces.evaluation.scores, pieces.evaluation.shown)
        scores, shown = (_kept(values, row, best[row], diverged[row]) for values in ends)
        others = {
            n: _kept({"last": v}, row, best[row], diverged[row])["last"] for n, v in pieces.evaluation.others.items()
        }
        measured = Record(columns["trial"], columns, steps, clock, own, prepared.test, scores, samples, shown)
        return replace(measured, test_groups=prepared.test_groups, other_scores=others)

    return [record(row, trial) for row, trial in enumerate(prepared.trials)]


def _samples(prepared: Prepared, pieces: Pieces) -> Samples | None:
    """The test examples that can be drawn, if any."""
    if not pieces.evaluation.n_shown:
        return None
    rows = prepared.test[: pieces.evaluation.n_shown]
    names, kind = prepared.problem.class_names, pieces.evaluation.task.picture
    return Samples(str(kind), prepared.inputs[rows], prepared.targets[rows], names)


def _kept(values: dict[str, Array], row: int, best: int, diverged: int) -> dict[str, Array]:
    """What is kept of the row's test examples; NaN where it has none.

    That is the last epoch of one that diverged, and the best of one that had no epoch.
    """
    missing = {"last": diverged >= 0, "best": best == 0}
    return {epoch: np.full_like(v[row], np.nan) if missing[epoch] else v[row] for epoch, v in values.items()}


def _route(row: int, pieces: Pieces) -> str:
    return next(g.route for g in pieces.objective.groups if g.rows.start <= row < g.rows.stop)


def _shared(trial: Trial, prepared: Prepared, pieces: Pieces) -> dict[str, Any]:
    problem, feed = prepared.problem, pieces.feed
    return metric_facts(pieces.evaluation.primary) | {
        "steps": pieces.steps,
        "n_train": problem.n_examples,
        "n_validation": feed.size("validation"),
        "n_test": feed.size("test"),
        "parameters": sum(pieces.replicas.sizes),
    }


def _outcome(curves: dict[tuple[str, str], Array], steps: Array, best: int, diverged: int) -> dict[str, Any]:
    at = int(np.flatnonzero(steps == best)[0])
    judged = {f"{split}/{name}": curve for (split, name), curve in curves.items() if split != "train"}
    values = {f"{n}/last": float(c[-1]) for n, c in judged.items()}
    values |= {f"{n}/best": float(c[at]) if best else np.nan for n, c in judged.items()}
    finite = diverged < 0
    status = {"status": "finished" if finite else "diverged", "diverged_step": None if finite else diverged}
    return {**status, "best_step": best, "gradient_norm": _median(curves["train", "gradient_norm"]), **values}


def _median(values: Array) -> float:
    """Of what is finite; NaN of nothing."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _data_facts(trial: Trial, variant: Variant, prepared: Prepared, metric: Metric) -> dict[str, Any]:
    """The share that was really corrupted, and the value that "steps to target" aims at."""
    targets = torch.from_numpy(prepared.targets[prepared.test])[None]
    constant = torch.from_numpy(variant.baseline_predictor).expand(
        len(prepared.test), *variant.baseline_predictor.shape[1:]
    )
    trivial = float(to_numpy(metric(constant[None], targets))[0])
    task = registry.tasks.build(trial.task)
    facts = {
        "realised_rate": variant.train.realised,
        "baseline_predictor": trivial,
        "default_loss": task.defaults["loss"],
    }
    return facts | {"target": trivial + task.target_share * (metric.limit - trivial)}


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
    prepared, rejected = prepare([stack.trials[i] for i in sort_replicas(stack.trials)])
    found = {trial_id(t): make_failed_record(t, reason, "skipped") for t, reason in rejected.items()}
    if prepared is not None:
        parts, errors = split_evenly(len(prepared.trials), _most_rows(prepared)), list[Exception]()
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
    return [make_failed_record(t, reason_of(error)) for t in prepared.trials]


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
        return [make_failed_record(t, reason) for t in stack.trials]


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
    name = hash_values("chunk", [trial_id(t) for t in prepared.trials])[:16]
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
