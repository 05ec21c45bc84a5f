"""From a finished fit to records."""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lossbench import registry
from lossbench.interfaces import Metric
from lossbench.interfaces.metric import as_numpy
from lossbench.records import Record, Samples
from lossbench.seeds import trial_id
from lossbench.settings import record_columns
from lossbench.training.build import Pieces
from lossbench.training.data import Prepared, Variant
from lossbench.types import Array, Choice, Trial

if TYPE_CHECKING:  # Lightning loads only where something is trained
    from lossbench.training.module import StackModule

NOTHING: Array = np.zeros(0)


def settings(trial: Trial) -> dict[str, Any]:
    """Every setting of a trial, for its row in `trials.parquet`."""
    parts = {f.name: getattr(trial, f.name) for f in fields(trial)}
    return {
        "trial": trial_id(trial),
        **{name: part.label for name, part in parts.items() if isinstance(part, Choice)},
        "rate": trial.rate,
        "seed": trial.seed,
        "contender": trial.contender,
        **dict(record_columns(trial)),
        **dict(record_columns(trial.optimizer)),
    }


def metric_facts(metric: Metric) -> dict[str, Any]:
    """What a comparison must know of the primary metric without importing it."""
    return {"higher_is_better": metric.higher_is_better, "transform": metric.transform, "perfect": metric.limit}


def failed(trial: Trial, reason: str, status: str = "failed") -> Record:
    """The record of a trial that was not trained; `status="skipped"`: as its parts do not fit its data."""
    facts = metric_facts(registry.metrics.get(trial.metric))
    row = settings(trial) | facts | {"status": status, "reason": reason}
    return Record(trial_id(trial), row, NOTHING, NOTHING, {}, NOTHING, {})


def records(prepared: Prepared, pieces: Pieces, module: "StackModule", seconds: float) -> list[Record]:
    """One record per row; `seconds` is one row's share of the wall time."""
    failures = pieces.objective.failures()
    if len(failures) == len(prepared.trials):
        return [failed(t, failures[r]) for r, t in enumerate(prepared.trials)]
    curves, diverged = pieces.evaluation.table(), module.row_optimizer.diverged_step.tolist()
    best, samples = pieces.evaluation.best_step.tolist(), _samples(prepared, pieces)
    shared = _shared(prepared.trials[0], prepared, pieces) | {"wall_seconds": seconds}

    def record(row: int, trial: Trial) -> Record:
        if row in failures:
            return failed(trial, failures[row])
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
        return replace(measured, test_groups=prepared.test_groups, others=others)

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
    constant = torch.from_numpy(variant.trivial).expand(len(prepared.test), *variant.trivial.shape[1:])
    trivial = float(as_numpy(metric(constant[None], targets))[0])
    task = registry.tasks.build(trial.task)
    facts = {"realised_rate": variant.train.realised, "trivial": trivial, "default_loss": task.defaults["loss"]}
    return facts | {"target": trivial + task.target_share * (metric.limit - trivial)}
