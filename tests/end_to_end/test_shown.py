"""Predictions are drawn when a command has trained all that it wants, and not before."""

import pytest
from hydra import compose, initialize_config_module

from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import resolve
from lossbench.report.tensorboard import overview
from lossbench.runner.queue import TrialQueue
from lossbench.study import reporters
from lossbench.study.reporters import BoardWriter
from lossbench.tasks import Multiclass
from lossbench.training.run import run_stack
from lossbench.types import Picture
from tests.end_to_end.conftest import train

OVERRIDES = ("task=multiclass", "losses=[cross_entropy,arcface]", "seeds=1", "rates=[0,0.4]", "epochs=1")


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Two experiments of a stack each (their heads differ) on digits, whose task is made to have pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Multiclass, "picture", Picture.LABELS)
    register_choices()
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        return resolve(compose("config", overrides=list(OVERRIDES)))


def drawn(experiments):
    board = experiments[0].output / "tensorboard" / "multiclass" / "digits-mlp"
    return sorted(path.parent.name for path in board.glob("*/*tfevents*.pictures"))


def test_a_stopped_command_leaves_the_pictures_to_the_next(made):
    queue, board_writer = TrialQueue(made), BoardWriter()
    assert queue.cut_parts(queue.estimate_sizes(), 2) == 2
    part = queue.take()
    queue.save(part, run_stack(part.stack))
    queue.close()
    board_writer.interrupt(made)
    assert list((made[0].output / "tensorboard").rglob("*tfevents*"))
    assert drawn(made) == []
    train(made, workers=1)
    assert drawn(made) == ["arcface", "cross_entropy"]


def test_that_not_all_predictions_are_drawn_is_told(made, monkeypatch):
    monkeypatch.setattr(overview, "MOST_PICTURED", 2)
    train(made, workers=1)
    told = (made[0].output / "lossbench.log").read_text()
    assert "Predictions are not drawn for 2 combinations of loss and rate: there are many." in told
    assert len(drawn(made)) == 1


def test_pictures_of_losses_are_drawn_where_their_seconds_do_not_count(made, monkeypatch):
    monkeypatch.setattr(reporters, "PICTURES_AFTER", 0.0)
    train(made, workers=1)
    assert drawn(made) == ["(overview)", "arcface", "cross_entropy"]
