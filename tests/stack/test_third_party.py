"""Models and data sets that are not ours."""

import linecache
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.datasets import make_regression
from torch import nn

from lossbench import registry
from lossbench.cli.hydra.store import register_choices
from lossbench.errors import Incompatible
from lossbench.interfaces import Dataset, Model
from lossbench.registry import compute_fingerprint
from lossbench.training.run import run_stack
from lossbench.types import Choice, Examples, Stack

SMALL = ("task=regression", "loss=mse", "seeds=2", "rates=[0]", "epochs=3", "evaluations=3")


def model_of(make):
    @dataclass(frozen=True)
    class Strange(Model):
        """Made by the test."""

        def trunk(self, input_shape):
            return make(input_shape[0])

    return Strange


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x.unsqueeze(-1))[0][:, -1]


def half_frozen(width):
    layer = nn.Linear(width, 6).requires_grad_(False)
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 4)), 4


MODELS = {
    "batch norm": (lambda d: (nn.Sequential(nn.Linear(d, 4), nn.BatchNorm1d(4), nn.ReLU()), 4), "vmap"),
    "LSTM": (lambda d: (Recurrent(), 4), "loop"),
    "half frozen": (half_frozen, "batched"),
}


@pytest.fixture
def registered():
    """Register for one test: `registered("models", kind)`, as the name strange."""
    groups = []

    def add(group, kind):
        registry.ALL[group].names()  # built-ins first
        registry.ALL[group].register("strange", kind, "test")
        groups.append(group)
        register_choices()

    yield add
    for group in set(groups):
        del registry.ALL[group]._entries["strange"]


@pytest.mark.parametrize("name", MODELS)
def test_a_strange_model_in_a_stack_equals_itself_alone(name, make_trials, registered):
    make, route = MODELS[name]
    registered("models", model_of(make))
    trials = make_trials(*SMALL, "model=strange", "precision=64")
    records = run_stack(Stack(trials))
    for record, trial in zip(records, trials, strict=True):
        assert record.row["route"].startswith(route)
        (alone,) = run_stack(Stack((trial,)))
        for key, curve in alone.curves.items():
            np.testing.assert_allclose(record.curves[key], curve, rtol=1e-9, atol=1e-9)
        assert record.scores["last"].mean() == pytest.approx(record.curves["test", "mae"][-1])
        best = np.flatnonzero(record.steps == record.row["best_step"])[0]
        assert record.scores["best"].mean() == pytest.approx(record.curves["test", "mae"][best])


def test_dropout_draws_the_same_every_time_and_leaves_the_global_generator_alone(make_trials, registered):
    registered("models", model_of(lambda d: (nn.Sequential(nn.Linear(d, 8), nn.Dropout(0.5)), 8)))
    trials = make_trials(*SMALL, "model=strange")
    before = torch.get_rng_state()
    first, second = run_stack(Stack(trials)), run_stack(Stack(trials))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.curves["test", "mae"], b.curves["test", "mae"])


def test_a_model_that_does_not_fit_the_data_is_named(make_trials, registered):
    registered("models", model_of(lambda d: (nn.Linear(d + 1, 4), 4)))
    with pytest.raises(Incompatible, match=r"model=strange fails on inputs of shape \[10\]"):
        run_stack(Stack(make_trials(*SMALL, "model=strange")))


def data_of(change):
    @dataclass(frozen=True)
    class Strange(Dataset):
        """Made by the test."""

        tasks = ("regression",)

        def load(self):
            inputs, targets = make_regression(200, 5, noise=5.0, random_state=0)
            return Examples(*change(inputs, targets[:, None]))

    return Strange


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [lambda x, y: (x + 1e8, y), lambda x, y: (x, y + 1e8), lambda x, y: (x.astype(np.float32), y.astype(np.float32))],
    ids=["inputs", "targets", "float32"],
)
def test_a_large_offset_does_not_eat_the_digits(change, make_trials, registered):
    overrides = (*SMALL, "data=strange", "epochs=20", "model=linear", "lr=0.1")
    results = []
    for kind in (lambda x, y: (x, y), change):
        registered("datasets", data_of(kind))  # the same definition again replaces the older one
        results.append(run_stack(Stack(make_trials(*overrides)))[0].row["test/mae/last"])
    assert results[1] == pytest.approx(results[0], rel=1e-3)


