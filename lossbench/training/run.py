"""`run_stack`: a function of plain, serialisable input. Local processes call it; a cluster's workers can.

A stack is one LightningModule and one fit; its results are records.
"""

import ctypes
import gc
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
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
from lossbench.training.build import (
    FEWEST_REPLICAS,
    Components,
    build_components,
    choose_chunk_size,
    split_evenly,
)
from lossbench.training.checkpoint import CheckpointCallback, TrainingStopped, UnusableCheckpoint
from lossbench.training.data import PreparedData, prepare
from lossbench.training.isolation import restore_process_state
from lossbench.training.objective import sort_replicas
from lossbench.training.optimizer import ReplicaOptimizer
from lossbench.types import Array, Choice, Stack, Trial, list_columns

log = logging.getLogger("lossbench")

STEP_MEASURES = ("loss", "gradient_norm", "clipped_share")
"""Measured at every step; their means between two evaluations are curves of the split "train"."""
NO_VALUES: Array = np.zeros(0)
LIGHTNING_LOGGERS = ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "64": "64-true"}


class StackModule(pl.LightningModule):
    """Trains the replicas of a stack, by the gradient of the sum of their losses.

    Replicas share nothing, so their gradients do not mix. Lightning's batch is a block of steps from one evaluation
    point to the next, under manual optimisation: its own bookkeeping, about 0.25 ms a step, would otherwise be a third
    of a small model's time.

    resumed: the state of a checkpoint to go on from.
    """

    def __init__(self, trials: Sequence[Trial], components: Components, resumed: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.resumed = resumed
        self.automatic_optimization = False
        self.trials, self.steps = list(trials), components.steps
        self.replicas, self.objective = components.replicas, components.objective
        self.batches, self.evaluation = components.batches, components.evaluation
        self.on_start: Callable[[], object] = lambda: None
        self.on_step_end: Callable[[int], None] = lambda step: None
        self.means = RunningMeans()

    def configure_optimizers(self) -> ReplicaOptimizer:
        """Return one optimiser for all replicas, in which each is independent."""
        sizes = [*self.replicas.sizes, *([self.replicas.n_extra] if self.replicas.n_extra else [])]
        settings, decays = [t.optimizer for t in self.trials], self.replicas.get_decay_mask()
        self.replica_optimizer = ReplicaOptimizer(self.replicas.theta, settings, self.steps, sizes, decays)
        return self.replica_optimizer

    def training_step(self, block: Tensor, _: int) -> None:
        """Take the steps of a block, at positions `[K, S, B]` of the sampler's streams."""
        for batch in self.batches.iterate(block):
            self._step(batch)
            self.on_step_end(self.means.step)

    def _step(self, batch: Batch) -> None:
        raw, extra = self.replicas(batch.inputs)  # [R, B, ..., K], [R, Q]
        # losses are in full precision, also where the network runs under autocast
        bf16 = self.trials[0].precision == "bf16"
        with torch.autocast(self.device.type, enabled=False) if bf16 else nullcontext():
            progress = self.means.step / self.steps
            losses = self.objective(raw.to(batch.inputs.dtype), self.batches, batch, extra, progress)  # [R]
        self.replicas.theta.grad = None
        losses.backward(torch.ones_like(losses))
        optimizer = self.replica_optimizer
        optimizer.losses = losses.detach()
        optimizer.step()
        self.means.add(optimizer.losses, optimizer.norm, optimizer.clipped)

    def on_train_start(self) -> None:
        """Evaluate the untrained replicas, or go on from a checkpoint."""
        self.on_start()
        if self.resumed is not None:
            try:
                self._restore(self.resumed)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise UnusableCheckpoint(f"{type(error).__name__}: {error}") from error
        self._evaluate()

    def on_train_batch_end(self, *_: object) -> None:
        """Evaluate at the end of a block, unless the block has been cut short for its size."""
        self._evaluate()

    def on_train_end(self) -> None:
        """Score the test examples while everything is still on its device: Lightning moves the module off it after."""
        self.evaluation.score_test_examples()

    def _evaluate(self) -> None:
        if not self.evaluation.is_due(self.means.step):
            return
        active = self.replica_optimizer.active
        finite = self.evaluation.evaluate(self.means.step, active, self.means.pop(active))
        self.replica_optimizer.keep_active(finite)  # the last step may have been the one that blew up

    def get_state(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on, as tensors and plain values."""
        return {
            "step": self.means.step,
            "seconds": self.evaluation.get_elapsed_seconds(),
            "tensors": self.state_dict(),
            "failures": self.objective.get_group_failures(),
            "optimizer": self.replica_optimizer.state_dict(),
            "means": self.means.get_state(),
            "evaluation": self.evaluation.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state["tensors"])
        self.objective.restore_failures(state["failures"])
        self.replica_optimizer.load_state_dict(_move_to(self.device, state["optimizer"]))
        self.means.restore(_move_to(self.device, state["means"]))
        self.evaluation.restore(_move_to(self.device, state["evaluation"]))
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random_cuda"])


class RunningMeans:
    """Means over the steps since the last evaluation, per replica, kept on the device without a host sync."""

    def __init__(self) -> None:
        self.step = self._n_added = 0
        self._sums: list[Tensor] = []

    def add(self, *values: Tensor) -> None:
        """Add one step's `STEP_MEASURES`, `[R]` each."""
        if self._n_added:
            torch._foreach_add_(self._sums, values)
        else:
            self._sums = [v.clone() for v in values]
        self._n_added += 1
        self.step += 1

    def pop(self, active: Tensor) -> dict[str, Tensor]:
        """Return the means by name, `[R]`, and begin anew.

        NaN for replicas that have diverged, and before the first step.
        """
        missing = torch.full_like(active, torch.nan, dtype=torch.float32)
        sums = self._sums if self._n_added else [missing] * len(STEP_MEASURES)
        means = [torch.where(active, s / max(self._n_added, 1), torch.nan) for s in sums]
        self._n_added = 0
        return dict(zip(STEP_MEASURES, means, strict=True))

    def get_state(self) -> dict[str, Any]:
        """Return everything, for a checkpoint."""
        return {"step": self.step, "n_added": self._n_added, "sums": [s.clone() for s in self._sums]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `get_state()`."""
        self.step, self._n_added, self._sums = state["step"], state["n_added"], state["sums"]


def _move_to(device: torch.device, value: Any) -> Any:
    """Return the same with its tensors on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _move_to(device, v) for k, v in value.items()}
    return [_move_to(device, v) for v in value] if isinstance(value, list) else value


def list_settings(trial: Trial) -> dict[str, Any]:
    """Return every setting of a trial, for its row in `trials.parquet`."""
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


def get_metric_facts(metric: Metric) -> dict[str, Any]:
    """Return what a comparison must know about the primary metric without importing it."""
    return {"higher_is_better": metric.higher_is_better, "transform": metric.transform, "perfect": metric.limit}


def make_failed_record(trial: Trial, reason: str, status: str = "failed") -> Record:
    """Make the record of a trial that was not trained; `status="skipped"`: its parts do not fit its data."""
    facts = get_metric_facts(registry.metrics.get(trial.metric))
    row = list_settings(trial) | facts | {"status": status, "reason": reason}
    return Record(trial_id(trial), row, NO_VALUES, NO_VALUES, {}, NO_VALUES, {})


def make_records(
    prepared: PreparedData, components: Components, optimizer: ReplicaOptimizer, wall_seconds: float
) -> list[Record]:
    """Make one record per replica; `wall_seconds` is one replica's share of the wall time."""
    evaluation, objective = components.evaluation, components.objective
    primary, problem = evaluation.primary, prepared.problem
    diverged_steps, best_steps = optimizer.diverged_step.tolist(), evaluation.best_step.tolist()
    all_curves, steps = evaluation.stack_curves(), np.array(evaluation.steps)  # [E, R] each, [E]

    # 1. what all replicas have in common: sizes, and the test examples of which there are pictures
    shared = get_metric_facts(primary) | {
        "steps": components.steps,
        "n_train": problem.n_examples,
        "n_validation": components.batches.count_examples("validation"),
        "n_test": components.batches.count_examples("test"),
        "parameters": sum(components.replicas.sizes),
        "wall_seconds": wall_seconds,
    }
    samples = None
    if evaluation.n_pictured:
        index, kind = prepared.test[: evaluation.n_pictured], str(evaluation.task.picture)
        samples = Samples(kind, prepared.inputs[index], prepared.targets[index], problem.class_names)
    group_of = {r: g for g in objective.groups for r in range(g.replicas.start, g.replicas.stop)}

    # 2. each replica's results
    failures = objective.get_failures()
    records = []
    for r, trial in enumerate(prepared.trials):
        if r in failures:
            records.append(make_failed_record(trial, failures[r]))
            continue
        curves = {key: values[:, r] for key, values in all_curves.items()}  # [E] each
        best, diverged = best_steps[r], diverged_steps[r]
        row = list_settings(trial) | shared | _summarise_curves(curves, steps, best, diverged)
        row |= _get_data_facts(trial, r, prepared, primary)
        row["reason"] = optimizer.describe_divergence(r)
        if evaluation.residual_scale is not None:
            row["residual_scale"] = float(evaluation.residual_scale[r])
        row["route"] = f"{components.replicas.route}, {group_of[r].route}"

        # of test examples, NaN where the replica has none: it has diverged, or had no best epoch
        missing = {"last": diverged >= 0, "best": best == 0}
        scores, predictions = (
            {epoch: _select_or_nan(values, r, missing[epoch]) for epoch, values in by_epoch.items()}
            for by_epoch in (evaluation.scores, evaluation.predictions)
        )
        others = evaluation.other_scores.items()
        other_scores = {name: _select_or_nan(values, r, missing["last"]) for name, values in others}
        seconds = np.array(evaluation.seconds)
        record = Record(row["trial"], row, steps, seconds, curves, prepared.test, scores, samples, predictions)
        records.append(replace(record, test_groups=prepared.test_groups, other_scores=other_scores))
    return records


def _select_or_nan(values: Array, replica: int, missing: bool) -> Array:
    return np.full_like(values[replica], np.nan) if missing else values[replica]


def _summarise_curves(curves: dict[tuple[str, str], Array], steps: Array, best: int, diverged: int) -> dict[str, Any]:
    """Return status, last and best values of a replica's curves `[E]`; `diverged`: -1 if it has not."""
    at_best = int(np.flatnonzero(steps == best)[0])
    measured = {f"{split}/{name}": curve for (split, name), curve in curves.items() if split != "train"}
    values = {f"{name}/last": float(curve[-1]) for name, curve in measured.items()}
    values |= {f"{name}/best": float(curve[at_best]) if best else np.nan for name, curve in measured.items()}
    norms = curves["train", "gradient_norm"]
    norms = norms[np.isfinite(norms)]
    return {
        "status": "finished" if diverged < 0 else "diverged",
        "diverged_step": None if diverged < 0 else diverged,
        "best_step": best,
        "gradient_norm": float(np.median(norms)) if norms.size else np.nan,
        **values,
    }


def _get_data_facts(trial: Trial, replica: int, prepared: PreparedData, metric: Metric) -> dict[str, Any]:
    """Return the corruption rate that was reached, and the metric's value that "steps to target" aims at."""
    variant, task = prepared.variants[replica], registry.tasks.build(trial.task)
    # the metric of the baseline predictor: one constant prediction for all test examples
    targets = torch.from_numpy(prepared.targets[prepared.test])[None]  # [1, N, ...]
    constant = torch.from_numpy(variant.baseline_predictor)
    constant = constant.expand(len(prepared.test), *constant.shape[1:])[None]
    baseline = float(to_numpy(metric(constant, targets))[0])
    return {
        "realised_rate": variant.train.realised,
        "baseline_predictor": baseline,
        "default_loss": task.defaults["loss"],
        "target": baseline + task.target_share * (metric.limit - baseline),
    }


@cache
def disable_heap_trimming() -> None:
    """Tell glibc to keep big blocks: giving them back to the kernel after each step costs up to 2x on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library: nothing to tell
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(option, value)


def run_stack(stack: Stack, callback: CheckpointCallback | None = None) -> list[Record]:
    """Train the trials of a stack; return their records, in the order of the trials.

    Goes on from the checkpoints in the callback's folder. Raises `TrainingStopped` if the callback says so, and the
    error of a chunk if no other could be trained; else that chunk's trials have failed with it.
    """
    if len({t.stack_key for t in stack.trials}) > 1:
        raise InvalidValue("These trials cannot train together: lossbench.seeds.group_stacks sorts them into stacks.")
    disable_heap_trimming()
    callback = callback or CheckpointCallback()

    # 1. the data; trials that do not fit theirs are skipped
    prepared, rejected = prepare([stack.trials[i] for i in sort_replicas(stack.trials)])
    records = {trial_id(t): make_failed_record(t, reason, "skipped") for t, reason in rejected.items()}

    # 2. chunks of replicas that fit into memory together, one fit each
    if prepared is not None:
        try:
            most = choose_chunk_size(prepared.trials, prepared.problem)
        except Exception:  # the network fails on its input: building the first chunk says so, with the reason
            most = FEWEST_REPLICAS
        chunks, errors = split_evenly(len(prepared.trials), most), list[Exception]()
        while chunks:
            chunk = chunks.pop(0)
            chunk_records = _try_chunk(prepared.select(chunk), callback, errors)
            if chunk_records is None:  # the estimate was too low: half as many at once
                middle = (chunk.start + chunk.stop) // 2
                chunks = [slice(chunk.start, middle), slice(middle, chunk.stop), *chunks]
                # let go of what the attempt held on the GPU
                gc.collect()
                torch.cuda.empty_cache()
                continue
            records |= {r.trial: r for r in chunk_records}
        if len(errors) and all(r.row["status"] in UNTRAINED for r in records.values()):
            raise errors[0]
    return [records[trial_id(t)] for t in stack.trials]


def run_stack_or_fail(stack: Stack, callback: CheckpointCallback) -> list[Record]:
    """Call `run_stack`, but record a stack that cannot be trained at all as failed, so that others go on."""
    try:
        return run_stack(stack, callback)
    except TrainingStopped:
        raise
    except Exception as error:
        reason = format_reason(error)
        return [make_failed_record(t, reason) for t in stack.trials]


def format_reason(error: Exception) -> str:
    """Say in one line why trials failed; an error that is not one of ours goes to the log with its traceback."""
    if isinstance(error, LossbenchError):
        return str(error)
    log.error("Trials could not be trained.", exc_info=error)
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _try_chunk(prepared: PreparedData, callback: CheckpointCallback, errors: list[Exception]) -> list[Record] | None:
    """Return a chunk's records, those of failed trials if it raises; None if it needs more memory than there is."""
    try:
        return _run_chunk(prepared, callback)
    except TrainingStopped:
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
    return [make_failed_record(t, format_reason(error)) for t in prepared.trials]


def _run_chunk(prepared: PreparedData, callback: CheckpointCallback) -> list[Record]:
    """Fit a chunk, from its checkpoint if there is one that can be used."""
    name = hash_values("chunk", [trial_id(t) for t in prepared.trials])[:16]
    try:
        return _fit_chunk(prepared, callback, name, callback.load(name))
    except UnusableCheckpoint as error:
        log.warning("The checkpoint %s cannot be used (%s): these trials start again.", name, error)
        return _fit_chunk(prepared, callback, name, None)


def _fit_chunk(
    prepared: PreparedData, callback: CheckpointCallback, name: str, state: dict[str, Any] | None
) -> list[Record]:
    started, n_replicas = time.perf_counter(), len(prepared.trials)
    # nothing of ours draws from the global generators, but a model with dropout does: they are seeded. Such draws
    # differ between replicas, and depend on which trials train together
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), restore_process_state():
        torch.manual_seed(int(name[:15], 16))
        components = build_components(prepared, start=0 if state is None else state["step"])
        module = StackModule(prepared.trials, components, state)

        # once the fit has begun, put the handler of SIGTERM back: Lightning's would end the fit without saving
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None and threading.current_thread() is threading.main_thread():
            module.on_start = lambda: signal.signal(signal.SIGTERM, handler)
        module.on_step_end = lambda step: callback.on_step_end(
            name, n_replicas, step, components.steps, module.get_state
        )
        failures = components.objective.get_failures()
        if len(failures) == n_replicas:
            return [make_failed_record(t, failures[r]) for r, t in enumerate(prepared.trials)]
        fit(module, components, prepared.trials[0].precision)
        seconds = time.perf_counter() - started + (state["seconds"] if state else 0.0)
        return make_records(prepared, components, module.replica_optimizer, seconds / n_replicas)


@contextmanager
def _silence_lightning() -> Iterator[None]:
    """Suppress Lightning's tips and its warnings about how it is used here."""
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


def fit(module: StackModule, components: Components, precision: str) -> None:
    """Run one Lightning fit; curves and checkpoints are ours, so Lightning's are off."""
    # Apple's GPUs have no float64, which the targets' maps need, and small models are faster beside them
    accelerator = "cpu" if torch.backends.mps.is_available() else "auto"
    with _silence_lightning():
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
        trainer.fit(module, train_dataloaders=components.sampler)
