"""Processes that share a study agree on who trains what."""

import json
import os
import subprocess
import sys
import time

import pytest

from lossbench.claims import KEPT_SECONDS, Claims
from lossbench.records import RecordError

HOLD = """
import json, sys
from pathlib import Path
from lossbench.claims import Claims
claim = Claims(Path(sys.argv[1])).take(json.loads(sys.argv[2]))
(claim.folder / "state.pt").write_bytes(b"state")
print(len(claim.trials), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """`other(["a"])`: a process that holds these trials of the study, and has left a checkpoint."""
    started = []

    def start(trials):
        command = [sys.executable, "-c", HOLD, str(tmp_path), json.dumps(trials)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == f"{len(trials)}\n"
        return process

    yield start
    for process in started:
        kill(process)


def kill(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_trial_is_claimed_once(tmp_path):
    claims = Claims(tmp_path)
    first = claims.take(["a", "b"])
    assert first.trials == ("a", "b")
    assert Claims(tmp_path).take(["b", "c"]).trials == ("c",)
    assert claims.take(["a"]) is None
    assert claims.taken() == {"a", "b", "c"}


def test_what_is_done_can_be_claimed_again_and_leaves_nothing(tmp_path):
    claims = Claims(tmp_path)
    claim = claims.take(["a"])
    claims.done(claim)
    assert not claim.folder.exists()
    assert claims.take(["a"]).trials == ("a",)


def test_what_is_skipped_is_asked_for_after_the_others_are_known(tmp_path):
    claims = Claims(tmp_path)
    assert claims.take(["a", "b"], lambda: {"a"}).trials == ("b",)
    assert claims.take(["a"], lambda: {"a"}) is None


def test_another_process_is_respected_while_it_lives(tmp_path, other):
    process, claims = other(["a", "b"]), Claims(tmp_path)
    assert claims.take(["a"]) is None
    assert claims.left() == []
    kill(process)
    assert claims.left() == [("a", "b")]
    again = claims.take(["a", "b"])
    assert again.trials == ("a", "b")
    assert (again.folder / "state.pt").read_bytes() == b"state"


def test_what_was_dropped_is_left_for_others(tmp_path):
    claims = Claims(tmp_path)
    claim = claims.take(["a"])
    (claim.folder / "state.pt").write_bytes(b"state")
    claim.drop()
    assert claims.left() == [("a",)]
    assert claims.take(["a"]).folder == claim.folder


def test_checkpoints_that_nobody_can_use_go(tmp_path, other):
    kill(other(["a", "b"]))
    kill(other(["x"]))
    claims = Claims(tmp_path)
    claims.take(["a", "c"])  # not the same trials: their state is of no use
    assert claims.left() == [("x",)]
    (stale,) = (p for p in claims.folder.iterdir() if (p / "state.pt").exists())
    os.utime(stale, (0, time.time() - KEPT_SECONDS - 1))
    claims.take(["d"])
    assert claims.left() == []


def test_a_claim_cut_short_while_written_holds_nothing(tmp_path):
    claims = Claims(tmp_path)
    claim = claims.take(["a"])
    (claim.folder / "state.pt").write_bytes(b"state")
    claim.drop()
    (claim.folder / "trials.json").write_text('["a')
    assert claims.left() == []
    assert claims.take(["a"]).trials == ("a",)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "study").write_text("a file")
    with pytest.raises(RecordError, match="study"):
        Claims(tmp_path / "study").take(["a"])
