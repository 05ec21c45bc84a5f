"""A short version of `scripts/verify/fuzz.py`; and that it notices faults."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest
from commands import Outcome
from waiting import PATIENCE

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = sys.modules["fuzz"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz"]


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (None, "it runs longer than"),
        (Outcome(3, "", "lossbench: a bug"), "exit code 3"),
        (Outcome(0, "", "Traceback (most recent call last)\nKeyError: 'x'"), "a traceback (KeyError: 'x')"),
        (Outcome(2, "", ""), "it failed without a word"),
        (Outcome(0, "", ""), "no output at all"),
        (Outcome(2, "", 3000 * "x"), "a message of 3000 characters"),
    ],
)
def test_faults_are_noticed(fuzz, outcome, fault):
    assert any(found.startswith(fault) for found in fuzz.judge(outcome))


def test_what_is_right_is_no_fault(fuzz):
    assert fuzz.judge(Outcome(0, "a table", "")) == []
    assert fuzz.judge(Outcome(2, "", "lossbench: Unknown loss 'x'.")) == []


def test_a_table_of_endings(fuzz):
    report = fuzz.Report()
    report.add("commands", "loss=x", "exit 2", [])
    report.add("commands", "loss=y", "exit 2", ["exit code 3"])
    assert report.render().splitlines()[-1] == "| commands | 2 | 1 | 1 |"
    assert report.faults == ["commands: exit code 3: loss=y"]


@pytest.mark.slow
@pytest.mark.parametrize(("campaign", "cases"), [("commands", 10), ("records", 6), ("losses", 6)])
def test_a_short_campaign_finds_no_fault(fuzz, campaign, cases, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", PATIENCE)  # other tests run beside it
    report = fuzz.Report()
    fuzz.CAMPAIGNS[campaign](report, cases, random.Random(f"test {campaign}"))
    assert report.faults == []
    assert sum(report.counts.values()) == cases
