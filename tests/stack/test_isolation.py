"""A replica that fails leaves its neighbours bit-identical."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import lossbench
from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Loss
from lossbench.training import run
from lossbench.training.run import run_stack
from lossbench.types import Encoding, Requirement, Space, Stack

SMALL = ("task=regression", "seeds=2", "rates=[0]", "epochs=4", "evaluations=4", "model.width=8")


@pytest.fixture
def temporary_loss():
    """A loss that is registered for one test."""
    made = []

    def add(function, **facts):
        kind = lossbench.loss(tasks=("regression",), **facts)(function)
        made.append(function.__name__)
        return kind

    yield add
    for name in made:
        del registry.losses._entries[name]


def finite_then_nan(prediction, target, *, after: float = 0.5, progress=0.0):
    losses = (prediction - target).square().mean(-1)
    return losses * torch.where(torch.as_tensor(progress >= after), torch.nan, 1.0)


def infinite_gradient(prediction, target, *, power: float = 0.5):
    """Finite, with a gradient that is not: the root at zero."""
    return ((prediction - target).mean(-1) * 0).abs().pow(power)


def raises_on_the_way(prediction, target, *, progress=0.0):
    if progress > 0.3:
        raise RuntimeError("out of luck at a third of the way")
    return (prediction - target).square().mean(-1)


def curves(records):
    return {(r.row["loss"], r.row["seed"]): r for r in records}


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["none", "norm", "value", "per_tensor"])
@pytest.mark.parametrize("bad", [finite_then_nan, infinite_gradient])
def test_a_row_that_goes_to_nan_leaves_its_neighbours_bit_identical(clip, bad, make_trials, temporary_loss):
    temporary_loss(bad, requires=("progress",) if bad is finite_then_nan else ())
    # the good counterpart keeps the stack's shape, and with it the kernels, the same
    good = make_trials(*SMALL, f"clip.mode={clip}", "losses=[mae,mse]")
    mixed = make_trials(*SMALL, f"clip.mode={clip}", f"losses=[mae,{bad.__name__}]")
    kept, together = curves(run_stack(Stack(good))), curves(run_stack(Stack(mixed)))
    for seed in (0, 1):
        assert together[bad.__name__, seed].row["status"] == "diverged"
        for key, curve in kept["mae", seed].curves.items():
            np.testing.assert_array_equal(together["mae", seed].curves[key], curve)


def test_a_diverged_row_says_when_and_has_no_last_value(make_trials, temporary_loss):
    temporary_loss(finite_then_nan, requires=("progress",))
    record = run_stack(Stack(make_trials(*SMALL, "losses=[finite_then_nan]")))[0]
    steps = record.row["steps"]
    assert record.row["diverged_step"] == -(-steps // 2)  # the first step at half of the way or later
    curve = record.curves["test", "mae"]
    assert np.isfinite(curve[record.steps < record.row["diverged_step"]]).all()
    assert np.isnan(curve[record.steps > record.row["diverged_step"]]).all()
    assert np.isnan(record.row["test/mae/last"])
    assert np.isfinite(record.row["test/mae/best"])
    assert np.isnan(record.scores["last"]).all()
    assert np.isfinite(record.scores["best"]).all()


def test_a_loss_that_raises_on_the_way_fails_alone(make_trials, temporary_loss):
    temporary_loss(raises_on_the_way, requires=("progress",))
    # choose_routes() tries it at progress 0.5, so that this one is caught before the first step
    records = run_stack(Stack(make_trials(*SMALL, "losses=[mse,raises_on_the_way]")))
    status = {r.row["loss"]: r.row["status"] for r in records}
    assert status == {"mse": "finished", "raises_on_the_way": "failed"}
    assert "out of luck" in next(r.row["reason"] for r in records if r.row["status"] == "failed")


def late(prediction, target, *, progress=0.0):
    if progress > 0.6:
        raise RuntimeError("late")
    return (prediction - target).square().mean(-1)


def test_a_loss_that_raises_during_training_fails_alone(make_trials, temporary_loss):
    temporary_loss(late, requires=("progress",))
    good = curves(run_stack(Stack(make_trials(*SMALL, "losses=[mae,mse]"))))
    records = curves(run_stack(Stack(make_trials(*SMALL, "losses=[mae,late]"))))
    for seed in (0, 1):
        assert records["late", seed].row["reason"].startswith("late raises RuntimeError: late (test_isolation.py, ")
        np.testing.assert_array_equal(records["mae", seed].scores["last"], good["mae", seed].scores["last"])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda prediction, target: (prediction - target).square(), "one value per example"),
        (lambda prediction, target: (prediction - target).square().mean(), "one value per example"),
        (lambda prediction, target: (prediction.detach() - target).square().mean(-1), "without a gradient"),
    ],
    ids=["elementwise", "scalar", "detached"],
)
def test_a_wrong_result_is_named(function, reason, make_trials, temporary_loss):
    function.__name__ = "wrong"
    temporary_loss(function)
    records = run_stack(Stack(make_trials(*SMALL, "losses=[wrong,mse]")))
    failed = {r.row["reason"] for r in records if r.row["status"] == "failed"}
    assert len(failed) == 1
    assert reason in failed.pop()


def test_data_that_a_loss_cannot_take_are_refused_row_by_row(make_trials):
    trials = make_trials("task=regression", "losses=[msle]", "corruption=symmetric_outliers", "seeds=1", "epochs=1")
    status = {r.row["corruption_rate"]: (r.row["status"], r.row["reason"]) for r in run_stack(Stack(trials))}
    assert status[0.0] == ("finished", "")
    assert status[0.4][0] == "skipped"
    assert "negative" in status[0.4][1]


def branches(prediction, target):
    """One large error anywhere changes the whole batch."""
    residual = prediction - target
    if residual.abs().max() > 6:
        residual = residual.clamp(-1, 1)
    return residual.square().mean(-1)


def test_a_loss_that_branches_on_its_data_is_looped_so_that_rows_do_not_meet(make_trials, temporary_loss):
    temporary_loss(branches)
    trials = make_trials(*SMALL[:2], *SMALL[3:], "losses=[branches]", "rates=[0,0.2]", "precision=64")
    together = run_stack(Stack(trials))
    assert {r.row["route"] for r in together} == {"batched, loop"}
    for record, trial in zip(together, trials, strict=True):
        (alone,) = run_stack(Stack((trial,)))
        np.testing.assert_allclose(record.curves["test", "mae"], alone.curves["test", "mae"], rtol=1e-10)


@pytest.mark.slow
def test_parameters_and_state_are_made_from_each_rows_own_fields(make_trials):
    @dataclass(frozen=True)
    class Offset(Loss):
        """Its trainable offset and its state both start at a field's value."""

        tasks, space, encoding = ("regression",), Space.VALUE, Encoding.VALUE
        requires = (Requirement.PARAMETERS, Requirement.STATE)
        start: float = 0.0

        def init_parameters(self, problem, generator):
            return {"offset": torch.full((1, 1), self.start)}

        def init_state(self, problem):
            return torch.full((1,), self.start)

        def __call__(self, prediction, target, *, parameters, state):
            losses = (prediction - target - parameters["offset"]).square().mean(-1) + 0.1 * state
            return losses, state + 1

    registry.losses.register("offset", Offset, "test")
    try:
        losses = "losses=[{offset:{start:0}},{offset:{start:2}}]"
        trials = make_trials(*SMALL, losses, "precision=64")
        for record, trial in zip(run_stack(Stack(trials)), trials, strict=True):
            (alone,) = run_stack(Stack((trial,)))
            np.testing.assert_allclose(record.curves["train", "loss"], alone.curves["train", "loss"], rtol=1e-10)
    finally:
        del registry.losses._entries["offset"]


