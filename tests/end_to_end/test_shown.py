"""Predictions are drawn when a command has trained all that it wants, and not before."""

import pytest
from hydra import compose, initialize_config_module

from lossbench.cli import work as cli_work
from lossbench.cli.run import train
from lossbench.config import register_choices, resolve
from lossbench.report import tensorboard
from lossbench.tasks import Multiclass
from lossbench.training.run import run_stack
from lossbench.types import Picture

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
    return [sorted(p.parent.name for p in e.folder.glob("*/*tfevents*.pictures")) for e in experiments]


def test_a_stopped_command_leaves_the_pictures_to_the_next(made):
    work = cli_work.Work(made)
    assert work.plan(work.sizes(), 2) == 2
    part = work.next()
    work.ended(part, run_stack(part.stack))
    work.close()
    assert sum(len(list(e.folder.glob("*/*tfevents*"))) for e in made) > 0
    assert drawn(made) == [[], []]
    train(made, quiet=True, workers=1)
    assert drawn(made) == [["rate=0", "rate=0.4"]] * 2


def test_pictures_that_are_missing_are_drawn_by_the_next_command(made, monkeypatch, caplog):
    monkeypatch.setattr(tensorboard, "MOST_PICTURED", 3)
    with caplog.at_level("INFO", "lossbench"):
        train(made, quiet=True, workers=1)
        train(made, quiet=True, workers=1)
    assert "Predictions are drawn for the first 3 runs only." in caplog.text
    assert drawn(made) == [["rate=0", "rate=0.4"], ["rate=0"]]
    monkeypatch.setattr(tensorboard, "MOST_PICTURED", 4)
    train(made, quiet=True, workers=1)
    assert drawn(made) == [["rate=0", "rate=0.4"]] * 2
