"""Damaged records: named, set aside and trained again, and never taken for numbers."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lossbench import records
from lossbench.analysis import study
from lossbench.records import RecordError, find_damage, load, save, set_aside_damage

TABLES = ("trials.parquet", "curves.parquet", "test.parquet")


@pytest.fixture
def folder(tmp_path, made_up):
    """A folder with the records of two trials."""
    save(tmp_path / "huber", [made_up(seed=s) for s in range(2)], {"loss": "huber"})
    return tmp_path / "huber"


def cut(path):
    path.write_bytes(path.read_bytes()[:50])


def flip(path, seed):
    draw = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    content[int(draw.integers(4, len(content) - 8))] ^= 1 << int(draw.integers(8))
    path.write_bytes(content)


def test_what_is_whole_stays_as_it_is(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert find_damage(folder) == {}
    assert set_aside_damage(folder, {"loss": "mse"}) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_without_trials_is_not_damaged(tmp_path):
    (tmp_path / "curves.parquet").write_text("left by a save that was killed")
    assert set_aside_damage(tmp_path) == []
    assert set_aside_damage(tmp_path / "nowhere") == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", TABLES)
def test_no_flipped_bit_changes_a_value_unseen(folder, name):
    whole, content = pd.read_parquet(folder / name), (folder / name).read_bytes()
    noticed = 0
    for seed in range(100):
        flip(folder / name, seed)
        try:
            found = records.read_columns(folder, name, lambda _: True).to_pandas()
        except RecordError:
            noticed += 1
        else:
            for column in whole:  # a bit that nobody reads, or that says how pandas shows a column
                np.testing.assert_array_equal(found[column].to_numpy(object), whole[column].to_numpy(object))
        (folder / name).write_bytes(content)
    assert noticed > 40


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("harm", [cut, os.unlink, lambda path: path.write_text("x")], ids=["cut", "gone", "text"])
def test_without_one_of_its_tables_no_trial_is_on_record(folder, made_up, name, harm):
    harm(folder / name)
    if name == "trials.parquet" and harm is os.unlink:
        assert set_aside_damage(folder) == []  # no trials at all
    else:
        (line,) = set_aside_damage(folder)
        assert str(folder / name) in line
        assert line.endswith("its trials are to be trained again.")
        assert {f"{table}.damaged" for table in TABLES if table != name} <= set(os.listdir(folder))
    assert records.read_statuses(folder) == {}
    save(folder, [made_up(seed=5)], {})
    assert load(folder).trials["seed"].tolist() == [5]


def test_settings_are_written_anew(folder):
    (folder / "config.yaml").write_text("loss: {name: [")
    (line,) = set_aside_damage(folder, {"loss": "huber"})
    assert "it is written anew" in line
    assert load(folder).config == {"loss": "huber"}
    assert len(load(folder).trials) == 2


def test_trials_are_whole_without_their_pictures(tmp_path, pictured):
    save(tmp_path, [pictured(seed=0)], {})
    cut(tmp_path / "samples.npz")
    (line,) = set_aside_damage(tmp_path)
    assert "nothing is drawn" in line
    assert len(load(tmp_path).trials) == 1
    assert load(tmp_path).predictions is None
    save(tmp_path, [pictured(seed=1)], {})
    assert load(tmp_path).predictions["trial"].nunique() == 1


@pytest.mark.parametrize("name", [*TABLES, "config.yaml"])
def test_a_named_pipe_is_no_record_and_nobody_waits_for_it(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert find_damage(folder)[name] == "it is no regular file"


def test_one_odd_folder_does_not_block_a_study(folder, tmp_path, made_up):
    for loss, name in (("mse", "curves.parquet"), ("mae", "trials.parquet"), ("tukey", "test.parquet")):
        save(tmp_path / loss, [made_up(loss=loss, seed=s) for s in range(2)], {})
        cut(tmp_path / loss / name)
    save(tmp_path / "welsch", [made_up(loss="welsch")], {})
    pd.DataFrame({"trial": ["x"], "loss": ["welsch"]}).to_parquet(tmp_path / "welsch" / "trials.parquet")
    found = study.read_study([tmp_path])
    assert set(found.trials["loss"]) == {"huber"}
    assert len(found.problems) == 4
    assert all(line.startswith(f"Left out: {tmp_path}") for line in found.problems)


def test_if_all_are_odd_it_is_an_error(folder, tmp_path):
    cut(folder / "test.parquet")
    with pytest.raises(RecordError, match=r"test\.parquet is damaged"):
        study.read_study([tmp_path])


HOLDER = """
import fcntl, sys, time
stream = open(sys.argv[1], "ab")
fcntl.flock(stream, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


def test_a_lock_that_is_never_dropped_is_an_error(folder, made_up, monkeypatch):
    monkeypatch.setattr(records, "LOCK_SECONDS", 0.1)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder / ".lock")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RecordError, match="Another process has locked"):
            save(folder, [made_up(seed=7)], {})
    finally:
        holder.kill()
        holder.communicate()
    save(folder, [made_up(seed=7)], {})


def test_what_was_set_aside_before_stays(folder, made_up):
    for _ in range(2):
        cut(folder / "test.parquet")
        set_aside_damage(folder)
        save(folder, [made_up(seed=0)], {})
    assert {"test.parquet.damaged", "test.parquet.damaged-2"} <= set(os.listdir(folder))
