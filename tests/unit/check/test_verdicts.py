"""What is said of the checks of one loss and of several."""

import pytest
from rich.console import Console

from lossbench.check.contract import Result, Status
from lossbench.check.verdicts import Verdict, convert_verdicts, render_verdicts


def verdict(name, *statuses):
    return Verdict(name, tuple(Result(f"check{i}", "Wanted.", s, 0.5, f"why {i}") for i, s in enumerate(statuses)))


def drawn(verdicts):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render_verdicts(verdicts))
    return [line.split() for line in capture.get().splitlines()]


def test_known_flaws_are_told_and_are_no_failure():
    verdicts = [verdict("good", Status.PASSED), verdict("known", Status.PASSED, Status.KNOWN)]
    lines = drawn(verdicts)
    assert ["known", "known", "flaw", "1000", "check1:", "why", "1"] in lines
    assert " ".join(lines[-1]) == "2 of 2 losses pass, 1 of them with known flaws, 0 fail, in 1.5 s."
    assert convert_verdicts(verdicts)["passed"]


@pytest.mark.parametrize("other", [Status.PASSED, Status.KNOWN])
def test_a_failure_counts_beside_anything_else(other):
    verdicts = [verdict("bad", Status.FAILED, other), Verdict("left", skipped="it needs a value")]
    lines = drawn(verdicts)
    assert ["bad", "failed", "1000", "check0:", "why", "0"] in lines
    assert " ".join(lines[-1]) == "0 of 1 losses pass, 1 fail (bad), 1 skipped, in 1.0 s."
    assert not convert_verdicts(verdicts)["passed"]
