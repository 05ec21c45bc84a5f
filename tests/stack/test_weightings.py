"""Weights as the replicas of a stack see them: on their own examples, labels and steps."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Dataset
from lossbench.training.build import build_components
from lossbench.training.data import prepare
from lossbench.training.run import run_stack
from lossbench.types import Choice, Examples, Stack

SMALL = ("precision=64", "model.width=8", "model.depth=1", "evaluations=4", "rates=[0.2]")
LABELS = ("task=multilabel", "data.n=400", "model.channels=2", "precision=64", "seeds=2", "rates=[0.2]")
B = 24


def objective_of(trials, progress=0.5):
    """Return what the replicas minimise on the same random outputs; these outputs, the batch, and the data."""
    prepared, rejected = prepare(trials)
    assert not rejected
    components = build_components(prepared)
    batch = next(components.batches.iterate(components.sampler.get_positions(0, B)[None]))
    width = prepared.problem.n_outputs
    raw = torch.randn(B, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    raw = raw.repeat(len(trials), 1, 1).requires_grad_()
    extra = torch.zeros(len(trials), 0, dtype=torch.float64)
    return components.objective(raw, components.batches, batch, extra, progress), raw, batch, prepared


def test_pos_weight_of_labels_has_torchs_gradient(make_trials):
    """Each replica has its own counts, which differ with seed and corruption; the others keep their loss."""
    trials = make_trials(*LABELS, "losses=[bce,focal]", "weightings=[none,pos_weight,trimmed]")
    minimised, raw, batch, prepared = objective_of(trials)
    (gradient,) = torch.autograd.grad(minimised.sum(), raw)
    checked = 0
    for r, trial in enumerate(trials):
        if trial.loss.name != "bce" or trial.weighting.name == "trimmed":
            continue
        labels = torch.from_numpy(prepared.targets[prepared.variants[r].train.targets]).double()
        odds = (len(labels) - labels.sum(0)) / labels.sum(0)
        ratio = odds if trial.weighting.name == "pos_weight" else torch.ones_like(odds)
        own, target = raw[r].detach().requires_grad_(), batch.targets[r].double()
        loss = functional.binary_cross_entropy_with_logits(own, target, pos_weight=ratio)
        loss = loss / (1 + (ratio - 1) * labels.mean(0)).mean()
        torch.testing.assert_close(minimised[r], loss)
        torch.testing.assert_close(gradient[r], torch.autograd.grad(loss, own)[0])
        checked += 1
    assert checked == 4


def test_focal_weights_make_cross_entropy_the_focal_loss(make_trials):
    shared = ("task=multiclass", *SMALL, "epochs=2", "seeds=1")
    trials = make_trials(*shared, "losses=[cross_entropy,focal_softmax]", "weightings=[none,focal]")
    results = {(t.loss.name, t.weighting.name): r for t, r in zip(trials, run_stack(Stack(trials)), strict=True)}
    expected = results["focal_softmax", "none"].curves
    for key, curve in results["cross_entropy", "focal"].curves.items():
        np.testing.assert_allclose(curve, expected[key], rtol=1e-9, atol=1e-9)
    assert not np.allclose(results["cross_entropy", "none"].curves["train", "loss"][1:], expected["train", "loss"][1:])


def test_a_detached_focal_weight_trains_otherwise(make_trials):
    trials = make_trials("task=binary", *SMALL, "epochs=2", "seeds=1", "weightings=[focal,{focal:{detach:true}}]")
    minimised, raw, *_ = objective_of(trials)
    torch.testing.assert_close(*minimised)
    with_gradient, detached = torch.autograd.grad(minimised.sum(), raw)[0]
    assert not torch.allclose(with_gradient, detached)


def test_deferred_weights_start_at_their_step(make_trials):
    shared = ("task=multiclass", *SMALL, "epochs=8", "seeds=1")
    weightings = "weightings=[none,balanced,{deferred:{after:0}},{deferred:{after:0.5}},{deferred:{after:1}}]"
    trials = make_trials(*shared, weightings)
    never, balanced, at_once, half, at_the_end = (r.curves["test", "log_loss"] for r in run_stack(Stack(trials)))
    np.testing.assert_allclose(at_once, balanced, rtol=1e-12)
    np.testing.assert_allclose(at_the_end, never, rtol=1e-12)
    np.testing.assert_allclose(half[:3], never[:3], rtol=1e-12)  # evaluated at 0, 1/4, 1/2, 3/4 and 1
    assert not np.isclose(half[3:], never[3:], rtol=1e-6).any()


def test_the_first_step_with_deferred_weights(make_trials):
    trials = make_trials("task=binary", *SMALL, "seeds=1", "weightings=[none,balanced,{deferred:{after:0.3}}]")
    for progress, like in ((29 / 100, 0), (30 / 100, 1)):
        minimised = objective_of(trials, progress)[0]
        assert minimised[2] == minimised[like] != minimised[1 - like]


@pytest.fixture
def weighted(monkeypatch, make_trials):
    """Trials on data with the given weights."""
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets.entries()))

    def made(weights):
        @dataclass(frozen=True)
        class Strange(Dataset):
            """Made by the test."""

            tasks = ("regression",)
            weighted = True

            def load(self):
                examples = registry.datasets.get("diabetes").load()
                return Examples(examples.inputs, examples.targets, weights=weights(len(examples.inputs)))

        registry.datasets.register("strange", Strange, "test")
        trials = make_trials("task=regression", *SMALL, "loss=mae", "seeds=2")
        return tuple(
            replace(t, data=Choice("strange"), weighting=Choice(n)) for n in ("none", "sample") for t in trials
        )

    return made


def test_sample_weights_are_the_rows_own_and_of_mean_one(weighted):
    trials = weighted(lambda n: np.arange(n) % 7)
    minimised, raw, batch, prepared = objective_of(trials)
    for r, trial in enumerate(trials):
        variant = prepared.variants[r]
        rows = variant.train.inputs  # no example is replaced: the corruption is of targets
        weights = rows % 7 / (rows % 7).mean() if trial.weighting.name == "sample" else np.ones(len(rows))
        target = (batch.targets[r, :, 0].numpy() - variant.shift) / variant.scale
        losses = np.abs(raw[r, :, 0].detach().numpy() - target)
        np.testing.assert_allclose(minimised[r].item(), (weights[batch.position[r]] * losses).mean(), rtol=1e-12)


@pytest.mark.slow
def test_a_weight_of_zero_is_as_if_the_example_were_not_there(weighted):
    (trial, *_) = (t for t in weighted(lambda n: (np.arange(n) < n // 2).astype(float)) if t.weighting.name == "sample")
    minimised, raw, batch, prepared = objective_of((trial,))
    (gradient,) = torch.autograd.grad(minimised.sum(), raw)
    left_out = prepared.variants[0].train.inputs[batch.position[0]] >= len(prepared.inputs) // 2
    assert gradient[0, left_out].eq(0).all()
    assert gradient[0, ~left_out].ne(0).all()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (lambda n: None, "weighting=sample needs data with weights: there are none in data=strange"),
        (np.zeros, "they are 0 throughout the training split of data=strange"),
    ],
)
def test_rows_that_want_weights_are_refused_without(weights, said, weighted):
    trials = weighted(weights)
    prepared, rejected = prepare(trials)
    assert {t.weighting.name for t in prepared.trials} == {"none"}
    assert {t.weighting.name for t in rejected} == {"sample"}
    assert all(said in reason for reason in rejected.values())


@pytest.mark.parametrize(
    "weights",
    [lambda n: np.ones(n - 1), lambda n: np.ones((n, 1)), lambda n: -np.ones(n), lambda n: np.full(n, np.nan)],
)
def test_weights_that_are_none_are_refused(weights, weighted):
    with pytest.raises(Incompatible, match="data=strange must have one weight for each of 442 examples"):
        prepare(weighted(weights))
