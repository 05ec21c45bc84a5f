"""A loss of a file in the current folder is found by its import path."""

import sys

import pytest

HALVED = """
from torch import nn


class Halved(nn.Module):
    def forward(self, input, target):
        return ((input - target) ** 2).mean() / 2
"""
SHORT = ("seeds=1", "rates=[0]", "epochs=0.5", "workers=1", "evaluations=2")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "nn_only.py").write_text(HALVED)
    before = sys.path[:]
    yield
    sys.path[:] = before
    sys.modules.pop("nn_only", None)


def test_a_file_of_the_current_folder_is_found(lossbench, file, monkeypatch):
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    code, out, _ = lossbench("loss=external", "loss.target=nn_only.Halved", *SHORT)
    assert code == 0
    assert "nn_only.Halved" in out


def test_what_is_nowhere_is_said(lossbench, tmp_path):
    code, _, err = lossbench("loss=external", "loss.target=nowhere_at_all.Halved", *SHORT)
    assert code == 2
    assert f"no file nowhere_at_all.py in {tmp_path}" in err


def test_a_target_that_ends_the_program_does_not(lossbench):
    code, _, err = lossbench("loss=external", "loss.target=builtins.exit", *SHORT)
    assert code in (1, 2)
    assert "builtins.exit" in err
