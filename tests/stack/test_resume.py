"""A stack goes on from its checkpoint as if nothing had happened."""

import logging
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from lossbench import registry
from lossbench.errors import InvalidValue
from lossbench.interfaces import Model
from lossbench.seeds import group_stacks
from lossbench.training import checkpoint, run
from lossbench.training.checkpoint import CheckpointCallback, TrainingStopped
from lossbench.training.run import run_stack

KINDS = {
    "mse": ("task=regression", "losses=[mse,huber]"),
    "residual scale": ("task=regression", "loss=tukey"),
    "parameters of the loss": ("task=multiclass", "loss=arcface"),
    "state of the loss": ("task=multiclass", "loss=elr"),
    "weighting": ("task=regression", "loss=mse", "weighting=irls"),
    "deferred weighting": ("task=regression", "loss=mse", "weighting=deferred", "weighting.scheme=irls"),
    "sgd, clipping, decay": (
        *("task=regression", "loss=mse", "optimizer.name=sgd", "clip.mode=norm", "clip.threshold=0.5"),
        *("optimizer.weight_decay=0.1", "optimizer.warmup=0.3"),
    ),
    "a diverged replica": ("task=regression", "loss=mse", "optimizer.name=sgd", "lr=30", "optimizer.momentum=0"),
    "cnn": ("task=multiclass", "model=cnn", "model.channels=2"),
    "no evaluation before the end": ("task=regression", "loss=mae", "evaluations=1"),
}
QUICK = {"mse", "state of the loss"}
"""What `scripts/test --fast` has time for."""


class Noisy(Model):
    """With running statistics and dropout: buffers, and draws from the global generator."""

    def trunk(self, input_shape):
        return nn.Sequential(nn.Linear(*input_shape, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)), 8


@pytest.fixture
def one_stack(make_trials):
    def make(*overrides):
        short = ("seeds=2", "rates=[0,0.4]", "epochs=4", "evaluations=3", "precision=64")
        names = {o.split("=")[0] for o in overrides}
        options = [o for o in short if o.split("=")[0] not in names]
        (stack,) = group_stacks(make_trials(*overrides, *options))
        return stack

    return make


def stopped_at(steps):
    """A question that is answered with yes after each of these steps."""
    calls = iter(range(1, 10_000))
    return lambda: next(calls) in steps


def in_pieces(stack, folder, pieces):
    """The records of a training that is stopped again and again, after so many steps each time."""
    for n in pieces:
        with pytest.raises(TrainingStopped):
            run_stack(stack, CheckpointCallback(stop=stopped_at({n}), folder=folder))
    return run_stack(stack, CheckpointCallback(folder=folder))


def plain(row):
    """What must be equal: all but the time taken; NaN made equal to itself."""
    return {k: repr(v) for k, v in row.items() if k != "wall_seconds"}


def assert_same(results, expected):
    for a, b in zip(results, expected, strict=True):
        assert plain(a.row) == plain(b.row)
        np.testing.assert_array_equal(a.steps, b.steps)
        for group in ("curves", "scores"):
            one, other = getattr(a, group), getattr(b, group)
            assert one.keys() == other.keys()
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k not in QUICK)) for k in KINDS])
def test_in_pieces_as_in_one_go(kind, one_stack, tmp_path):
    stack = one_stack(*KINDS[kind])
    assert_same(in_pieces(stack, tmp_path, [1, 3, 2]), run_stack(stack))


def test_buffers_and_dropout(one_stack, tmp_path, monkeypatch):
    registry.models.entries()
    monkeypatch.setitem(registry.models._entries, "noisy", registry.Entry("noisy", Noisy, "here"))
    stack = one_stack("task=regression", "loss=mse", "precision=32")
    trials = [replace(t, model=replace(t.model, name="noisy", settings="{}")) for t in stack.trials]
    stack = replace(stack, trials=tuple(trials))
    assert_same(in_pieces(stack, tmp_path, [2, 1]), run_stack(stack))


def test_every_step_may_be_the_last(one_stack, tmp_path):
    stack = one_stack("task=regression", "loss=huber", "epochs=1.5", "seeds=1")
    expected = run_stack(stack)
    for n in range(1, expected[0].row["steps"]):
        assert_same(in_pieces(stack, tmp_path, [n]), expected)
        for file in tmp_path.iterdir():
            file.unlink()


def test_repeats_little(one_stack, tmp_path):
    stack, steps = one_stack("task=regression", "loss=mse"), []
    with pytest.raises(TrainingStopped):
        run_stack(stack, CheckpointCallback(stop=stopped_at({9}), folder=tmp_path))
    run_stack(stack, CheckpointCallback(lambda n_replicas, step, total: steps.append(step), folder=tmp_path))
    assert steps[0] == 10


