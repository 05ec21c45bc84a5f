"""`lossbench check`."""

import json

import pytest

from lossbench import registry
from lossbench.check import CHECKS

BROKEN = '''
from dataclasses import dataclass

import lossbench


@dataclass(frozen=True)
class Summed(lossbench.Loss):
    """The squared error of a batch, and strength."""

    tasks = ("regression",)
    space = lossbench.Space.VALUE
    encoding = lossbench.Encoding.VALUE
    strength: float = 1.0

    def __call__(self, prediction, target):
        return self.strength * (prediction - target).square().mean()
'''


def test_one_loss(lossbench):
    code, out, err = lossbench("check", "huber", "loss.delta=2")
    assert (code, err) == (0, "")
    rows = [line.split()[0] for line in out.splitlines()[1:-2] if line[0] != " "]  # not what is folded
    assert rows == [c.name for c in CHECKS]
    assert out.splitlines()[-1].startswith("huber: ")
    assert " failed" not in out
    assert all(len(line) <= 100 for line in out.splitlines())


def test_all_losses(lossbench, monkeypatch):
    """Those of a small registry, some of plug-ins: the contract itself is run over every name by tests/contract."""
    names = ("mse", "cross_entropy", "external", "combined", "trimmed_mae", "pml_histogram")
    few = {name: registry.losses.entries()[name] for name in names}
    monkeypatch.setattr(registry.losses, "_entries", few)
    code, out, err = lossbench("check", "--all")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()[1:] if line[:1].isalpha()}
    assert few.keys() <= lines.keys()
    assert all("skipped" in lines[name] for name in ("external", "combined"))
    assert "needs a value for" in lines["external"]  # the line goes on below
    assert "4 of 4 losses pass, 1 of them with known flaws, 0 fail, 2 skipped, in " in " ".join(out.split())


def test_a_file_with_a_broken_loss(lossbench, tmp_path):
    (tmp_path / "my_losses.py").write_text(BROKEN)
    code, out, err = lossbench("check", "my_losses.py:Summed")
    assert (code, err) == (1, "")
    said = " ".join(out.split())
    assert "one value per example: got shape [], expected [6]" in said
    assert "expected: One finite value per example" in said
    code, out, _ = lossbench("check", "my_losses.py:Summed", "mae", "--json")
    document = json.loads(out)
    assert (code, document["passed"], [x["passed"] for x in document["losses"]]) == (1, False, [False, True])
    statuses = {c["check"]: c["status"] for c in document["losses"][0]["checks"]}
    assert statuses["one_value_per_example"] == statuses["fields_are_validated"] == "failed"
    code, out, _ = lossbench("check", "my_losses.py", "mae")
    assert code == 1
    assert "1 of 2 losses pass, 1 fail (Summed), in" in out
    assert lossbench("check", "my_losses.py", "--quiet") == (1, "", "")


def test_any_loss_of_another_library(lossbench):
    assert lossbench("check", "external", "loss.target=torch.nn.HuberLoss", "loss.params={delta:2}").code == 0
    code, out, _ = lossbench("check", "external", "loss.target=torch.nn.BCELoss", "--json")
    assert code == 1
    assert "all elements of input should be between 0 and 1" in out  # and is given values


def test_a_loss_of_a_library_on_a_task(lossbench):
    """With the task, what is open is found out, as an experiment would."""
    line = ("check", "external", "task=multiclass", "loss.target=torch.nn.BCELoss")
    code, out, err = lossbench(*line)
    assert code == 0, out
    assert "takes prediction, target (probability, one_hot), gives one value per example." in err
    code, out, _ = lossbench("check", "external", "task=multiclass", "loss.target=torch.nn.NLLLoss")
    assert code == 1
    assert "are logit and index what the formula takes?" in " ".join(out.split())


def test_a_preset(lossbench):
    code, out, err = lossbench("check", "torch/nll", "loss.params.ignore_index=-7")
    assert code == 0, out
    assert "external torch.nn.NLLLoss: takes prediction, target (log_probability, index)" in err
    code, _, err = lossbench("check", "huber", "task=multiclass")
    assert code == 2
    assert "'huber' is for regression, not for task=multiclass" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("check", "Write lossbench check NAME"),
        ("check huber --all", "Write lossbench check NAME"),
        ("check --fast huber", "Got '--fast huber' instead"),
        ("check hubert", "Unknown loss 'hubert'. Did you mean 'huber'?"),
        ("check huber loss.dleta=1", "Unknown field of loss 'huber': 'dleta'. Did you mean 'delta'?"),
        ("check huber loss.delta=-1", "The 'delta' parameter of Huber must be a float in the range (0, inf). Got -1.0"),
        ("check huber delta=1", "Only fields of the loss can be set, as loss.delta=2. Got 'delta=1' instead."),
        ("check huber mse loss.delta=1", "Fields are set for one loss at a time. Got huber, mse"),
        ("check missing.py:Huber", "There is no file 'missing.py'"),
        ("check external", "The loss 'external' needs a value for target."),
    ],
)
def test_bad_input(lossbench, line, message):
    code, out, err = lossbench(*line.split())
    assert (code, out) == (2, "")
    assert message in err
