"""Stacks are cut into chunks, and the order of trials is kept."""

from dataclasses import replace

import numpy as np
import pytest

from lossbench import registry
from lossbench.seeds import group_stacks, trial_id
from lossbench.training import run
from lossbench.training.checkpoint import CheckpointCallback
from lossbench.training.evaluation import choose_evaluation_steps
from lossbench.training.run import run_stack, split_evenly
from lossbench.types import Stack


@pytest.mark.parametrize(("n", "most", "sizes"), [(20, 16, [10, 10]), (7, 3, [2, 3, 2]), (4, 16, [4])])
def test_chunks_are_as_few_as_allowed_and_nearly_equal(n, most, sizes):
    parts = split_evenly(n, most)
    assert [p.stop - p.start for p in parts] == sizes
    assert [x for p in parts for x in range(n)[p]] == list(range(n))


def test_records_come_in_the_order_of_the_trials(make_trials, monkeypatch):
    trials = make_trials("task=regression", "losses=[mse,mae,tukey]", "seeds=2", "rates=[0,0.2]", "epochs=1")
    mixed = tuple(trials[i] for i in np.random.default_rng(0).permutation(len(trials)))
    monkeypatch.setattr(run, "choose_chunk_size", lambda *_: 5)
    records = run_stack(Stack(mixed))
    assert [r.trial for r in records] == [trial_id(t) for t in mixed]
    assert [(r.row["loss"], r.row["seed"], r.row["corruption_rate"]) for r in records] == [
        (t.loss.name, t.seed, t.corruption_rate) for t in mixed
    ]


@pytest.mark.slow
def test_chunks_do_not_change_the_numbers(make_trials, monkeypatch):
    trials = make_trials("task=regression", "losses=[mse,mae]", "seeds=2", "epochs=2", "precision=64")
    whole = run_stack(Stack(trials))
    monkeypatch.setattr(run, "choose_chunk_size", lambda *_: 3)
    for a, b in zip(whole, run_stack(Stack(trials)), strict=True):
        np.testing.assert_allclose(a.curves["test", "mae"], b.curves["test", "mae"], rtol=1e-10)


def test_three_losses_share_one_fit(make_trials, monkeypatch):
    fits = []
    monkeypatch.setattr(run, "fit", lambda *a, original=run.fit: (fits.append(1), original(*a)))
    (stack,) = group_stacks(make_trials("task=regression", "losses=[mse,mae,huber]", "seeds=2", "epochs=1"))
    run_stack(stack)
    assert len(fits) == 1


def test_what_cannot_be_stacked_is_not(make_trials):
    base = make_trials("task=regression", "losses=[mse,gaussian_nll]", "seeds=1", "rates=[0]", "epochs=1")
    assert len(group_stacks(base)) == 2  # another head
    trial = base[0]
    for change in ({"batch_size": 32}, {"epochs": 2.0}, {"precision": "64"}, {"metric": "rmse"}):
        assert len(group_stacks([trial, replace(trial, **change)])) == 2
    for change in (
        {"seed": 9},
        {"corruption_rate": 0.3},
        {"optimizer": replace(trial.optimizer, lr=0.5, weight_decay=0.1)},
    ):
        assert len(group_stacks([trial, replace(trial, **change)])) == 1


@pytest.mark.slow
def test_best_epoch_is_the_one_with_the_best_validation_metric(make_trials):
    trials = make_trials("task=regression", "loss=mse", "seeds=3", "rates=[0,0.4]", "epochs=20", "lr=0.02")
    for record in run_stack(Stack(trials)):
        validation, test = record.curves["validation", "mae"], record.curves["test", "mae"]
        best = 1 + int(np.argmin(validation[1:]))  # the untrained network does not compete
        assert record.row["best_step"] == record.steps[best]
        assert record.row["test/mae/best"] == test[best]
        assert record.row["test/mae/last"] == test[-1]
        # the scores come from the kept weights, the curve from the weights at that time
        assert record.scores["best"].mean() == pytest.approx(test[best], rel=1e-5)
        assert record.scores["last"].mean() == pytest.approx(test[-1], rel=1e-5)
    assert any(r.row["best_step"] < r.row["steps"] for r in run_stack(Stack(trials)))


def test_the_residuals_are_measured_by_the_targets_scale(make_trials):
    (record,) = run_stack(Stack(make_trials("task=regression", "loss=mse", "seeds=1", "rates=[0]", "epochs=2")))
    targets = registry.datasets.get("diabetes").load().targets
    rest = np.delete(targets, record.test_index, axis=0)
    scale = 1.4826 * np.median(np.abs(rest - np.median(rest)))  # nearly that of the training examples
    error = np.median(record.scores["last"])
    assert record.row["residual_scale"] == pytest.approx(1.4826 * error / scale, rel=0.15)


def test_scores_of_all_metrics_are_kept(make_trials):
    """Of what is no mean over examples as well: scores that have it for their mean."""
    (record,) = run_stack(Stack(make_trials("task=binary", "metric=auroc", "seeds=1", "rates=[0]", "epochs=2")))
    assert 0.9 < record.row["test/auroc/last"] <= 1
    for epoch in ("last", "best"):
        assert record.scores[epoch].mean() == pytest.approx(record.row[f"test/auroc/{epoch}"], abs=1e-6)
    assert {"accuracy", "f1", "log_loss"} <= set(record.other_scores)
    for name, scores in record.other_scores.items():
        assert scores.mean() == pytest.approx(record.row[f"test/{name}/last"], rel=1e-5)
    assert record.test_groups is None


def test_groups_of_test_rows_are_kept(make_trials):
    trials = make_trials("task=multilabel", "seeds=1", "rates=[0]", "epochs=0.1", "data.n=400", "model=mlp")
    (record,) = run_stack(Stack(trials))
    assert len(record.test_groups) == len(record.test_index)
    assert 1 < len(set(record.test_groups.tolist())) < 20


def test_evaluation_points_run_from_the_start_to_the_last_step():
    assert choose_evaluation_steps(100, 4) == [0, 25, 50, 75, 100]
    assert choose_evaluation_steps(3, 25) == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "64"])
def test_other_precisions_learn_as_well(precision, make_trials):
    overrides = ("task=multiclass", "loss=cross_entropy", "seeds=1", "rates=[0]", "epochs=10")
    plain, other = (run_stack(Stack(make_trials(*overrides, f"precision={p}")))[0] for p in ("32", precision))
    assert other.row["test/accuracy/last"] == pytest.approx(plain.row["test/accuracy/last"], abs=0.02)


def test_progress_reaches_the_end(make_trials):
    calls = []
    trials = make_trials("task=regression", "seeds=2", "rates=[0]", "epochs=1")
    records = run_stack(
        Stack(trials), CheckpointCallback(lambda n_replicas, step, steps: calls.append((n_replicas, step, steps)))
    )
    assert calls[-1] == (2, records[0].row["steps"], records[0].row["steps"])
