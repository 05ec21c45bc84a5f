"""On a GPU the same trainings come out as on the CPU."""

import numpy as np
import pytest
import torch

from lossbench.training import run
from lossbench.training.run import run_stack
from lossbench.types import Stack

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

KINDS = {
    "regression": ("task=regression", "losses=[mse,tukey,{huber:{delta:2}},huber,barron_adaptive]"),
    "weighting": ("task=regression", "losses=[mse]", "weighting=irls", "clip.mode=norm"),
    "weightings": (
        "task=multiclass",
        "losses=[cross_entropy]",
        "weightings=[focal,ghm,trimmed,effective_number,{deferred:{after:0.5}}]",
    ),
    "weightings of labels": (
        "task=multilabel",
        "losses=[bce]",
        "weightings=[pos_weight,focal,ghm]",
        "data.n=400",
    ),
    "binary": ("task=binary", "losses=[bce,dice,focal]"),
    "multiclass": ("task=multiclass", "losses=[cross_entropy,elr,logit_adjusted]"),
    "embedding": ("task=multiclass", "losses=[arcface]"),
    "convolutions": ("task=multiclass", "losses=[cross_entropy]", "model=cnn", "model.channels=4"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_trains_the_same(kind, make_trials, monkeypatch):
    trials = make_trials(*KINDS[kind], "seeds=2", "rates=[0,0.2]", "epochs=2", "evaluations=3", "precision=64")
    on_gpu = run_stack(Stack(trials))
    trainer = run.pl.Trainer
    monkeypatch.setattr(run.pl, "Trainer", lambda **given: trainer(**{**given, "accelerator": "cpu"}))
    for a, b in zip(on_gpu, run_stack(Stack(trials)), strict=True):
        assert a.row["status"] == b.row["status"] == "finished"
        for key, curve in a.curves.items():
            np.testing.assert_allclose(curve, b.curves[key], rtol=1e-7, atol=1e-9)
        for epoch, scores in a.scores.items():
            np.testing.assert_allclose(scores, b.scores[epoch], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_other_precisions_finish(precision, make_trials):
    trials = make_trials("task=multiclass", "seeds=2", "rates=[0]", "epochs=5", f"precision={precision}")
    assert all(r.row["test/accuracy/last"] > 0.85 for r in run_stack(Stack(trials)))
