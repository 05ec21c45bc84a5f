"""Processes that share a study agree on who trains what."""

import json
import os
import subprocess
import sys
import time

import pytest

from lossbench.records import RecordError
from lossbench.runner.locks import KEPT_SECONDS, Locks

HOLD = """
import json, sys
from pathlib import Path
from lossbench.runner.locks import Locks
lock = Locks(Path(sys.argv[1])).acquire(json.loads(sys.argv[2]))
(lock.folder / "state.pt").write_bytes(b"state")
print(len(lock.trials), flush=True)
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


def test_a_trial_is_locked_once(tmp_path):
    locks = Locks(tmp_path)
    first = locks.acquire(["a", "b"])
    assert first.trials == ("a", "b")
    assert Locks(tmp_path).acquire(["b", "c"]).trials == ("c",)
    assert locks.acquire(["a"]) is None
    assert locks.list_held() == {"a", "b", "c"}


def test_what_is_done_can_be_locked_again_and_leaves_nothing(tmp_path):
    locks = Locks(tmp_path)
    lock = locks.acquire(["a"])
    locks.complete(lock)
    assert not lock.folder.exists()
    assert locks.acquire(["a"]).trials == ("a",)


def test_what_is_skipped_is_asked_for_after_the_others_are_known(tmp_path):
    locks = Locks(tmp_path)
    assert locks.acquire(["a", "b"], lambda: {"a"}).trials == ("b",)
    assert locks.acquire(["a"], lambda: {"a"}) is None


def test_another_process_is_respected_while_it_lives(tmp_path, other):
    process, locks = other(["a", "b"]), Locks(tmp_path)
    assert locks.acquire(["a"]) is None
    assert locks.list_unfinished() == []
    kill(process)
    assert locks.list_unfinished() == [("a", "b")]
    again = locks.acquire(["a", "b"])
    assert again.trials == ("a", "b")
    assert (again.folder / "state.pt").read_bytes() == b"state"


def test_what_was_dropped_is_left_for_others(tmp_path):
    locks = Locks(tmp_path)
    lock = locks.acquire(["a"])
    (lock.folder / "state.pt").write_bytes(b"state")
    lock.release()
    assert locks.list_unfinished() == [("a",)]
    assert locks.acquire(["a"]).folder == lock.folder


def test_checkpoints_that_nobody_can_use_go(tmp_path, other):
    kill(other(["a", "b"]))
    kill(other(["x"]))
    locks = Locks(tmp_path)
    locks.acquire(["a", "c"])  # not the same trials: their state is of no use
    assert locks.list_unfinished() == [("x",)]
    (stale,) = (p for p in locks.folder.iterdir() if (p / "state.pt").exists())
    os.utime(stale, (0, time.time() - KEPT_SECONDS - 1))
    locks.acquire(["d"])
    assert locks.list_unfinished() == []


def test_a_lock_cut_short_while_written_holds_nothing(tmp_path):
    locks = Locks(tmp_path)
    lock = locks.acquire(["a"])
    (lock.folder / "state.pt").write_bytes(b"state")
    lock.release()
    (lock.folder / "trials.json").write_text('["a')
    assert locks.list_unfinished() == []
    assert locks.acquire(["a"]).trials == ("a",)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "study").write_text("a file")
    with pytest.raises(RecordError, match="study"):
        Locks(tmp_path / "study").acquire(["a"])
