"""Ten trials of different kinds, fixed as hashes: a change of the code's shape or words must not change one bit.

What is drawn (seeds, splits, batch order, corrupted examples, initial weights) and the ids are the same on every
machine. What is trained is the same bit by bit where library versions and the processor's kernels are those of the
file; elsewhere it is compared in numbers. `python tests/golden/test_golden.py` writes the file anew: only for a change
that is meant to change numbers.
"""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from threadpoolctl import threadpool_info

from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import resolve
from lossbench.seeds import Purpose, derive_seed, trial_id
from lossbench.training.build import build_components
from lossbench.training.data import prepare
from lossbench.training.run import run_stack
from lossbench.types import Stack

CPU = Path("/proc/cpuinfo")
FILE = Path(__file__).with_name("golden.json")
SHORT = ("seeds=[3]", "rates=[0.2]", "epochs=2", "evaluations=2")
TRIALS = {
    "regression": ("loss=huber", "loss.delta=0.8"),
    "inputs": (
        "task=regression",
        "loss=student_t_nll",
        "corruption=feature_outliers",
        "weighting=irls",
        "precision=64",
    ),
    "terms": ("loss=combined", "loss.terms=[mse,{name: mae, weight: 0.5}]", "weighting=uncertainty"),
    "binary": ("task=binary", "loss=bce", "weighting=balanced", "clip.mode=norm", "clip.threshold=0.5"),
    "multiclass": ("task=multiclass", "loss=generalized_cross_entropy", "optimizer.name=sgd", "lr=0.01"),
    "cnn": ("task=multiclass", "model=cnn", "model.channels=4", "loss=cross_entropy", "epochs=1"),
    "multilabel": ("task=multilabel", "epochs=0.5"),
    "boxes": ("task=boxes", "loss=giou", "epochs=0.5"),
    "ctc": ("task=ctc", "epochs=0.2"),
    "embedding": ("task=embedding", "epochs=1", "optimizer.weight_decay=0.01", "optimizer.warmup=0.1"),
}
# what says where and when, and not what
NOT_COMPARED = {"trial", "wall_seconds", "reason"}


def make_trials(overrides):
    register_choices()
    names = {o.split("=")[0] for o in overrides}
    options = [*(o for o in SHORT if o.split("=")[0] not in names), *overrides]
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        (experiment,) = resolve(compose("config", overrides=options))
    return experiment.list_trials()


def digest(*arrays):
    """SHA-256 of types, shapes and bytes."""
    sha = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()[:16]


def list_kernels():
    """What the bits of a training depend on beside the code."""
    blas = [x for x in threadpool_info() if "numpy" in x["filepath"]]
    vendor = re.findall(r"vendor_id\s*: (\w+)", CPU.read_text() if CPU.exists() else "")[:1]
    versions = [torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability()]
    return [*versions, *vendor, *(f"{x['internal_api']} {x['version']} {x['architecture']}" for x in blas)]


def hash_preparation(trials):
    """Whatever comes before training."""
    (plain,) = [replace(t, fingerprint="") for t in trials]
    prepared, rejected = prepare(trials)
    assert not rejected
    (variant,) = prepared.variants
    components = build_components(prepared)
    splits = (variant.train, variant.validation)

    return {
        "id": trial_id(plain),
        "seeds": digest(np.array([derive_seed(p, plain) for p in Purpose])),
        "split": digest(prepared.test, *(x for s in splits for x in (s.inputs, s.targets))),
        "examples": digest(prepared.inputs.astype(np.float64), prepared.targets.astype(np.float64)),
        "order": digest(components.sampler.get_positions(0, 2 * components.sampler.n_examples).numpy()),
        "weights": digest(components.replicas.theta.detach().numpy()),
    }


def hash_training(trials):
    """The record, as hashes and, for other machines, as some numbers."""
    (record,) = run_stack(Stack(tuple(trials)))
    assert record.row["status"] == "finished"
    curves = [record.curves[key] for key in sorted(record.curves)]
    ends = [record.scores[epoch] for epoch in sorted(record.scores)]
    others = [record.other_scores[name] for name in sorted(record.other_scores)]
    numbers = {n: v for n, v in record.row.items() if isinstance(v, float) and n not in NOT_COMPARED}
    measured = [numbers[n] for n in sorted(numbers) if "/" in n]
    return {
        "record": digest(record.steps, *curves, *ends, *others, np.array(measured)),
        "numbers": [float(f"{v:.9g}") for v in measured],
    }


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_what_is_drawn_is_the_same(name, golden):
    assert hash_preparation(make_trials(TRIALS[name])) == {n: golden["trials"][name][n] for n in golden["drawn"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_what_is_trained_is_the_same(name, golden):
    before, result = golden["trials"][name], hash_training(make_trials(TRIALS[name]))
    if list_kernels() == golden["kernels"]:
        assert result["record"] == before["record"]
    np.testing.assert_allclose(result["numbers"], before["numbers"], rtol=2e-3, atol=1e-5)


def write_golden():
    """The file anew."""
    torch.set_num_threads(1)
    trials = {
        name: hash_preparation(make_trials(overrides)) | hash_training(make_trials(overrides))
        for name, overrides in TRIALS.items()
    }
    names = [n for n in next(iter(trials.values())) if n not in ("record", "numbers")]
    FILE.write_text(json.dumps({"kernels": list_kernels(), "drawn": names, "trials": trials}, indent=1) + "\n")


if __name__ == "__main__":
    write_golden()