def test_inputs_that_are_not_finite_are_refused(make_trials, registered):
    registered("datasets", data_of(lambda x, y: (np.where(x > 2, np.nan, x), y)))
    with pytest.raises(Incompatible, match="data=strange has inputs that are not finite"):
        run_stack(Stack(make_trials(*SMALL, "data=strange")))


def test_whole_numbers_as_inputs_can_be_corrupted(make_trials, registered):
    registered("datasets", data_of(lambda x, y: ((x * 20).clip(-100, 100).astype(np.int8), y)))
    trials = make_trials(*SMALL[:3], "rates=[0.3]", "epochs=1", "data=strange", "corruption=feature_outliers")
    assert {r.row["status"] for r in run_stack(Stack(trials))} == {"finished"}


def test_a_trial_follows_the_source_of_an_external_loss(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    choice = Choice.from_fields("external", {"target": "some_losses.f"})
    fingerprints = set()
    for body in ("(p - t).abs()", "(p - t) ** 2"):
        (tmp_path / "some_losses.py").write_text(f"def f(p, t):\n    return {body}\n")
        sys.modules.pop("some_losses", None)
        linecache.clearcache()
        fingerprints.add(compute_fingerprint(("losses", choice)))
    assert len(fingerprints) == 2


STRANGERS = """
import torch


def good(prediction, target):
    return (prediction - target).square()


def changes_the_target(prediction, target):
    target.mul_(2)
    return (prediction - target).square()


def changes_the_prediction(prediction, target):
    prediction.clamp_(-1, 1)
    return (prediction - target).square()


def detached(prediction, target):
    return (prediction.detach() - target).square()


def item(prediction, target):
    return torch.tensor((prediction - target).square().mean().item(), requires_grad=True)


def branches_on_item(prediction, target):
    return (prediction - target).abs().mean() * (2 if (prediction - target).mean().item() > 0 else 1)


def moved(prediction, target):
    return (prediction - target).square().to("meta")


def nowhere(prediction, target):
    return (prediction - target.to("no such device")).square()


def wrong_shape(prediction, target):
    return (prediction - target).square().sum(1).repeat(2)


def text(prediction, target):
    return "0.3"


def random(prediction, target):
    return (prediction - target).square() * torch.rand(len(prediction), 1)


def one_argument(prediction):
    return prediction


def not_a_number(prediction, target):
    return (prediction - target).square() * float("nan")


def raises(prediction, target):
    raise RuntimeError("no pixels here")


class Remembers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, prediction, target):
        self.mean += prediction.detach().mean()
        return (prediction - target - self.mean).square()


class Counts:
    calls = 0

    def __call__(self, prediction, target):
        self.calls += 1
        return (prediction - target).square() * self.calls


class Trained(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, prediction, target):
        return (prediction - target).square() * (-self.scale).exp() + self.scale
"""
DEEDS = {
    "changes_the_target": ("failed", "changes_the_target changes its target in place."),
    "changes_the_prediction": ("failed", "changes_the_prediction changes its prediction in place."),
    "detached": ("failed", "detached returned a tensor without a gradient"),
    "item": ("failed", "item returned a tensor without a gradient: it is detached from the prediction."),
    "moved": ("failed", "moved was given tensors on cpu and returned one on meta."),
    "nowhere": ("failed", "no such device"),
    "wrong_shape": ("failed", "wrong_shape must return one value per example, shape [12, ...]. Got [24]"),
    "text": ("failed", "text must return a tensor. Got str instead."),
    "random": ("failed", "random gives another value when it is called again with the same tensors"),
    "raises": ("failed", "RuntimeError: no pixels here"),
    "Remembers": ("failed", "Remembers changes its buffer mean with each call"),
    "Counts": ("failed", "Counts gives another value when it is called again"),
    "one_argument": ("failed", "without a gradient"),
    "not_a_number": ("diverged", ""),
    "branches_on_item": ("finished", ""),
    "Trained": ("finished", ""),
    "good": ("finished", ""),
}
"""What becomes of it, and what is said."""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(STRANGERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("stranger", None)


@pytest.mark.slow
@pytest.mark.usefixtures("stranger")
def test_what_a_strangers_loss_does_is_told_and_the_others_go_on(make_trials):
    given = {"one_argument": "{target:stranger.one_argument,batch_level:false,arguments:[target]}"}
    losses = ",".join(f"{{external:{given.get(name, f'{{target:stranger.{name}}}')}}}" for name in DEEDS)
    short = ("task=regression", "model=linear", "seeds=1", "rates=[0]", "epochs=1")
    trials = make_trials(*short, f"losses=[{losses},mse]")
    rows = {r.row["loss"]: r.row for r in run_stack(Stack(trials))}
    for name, (status, said) in DEEDS.items():
        (row,) = [row for label, row in rows.items() if f"stranger.{name})" in label or f"stranger.{name}," in label]
        assert row["status"] == status, (name, row["reason"])
        assert said in (row["reason"] or ""), name
    good = next(row for label, row in rows.items() if label.endswith("stranger.good)"))
    assert rows["mse"]["status"] == "finished"
    assert good["test/mae/last"] == pytest.approx(rows["mse"]["test/mae/last"], rel=1e-5)


@pytest.mark.usefixtures("stranger")
def test_a_row_with_trained_parameters_equals_itself_alone(make_trials):
    trials = make_trials(*SMALL[:1], "loss=external", "loss.target=stranger.Trained", *SMALL[2:], "precision=64")
    for record, trial in zip(run_stack(Stack(trials)), trials, strict=True):
        (alone,) = run_stack(Stack((trial,)))
        for key, curve in alone.curves.items():
            np.testing.assert_allclose(record.curves[key], curve, rtol=1e-9, atol=1e-9)


SOME_ROWS = """
import torch


def by_size(prediction, target):  # as many sizes as clean targets have
    return (prediction - target).abs() * torch.ones(4)[target.abs().long()]


def known_sizes(prediction, target):
    if target.abs().max() >= 4:
        raise ValueError(f"no size for {target.abs().max():.0f}")
    return (prediction - target).abs()

"""


@pytest.fixture
def some_rows(tmp_path, monkeypatch):
    (tmp_path / "some_rows.py").write_text(SOME_ROWS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("some_rows", None)


@pytest.mark.usefixtures("some_rows")
@pytest.mark.parametrize(("name", "said"), [("by_size", "IndexError: index"), ("known_sizes", "ValueError: no size")])
def test_a_loss_that_raises_on_the_data_of_some_rows_fails_those_alone(make_trials, name, said):
    """The highest corruption rate's at once, and the lowest's when their one wrong target comes up."""
    overrides = ("task=regression", "model=linear", "seeds=2", "rates=[0,0.01,0.4]", "epochs=1", "precision=64")
    trials = make_trials(*overrides, f"losses=[{{external:{{target:some_rows.{name}}}}},mae]")
    results = {t: r for t, r in zip(trials, run_stack(Stack(trials)), strict=True)}
    alike = {(t.seed, t.corruption_rate): r for t, r in results.items() if t.loss.name == "mae"}
    for trial, record in results.items():
        if trial.loss.name == "mae":
            continue
        assert record.row["status"] == ("failed" if trial.corruption_rate else "finished"), record.row["reason"]
        if trial.corruption_rate:
            assert f"some_rows.{name} raises {said}" in record.row["reason"]
        else:
            np.testing.assert_allclose(record.curves["test", "mae"], alike[trial.seed, 0].curves["test", "mae"])
