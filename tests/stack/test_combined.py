"""Combined losses in a stack: outputs by name, what is measured of each, and what fails alone."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.losses import MSE
from lossbench.training.data import prepare
from lossbench.training.run import run_stack
from lossbench.types import Stack

SMALL = (
    "task=regression", "data=friedman_outputs", "data.n=200", "model.width=8", "model.depth=1", "precision=64",
    "seeds=1", "rates=[0]", "epochs=3", "evaluations=3", "batch_size=32",
)  # fmt: skip


def trained(make_trials, *overrides):
    trials = make_trials(*SMALL, *overrides)
    return trials, run_stack(Stack(trials))


def test_each_output_is_measured(make_trials):
    _, (record,) = trained(make_trials, "loss=mse")
    for column in ("test/mae{}/last", "validation/mae{}/best"):
        parts = [record.row[column.format(f"[y{k}]")] for k in range(3)]
        assert np.mean(parts) == pytest.approx(record.row[column.format("")], rel=1e-9)
        assert len(set(parts)) == 3


def test_a_term_per_output_with_weights_of_one_is_the_loss_times_their_number(make_trials):
    """Adam does not see a factor but for its epsilon: SGD at a third of the rate takes the same steps."""
    sgd = "optimizer.name=sgd"
    _, (one,) = trained(make_trials, sgd, "loss=mse", "lr=0.03")
    _, (three,) = trained(make_trials, sgd, "loss=combined", "loss.terms=[{name:mse,outputs:each}]", "lr=0.01")
    assert three.row["test/mae/last"] == pytest.approx(one.row["test/mae/last"], rel=1e-9)


def test_outputs_have_losses_of_their_own(make_trials):
    """What is trained as a rate is read as one, and what is trained as a value as that."""
    terms = "loss.terms=[{name:mse,outputs:[y1,y0]},{name:poisson_nll,outputs:[2]}]"
    _, (record,) = trained(make_trials, "data.growth=1", "loss=combined", terms, "epochs=60", "lr=0.01")
    assert record.row["status"] == "finished"
    errors = [record.row[f"test/mae[y{k}]/last"] for k in range(3)]
    assert max(errors) < 0.75 * record.row["baseline_predictor"], errors


def test_an_unknown_output_is_told_and_the_others_train(make_trials):
    trials = make_trials(*SMALL, "losses=[mse,{combined:{terms:[{name:mse,outputs:[y7]}]}}]")
    prepared, rejected = prepare(trials)
    assert [t.loss.name for t in prepared.trials] == ["mse"]
    assert "Unknown output 'y7'" in rejected[trials[1]]


@dataclass(frozen=True)
class Failing(MSE):
    """Made by the test."""

    def __call__(self, prediction, target):
        raise RuntimeError("it cannot go on")


def test_a_term_that_fails_takes_only_its_rows(make_trials, monkeypatch):
    entries = registry.losses.entries() | {"failing": registry.Entry("failing", Failing, "test")}
    monkeypatch.setattr(registry.losses, "_entries", entries)
    trials, records = trained(make_trials, "losses=[mse,{combined:{terms:[mse,failing]}},mae]")
    by_loss = {t.loss.name: r for t, r in zip(trials, records, strict=True)}
    assert "it cannot go on" in by_loss["combined"].row["reason"]
    assert by_loss["mse"].row["status"] == by_loss["mae"].row["status"] == "finished"
    assert math.isfinite(by_loss["mae"].row["test/mae/last"])


def test_schemes_weigh_terms_only(make_trials):
    with pytest.raises(Incompatible, match="weighs the terms of a combined loss"):
        make_trials(*SMALL, "loss=mse", "weighting=dwa")


def test_outputs_ask_for_a_task_that_has_some(make_trials):
    with pytest.raises(Incompatible, match="predicts one thing per example"):
        make_trials("task=multiclass", "loss=combined", "loss.terms=[{name:cross_entropy,outputs:each}]")