def test_a_last_step_that_blows_up_is_seen(make_trials):
    trials = make_trials(*SMALL, "epochs=0.2", "optimizer.name=sgd", "lr=1e38", "loss=mse")
    records = run_stack(Stack(trials))
    assert {r.row["steps"] for r in records} == {1}
    assert {r.row["status"] for r in records} == {"diverged"}
    assert all(np.isnan(r.row["test/mae/best"]) for r in records)  # and not what the untrained network had
    assert all(np.isnan(r.scores["best"]).all() for r in records)


@pytest.mark.slow
def test_running_out_of_memory_halves_the_chunk(make_trials, monkeypatch):
    tried = []

    def picky(prepared, progress, original=run._run_chunk):
        tried.append(len(prepared.trials))
        if len(prepared.trials) > 2:
            raise torch.OutOfMemoryError("made up")
        return original(prepared, progress)

    monkeypatch.setattr(run, "_run_chunk", picky)
    trials = make_trials(*SMALL, "losses=[mse,mae,huber]")
    assert [r.row["status"] for r in run_stack(Stack(trials))] == ["finished"] * 6
    assert tried == [6, 3, 1, 2, 3, 1, 2]


@pytest.mark.slow
def test_one_trial_that_does_not_fit_says_so(make_trials, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(run, "_run_chunk", never)
    with pytest.raises(Incompatible, match="smaller model or batch_size"):
        run_stack(Stack(make_trials(*SMALL, "loss=mse")))