@pytest.mark.slow
def test_checkpoints_come_by_time(one_stack, tmp_path, monkeypatch):
    saved, clock = [], iter(range(100_000))
    monkeypatch.setattr(checkpoint.time, "time", lambda: next(clock) * 0.5)
    monkeypatch.setattr(checkpoint, "write_state", lambda path, state: saved.append(state["step"]))
    stack = one_stack("task=regression", "loss=mse", "epochs=40")
    run_stack(stack, CheckpointCallback(folder=tmp_path, started=0.0))
    assert len(saved) > 2
    steps = run_stack(stack)[0].row["steps"]
    assert saved[-1] < steps  # after the last step there is nothing to go on with
    longest = max(b - a for a, b in pairwise(saved)) * 0.5
    assert longest <= checkpoint.LONGEST_PAUSE


def test_a_damaged_checkpoint_is_said_and_starts_again(one_stack, tmp_path, caplog):
    stack = one_stack("task=regression", "loss=mse")
    with pytest.raises(TrainingStopped):
        run_stack(stack, CheckpointCallback(stop=stopped_at({5}), folder=tmp_path))
    (file,) = tmp_path.glob("*.pt")
    os.truncate(file, 1000)
    with caplog.at_level(logging.WARNING, "lossbench"):
        assert_same(run_stack(stack, CheckpointCallback(folder=tmp_path)), run_stack(stack))
    assert "cannot be read" in caplog.text


def test_without_room_for_a_checkpoint_training_goes_on(one_stack, tmp_path, monkeypatch, caplog):
    def full(state, stream):
        raise OSError(28, "No space left on device")

    stack = one_stack("task=regression", "loss=mse")
    monkeypatch.setattr(checkpoint, "SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(torch, "save", full)
    with caplog.at_level(logging.WARNING, "lossbench"):
        assert_same(run_stack(stack, CheckpointCallback(folder=tmp_path)), run_stack(stack))
    assert "No checkpoint was written" in caplog.text
    assert "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_chunks_have_checkpoints_of_their_own(one_stack, tmp_path, monkeypatch):
    stack = one_stack("task=regression", "losses=[mse,huber]")
    monkeypatch.setattr(run, "choose_chunk_size", lambda *_: 3)
    expected = run_stack(stack)
    steps = expected[0].row["steps"]
    assert_same(in_pieces(stack, tmp_path, [2, steps + 2]), expected)
    assert len(list(tmp_path.glob("*.pt"))) >= 2


def test_blocks_are_cut_where_they_would_be_large(one_stack, monkeypatch):
    stack = one_stack("task=regression", "loss=mse")
    expected = run_stack(stack)
    monkeypatch.setattr("lossbench.training.build.BLOCK_NUMBERS", 500)
    assert_same(run_stack(stack), expected)


def test_a_checkpoint_that_does_not_fit_is_said_and_starts_again(one_stack, tmp_path, caplog):
    stack = one_stack("task=regression", "loss=mse")
    with pytest.raises(TrainingStopped):
        run_stack(stack, CheckpointCallback(stop=stopped_at({5}), folder=tmp_path))
    (file,) = tmp_path.glob("*.pt")
    state = torch.load(file)
    del state["optimizer"]
    torch.save(state, file)
    with caplog.at_level(logging.WARNING, "lossbench"):
        assert_same(run_stack(stack, CheckpointCallback(folder=tmp_path)), run_stack(stack))
    assert "cannot be used" in caplog.text


def test_a_chunk_that_raises_takes_no_other_with_it(one_stack, monkeypatch):
    stack = one_stack("task=regression", "losses=[mse,huber]")
    monkeypatch.setattr(run, "choose_chunk_size", lambda *_: 4)

    def breaks(prepared, watch, original=run._run_chunk):
        if prepared.trials[0].loss.name == "huber":
            raise RuntimeError("a bug")
        return original(prepared, watch)

    monkeypatch.setattr(run, "_run_chunk", breaks)
    rows = {r.row["loss"]: r.row for r in run_stack(stack)}
    assert rows["mse"]["status"] == "finished"
    assert (rows["huber"]["status"], rows["huber"]["reason"]) == ("failed", "RuntimeError: a bug")


def test_what_cannot_train_together_is_refused(one_stack):
    one, other = one_stack("loss=mse"), one_stack("loss=mse", "batch_size=16")
    with pytest.raises(InvalidValue, match="cannot train together"):
        run_stack(replace(one, trials=one.trials + other.trials))
