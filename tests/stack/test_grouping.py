"""Replicas that share a call lie side by side, in an order that no file's place has a say in."""

from dataclasses import make_dataclass
from itertools import groupby

import pytest

from lossbench import registry
from lossbench.losses import MAE, MSE, Huber, LogCosh
from lossbench.training.objective import get_group_key, sort_replicas
from lossbench.weightings import IRLS


@pytest.fixture
def trials(make_trials):
    losses = "losses=[log_cosh,mse,{huber:{delta:2}},mae,{external:{target:torch.nn.L1Loss}},huber]"
    return make_trials("task=regression", "seeds=2", losses, "weightings=[none,irls]")


@pytest.mark.parametrize("modules", ["abcde", "edcba"])
def test_a_class_may_move_to_another_file(trials, modules, monkeypatch):
    before = sort_replicas(trials)
    for kind, module in zip((MAE, MSE, Huber, LogCosh, IRLS), modules, strict=True):
        monkeypatch.setattr(kind, "__module__", module)
    assert sort_replicas(trials) == before


def test_replicas_of_a_call_lie_side_by_side(trials):
    names = [trials[i].loss.name for i in sort_replicas(trials)]
    assert [name for name, _ in groupby(names)] == list(dict.fromkeys(names))


def test_two_classes_of_one_name_are_no_group():
    huber, other = registry.losses.get("huber"), make_dataclass("Huber", ["delta"], bases=(Huber,), frozen=True)(1.0)
    assert type(other).__qualname__ == type(huber).__qualname__
    assert get_group_key(other) != get_group_key(huber)
    assert get_group_key(Huber(0.5)) == get_group_key(huber)
