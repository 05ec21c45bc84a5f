"""Records that somebody else has made: what they name is never imported, built or called."""

import csv
import sys

import pandas as pd
import pytest
import yaml

from lossbench.report.figures.recorded_shapes import draw_recorded_shapes
from lossbench.types import Choice

STUDY = ("losses=[mse,huber]", "seeds=2", "rates=[0]", "epochs=0.5", "workers=1", "evaluations=2")
LURE = """
import pathlib

pathlib.Path("EXECUTED").touch()


def loss(prediction, target):
    return (prediction - target).square().mean(-1)
"""


def name_lure(tmp_path, loss):
    """Let the records of huber name a loss of a file that leaves a trace when it is imported."""
    (tmp_path / "lure.py").write_text(LURE)
    (path,) = tmp_path.glob("results/regression/huber/*/config.yaml")
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {"loss": loss}))


@pytest.fixture
def study(lossbench, tmp_path, monkeypatch):
    assert lossbench(*STUDY).code == 0
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("lure", None)


@pytest.mark.parametrize(
    "loss",
    [
        {"name": "external", "target": "lure.loss"},
        {"name": "combined", "terms": ["mse", {"name": "external", "target": "lure.loss"}]},
        {"name": "combined", "terms": [{"name": "combined", "terms": [{"name": "external", "target": "lure.loss"}]}]},
        {"name": "combined", "terms": {"name": "external", "target": "lure.loss"}},
        "external",
    ],
)
def test_comparing_executes_nothing_that_records_name(lossbench, study, loss):
    name_lure(study, loss)
    assert lossbench("compare", "results", "--tensorboard").code == 0
    assert not (study / "EXECUTED").exists()
    assert "lure" not in sys.modules


def test_training_beside_such_records_executes_nothing(lossbench, study, monkeypatch):
    name_lure(study, {"name": "external", "target": "lure.loss"})
    monkeypatch.setattr("lossbench.study.reporters.PICTURES_AFTER", 0.0)
    assert lossbench("loss=mae", *STUDY[1:]).code == 0
    assert not (study / "EXECUTED").exists()


def test_a_loss_of_this_command_is_drawn(study):
    name_lure(study, {"name": "external", "target": "lure.loss"})
    (folder,) = study.glob("results/regression/huber/*")
    choice = Choice.from_fields("external", {"target": "lure.loss", "space": "value", "encoding": "value"})
    assert list(draw_recorded_shapes({"mine": folder})) == []
    ((name, _),) = draw_recorded_shapes({"mine": folder}, {"mine": choice})
    assert name == "error"


def test_a_spreadsheet_takes_no_name_for_a_formula(lossbench, study):
    (path,) = study.glob("results/regression/huber/*/trials.parquet")
    pd.read_parquet(path).assign(loss="=cmd|'/c calc'!A0", default_loss="mse").to_parquet(path)
    code, out, _ = lossbench("compare", "results", "--format", "csv")
    assert code == 0
    names = [row["name"] for row in csv.DictReader(out.splitlines())]
    assert "'=cmd|'/c calc'!A0" in names
    assert not any(name.startswith("=") for name in names)
