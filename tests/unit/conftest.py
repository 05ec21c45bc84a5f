"""Records of trainings that never took place: plausible curves and scores, drawn from a seed."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from lossbench.records import UNTRAINED, Record, Samples

SETTINGS = {
    "task": "regression", "data": "friedman1", "model": "mlp", "head": "linear", "loss": "huber", "weighting": "none",
    "corruption": "outliers", "corruption_rate": 0.0, "seed": 0, "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.0,
    "schedule": "cosine", "warmup": 0.0, "clip_mode": "off", "clip": 1.0, "batch_size": 64, "epochs": 50.0,
    "validation": "corrupted", "precision": "32", "metric": "mae",
}  # fmt: skip
FACTS = {
    "n_train": 600, "n_validation": 200, "n_test": 200, "parameters": 5057, "route": "vectorised", "steps": 500,
    "higher_is_better": False, "transform": "mean", "perfect": 0.0, "baseline_predictor": 4.1, "target": 2.0,
    "wall_seconds": 3.2, "status": "finished", "reason": None, "diverged_step": None,
}  # fmt: skip
HARM = {"huber": 2.0, "mae": 0.5, "mse": 8.0}  # error added per unit of corruption rate


@pytest.fixture
def made_up():
    """A function that makes up one trial's record."""
    return record


@pytest.fixture
def pictured(made_up):
    """The same for a task of boxes on images: with samples, and predictions on them."""

    def one(n_shown=12, **changes) -> Record:
        plain = made_up(task="boxes", **changes)
        draw = np.random.default_rng(plain.row["seed"])
        inputs = np.random.default_rng(1).random((n_shown, 1, 16, 16)).astype(np.float32)
        targets = np.tile([3.0, 4.0, 11.0, 12.0], (n_shown, 1))
        shown = {epoch: targets + draw.normal(size=(n_shown, 4)) for epoch in ("last", "best")}
        return replace(plain, samples=Samples("box", inputs, targets), predictions=shown)

    return one


def record(n_evaluations=21, n_test=200, n_groups=None, others=(), **changes) -> Record:
    """One trial; `changes` replace settings or facts, and `status` decides what it leaves.

    n_groups: of the test rows. others: metrics with scores beside the primary one, the same.
    """
    row = SETTINGS | FACTS | changes
    trial = hashlib.sha256(repr(sorted((k, row[k]) for k in SETTINGS)).encode()).hexdigest()[:16]
    draw = np.random.default_rng([row["seed"], int(row["corruption_rate"] * 1000)])
    final = 1.0 + HARM.get(row["loss"], 1.0) * row["corruption_rate"] + 0.05 * draw.standard_normal()
    metric = row["metric"]
    if row["status"] in UNTRAINED:
        return Record(trial, {"trial": trial} | row, np.zeros(0), np.zeros(0), {}, np.zeros(0), {})
    steps = np.linspace(0, row["steps"], n_evaluations).astype(int)
    curves = _curves(draw, steps, final, row)
    scores = _scores(draw, n_test, row, final)
    ends = {f"{split}/{m}/last": curve[-1] for (split, m), curve in curves.items() if split != "train"}
    ends |= {name.replace("/last", "/best"): value * 0.98 for name, value in ends.items()}
    ends |= {f"test/{metric}/{epoch}": _pooled(score, row) for epoch, score in scores.items()}
    row |= (
        {"best_step": int(steps[-3]), "realised_rate": row["corruption_rate"]} | ends | {k: changes[k] for k in changes}
    )
    groups = None if n_groups is None else np.arange(n_test) % n_groups
    plain = Record(trial, {"trial": trial} | row, steps, steps * 0.006, curves, np.arange(n_test) + 800, scores)
    return replace(plain, test_groups=groups, other_scores={name: scores["last"].astype(np.float32) for name in others})


def _curves(draw, steps, final, row):
    shape = final + 3 * np.exp(-6 * steps / steps[-1])
    if row["higher_is_better"]:
        shape = 1 - shape / 8
    pairs = [(split, m) for split in ("validation", "test") for m in (row["metric"], "rmse")]
    pairs += [("train", m) for m in ("loss", "gradient_norm", "clipped_share")]
    curves = {pair: shape + 0.02 * draw.standard_normal(len(steps)) for pair in pairs}
    if row["status"] == "diverged":
        for curve in curves.values():
            curve[len(curve) // 2 :] = np.nan
    return curves


def _scores(draw, n_test, row, final):
    if row["transform"] == "none":
        return {}
    easy = np.random.default_rng(1).exponential(size=n_test)  # the same rows are easy for every trial
    last = final * easy * draw.uniform(0.5, 1.5, n_test)
    if row["higher_is_better"]:
        last = (last < 3).astype(float)
    last = last if row["status"] == "finished" else np.full(n_test, np.nan)
    return {"last": last, "best": last * 0.97}


def _pooled(score, row):
    return float(np.sqrt(score.mean()) if row["transform"] == "root" else score.mean())
