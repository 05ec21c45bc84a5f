"""Records: whole or absent, never lost between processes, and clear about what is wrong."""

import errno
import os
import pickle
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands import Command
from waiting import wait_until

from lossbench.errors import InvalidValue, LossbenchError
from lossbench.records import Record, RecordError, Samples, check_writable, find_finished, find_folders, load, save

FILES = {"trials.parquet", "curves.parquet", "test.parquet", "config.yaml", ".lock"}
PICTURES = {"predictions.parquet", "samples.npz"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "regression" / "lr=0.1"  # `=`: not to be taken for a column


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_what_is_saved_is_loaded(folder, made_up):
    record = made_up(seed=3, corruption_rate=0.1)
    save(folder, [record], {"loss": {"name": "huber"}, "seeds": [3]})
    results = load(folder)
    assert results.config == {"loss": {"name": "huber"}, "seeds": [3]}
    row = results.trials.iloc[0]
    assert {name: row[name] for name in ("trial", "seed", "loss", "lr")} == {
        "trial": record.trial, "seed": 3, "loss": "huber", "lr": 0.003,
    }  # fmt: skip
    curve = results.curves[(results.curves["split"] == "test") & (results.curves["metric"] == "mae")]
    np.testing.assert_array_equal(curve["step"], record.steps)
    np.testing.assert_array_equal(curve["seconds"], record.seconds)
    np.testing.assert_array_equal(curve["value"], record.curves["test", "mae"])
    best = results.test[results.test["epoch"] == "best"]
    np.testing.assert_array_equal(best["example"], record.test_index)
    np.testing.assert_array_equal(best["score"], record.scores["best"])
    assert results.trials.columns[0] == "trial"
    assert list(results.curves) == ["trial", "step", "seconds", "split", "metric", "value"]
    assert list(results.test) == ["trial", "example", "epoch", "score"]


def shown(results, record, epoch):
    """What is on record of a trial's predictions: examples and values."""
    rows = results.predictions
    own = rows[(rows["trial"] == record.trial) & (rows["epoch"] == epoch)]
    return own["example"].to_numpy(), np.stack(own["values"])


def test_predictions_and_their_samples_are_loaded(folder, pictured):
    some = [pictured(seed=seed) for seed in range(3)]
    some[1].predictions["last"][:] = np.nan  # it diverged
    save(folder, some[:2], {})
    save(folder, some[2:], {})
    results = load(folder)
    assert list(results.predictions) == ["trial", "example", "epoch", "values"]
    assert len(results.predictions) == 3 * 2 * 12
    for record in some:
        for epoch in ("last", "best"):
            examples, values = shown(results, record, epoch)
            np.testing.assert_array_equal(examples, record.test_index[:12])
            np.testing.assert_array_equal(values, record.predictions[epoch])
    assert results.samples.kind == "box"
    np.testing.assert_array_equal(results.samples.inputs, some[0].samples.inputs)
    np.testing.assert_array_equal(results.samples.targets, some[0].samples.targets)
    assert results.samples.inputs.dtype == np.float32
    assert names(folder) == FILES | PICTURES


def test_tokens_and_names_of_classes_survive(folder, made_up):
    samples = Samples("text", np.zeros((2, 1, 4, 8)), np.array([[1, 2], [2, -1]]), ("a", "long one"))
    tokens = {"last": np.array([[1.0, -1, -1], [2, 1, -1]]), "best": np.array([[1.0], [2.0]])}
    record = replace(made_up(), samples=samples, predictions=tokens)
    save(folder, [record], {})
    results = load(folder)
    assert results.samples.class_names == ("a", "long one")
    assert results.samples.targets.tolist() == [[1, 2], [2, -1]]
    for epoch, values in tokens.items():  # widths may differ
        np.testing.assert_array_equal(shown(results, record, epoch)[1], values)


def test_without_pictures_there_is_nothing_of_them(folder, made_up):
    save(folder, [made_up()], {})
    assert names(folder) == FILES
    assert load(folder).predictions is load(folder).samples is None


def test_pictures_join_records_that_have_none(folder, made_up, pictured):
    """As in a folder of an older version; and a trial that fails now keeps none."""
    old, new = made_up(seed=0), pictured(seed=1)
    save(folder, [old], {})
    save(folder, [new], {})
    results = load(folder)
    assert set(results.trials["trial"]) == {old.trial, new.trial}
    assert set(results.predictions["trial"]) == {new.trial}
    save(folder, [replace(made_up(seed=1, status="failed", reason="no"), trial=new.trial)], {})
    assert len(load(folder).predictions) == 0


@pytest.mark.parametrize("survivors", range(5))
def test_a_kill_between_files_of_pictures_loses_only_the_new_trial(folder, pictured, monkeypatch, survivors):
    old, new = pictured(seed=0), pictured(seed=1)
    save(folder, [old], {})
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replacing(survivors, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save(folder, [new], {})
    assert names(folder) == FILES | PICTURES
    assert set(load(folder).predictions["trial"]) == {old.trial}
    save(folder, [new], {})
    assert load(folder).predictions["trial"].value_counts().to_dict() == {old.trial: 24, new.trial: 24}


@pytest.mark.parametrize("name", ["predictions.parquet", "samples.npz"])
def test_damaged_pictures_are_named(folder, pictured, name):
    save(folder, [pictured()], {})
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordError, match=rf"{name} is damaged or cannot be read"):
        load(folder)


def test_values_that_are_not_finite_survive(folder, made_up):
    save(folder, [made_up(status="diverged", diverged_step=7, note=float("inf"))], {})
    results = load(folder)
    assert np.isinf(results.trials["note"][0])
    assert results.curves["value"].isna().any()


def test_merging_keeps_old_trials_and_replaces_equal_ones(folder, made_up):
    save(folder, [made_up(seed=0), made_up(seed=1, status="failed", reason="no")], {"n": 1})
    save(folder, [made_up(seed=1), made_up(seed=2, n_evaluations=11)], {"n": 2})
    results = load(folder)
    assert results.config == {"n": 2}
    assert results.trials.set_index("seed")["status"].to_dict() == dict.fromkeys([0, 1, 2], "finished")
    assert (results.curves.groupby("trial", observed=True).size() == 21 * 7).sum() == 2
    assert results.test.groupby("trial", observed=True).size().tolist() == [400] * 3
    assert names(folder) == FILES


def test_only_failed_trials_are_trained_again(folder, made_up):
    assert find_finished(folder) == set()
    kept = [made_up(seed=0), made_up(seed=1, status="diverged")]
    save(folder, [*kept, made_up(seed=2, status="failed")], {})
    assert find_finished(folder) == {record.trial for record in kept}


def test_columns_may_come_go_and_change_their_type(folder, made_up):
    save(folder, [made_up(seed=0, extra=1, mixed=1)], {})
    save(folder, [made_up(seed=1, extra=2.5, mixed="auto", other=True), made_up(seed=2, extra=None)], {})
    trials = load(folder).trials
    assert trials["extra"].tolist()[:2] == [1.0, 2.5]
    assert trials["mixed"].tolist()[:2] == ["1", "auto"]
    assert trials["other"].tolist()[1] is True


def test_nothing_to_save_touches_nothing(folder):
    save(folder, [], {})
    assert not folder.exists()


def test_find(tmp_path, made_up):
    for name in ("b", "a", "c/d"):
        save(tmp_path / name, [made_up()], {})
    (tmp_path / "empty").mkdir()
    assert find_folders(tmp_path) == [tmp_path / "a", tmp_path / "b", tmp_path / "c" / "d"]
    assert find_folders(tmp_path / "a") == [tmp_path / "a"]
    assert find_folders(tmp_path / "nowhere") == []


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_a_kill_between_two_files_loses_only_the_new_trial(folder, made_up, monkeypatch, survivors):
    old, new = made_up(seed=0), made_up(seed=1)
    save(folder, [old], {})
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replacing(survivors, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save(folder, [new], {})
    assert names(folder) == FILES
    assert find_finished(folder) == {old.trial}
    results = load(folder)
    assert set(results.curves["trial"]) == set(results.test["trial"]) == {old.trial}
    save(folder, [new], {})
    assert load(folder).test.groupby("trial", observed=True).size().to_dict() == {old.trial: 400, new.trial: 400}


@pytest.mark.parametrize("survivors", [1, 2, 3, 4])
def test_a_replaced_trial_is_never_a_mixture(folder, made_up, monkeypatch, survivors):
    save(folder, [made_up(seed=0), made_up(seed=1, status="failed", reason="")], {})
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replacing(survivors, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save(folder, [made_up(seed=1)], {})
    results = load(folder)
    assert results.trials["seed"].tolist() == [0]
    assert set(results.curves["trial"]) == {made_up(seed=0).trial}


def replacing(survivors, error):
    """`os.replace` that works so many times and then raises."""
    replace, calls = os.replace, []

    def fake(source, target):
        calls.append(target)
        if len(calls) > survivors:
            raise error
        replace(source, target)

    return fake


def test_a_full_disk_is_one_clear_message(folder, made_up, monkeypatch):
    save(folder, [made_up(seed=0)], {})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", raising(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(RecordError, match=r"Cannot write .*lr=0\.1: No space left on device"):
            save(folder, [made_up(seed=1)], {})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def raising(error):
    def fake(*_):
        raise error

    return fake


def test_a_kill_while_writing_leaves_nothing_that_piles_up(folder, made_up):
    folder.mkdir(parents=True)
    (folder / ".0.curves.parquet").write_bytes(b"half")
    save(folder, [made_up()], {})
    assert names(folder) == FILES


SAVE_ONE_BY_ONE = """
import pickle, sys, time
from pathlib import Path
from lossbench.records import save
folder, some = Path(sys.argv[1]), Path(sys.argv[2])
records = pickle.loads(some.read_bytes())
some.with_suffix(".ready").touch()
while not some.with_name("go").exists():
    time.sleep(0.001)
for record in records:
    save(folder, [record], {})
"""


@pytest.mark.slow
def test_processes_that_save_at_once_lose_nothing(folder, made_up, tmp_path_factory):
    commands = []
    some = [[made_up(seed=s) for s in range(start, start + 6)] for start in (0, 10, 20)]
    place = tmp_path_factory.mktemp("sent")
    with ExitStack() as stack:
        for number, own in enumerate(some):
            (place / str(number)).write_bytes(pickle.dumps(own))
            command = Command(place, "-c", SAVE_ONE_BY_ONE, str(folder), str(place / str(number)))
            stack.enter_context(closing(command))
            wait_until((place / f"{number}.ready").exists, "it has read what to save", command)
            commands.append(command)
        (place / "go").touch()  # so that all begin together
        assert [command.wait().returncode for command in commands] == [0, 0, 0]
    results = load(folder)
    assert sorted(results.trials["seed"]) == [*range(6), *range(10, 16), *range(20, 26)]
    assert results.test.groupby("trial", observed=True).size().tolist() == [400] * 18
    assert names(folder) == FILES


@pytest.mark.parametrize("name", ["trials.parquet", "curves.parquet", "test.parquet"])
def test_a_damaged_file_is_named_and_kept(folder, made_up, name):
    save(folder, [made_up(seed=0)], {})
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    for use in (load, lambda f: save(f, [made_up(seed=1)], {})):
        with pytest.raises(RecordError, match=rf"{name} is damaged or cannot be read .*`lossbench repair`"):
            use(folder)
    assert (folder / name).read_bytes() == content[: len(content) // 2]


def test_a_damaged_config_is_named(folder, made_up):
    save(folder, [made_up()], {})
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(RecordError, match=r"config\.yaml is damaged"):
        load(folder)


def test_a_stranger_file_is_named(folder):
    folder.mkdir(parents=True)
    pd.DataFrame({"a": [1]}).to_parquet(folder / "trials.parquet")
    with pytest.raises(RecordError, match=r"trials\.parquet is damaged .*no column 'trial'"):
        find_finished(folder)


def test_a_folder_without_records_says_so(folder):
    with pytest.raises(RecordError, match=r"no complete records in .*: trials\.parquet is missing"):
        load(folder)


def test_check_writable_leaves_nothing_behind(folder, tmp_path):
    check_writable(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_path_below_a_file_cannot_be_written(tmp_path, made_up, below):
    (tmp_path / "file").write_text("mine")
    place = tmp_path / "file" / below if below else tmp_path / "file"
    for use in (check_writable, lambda f: save(f, [made_up()], {})):
        with pytest.raises(LossbenchError, match=r"Cannot write .*: (Not a directory|File exists)"):
            use(place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_that_is_too_long_is_found_before_training(tmp_path):
    with pytest.raises(RecordError, match="File name too long"):
        check_writable(tmp_path / ("x" * 300))


def test_lengths_must_agree():
    with pytest.raises(InvalidValue, match=r"curve test/mae of trial a must have 2 values\. Got 3 instead"):
        Record("a", {}, np.zeros(2), np.zeros(2), {("test", "mae"): np.zeros(3)}, np.zeros(0), {})
    with pytest.raises(InvalidValue, match="last scores of trial a must have 0 values"):
        Record("a", {}, np.zeros(2), np.zeros(2), {}, np.zeros(0), {"last": np.zeros(1)})
    with pytest.raises(InvalidValue, match="last predictions of trial a must have 0 values"):
        Record("a", {}, np.zeros(2), np.zeros(2), {}, np.zeros(0), {}, predictions={"last": np.zeros((1, 4))})


def test_a_record_can_be_sent_between_processes(made_up):
    record = made_up()
    again = pickle.loads(pickle.dumps(record))
    assert again.row == record.row
    np.testing.assert_array_equal(again.curves["test", "mae"], record.curves["test", "mae"])


def test_files_are_compact(folder, made_up):
    save(folder, [made_up(seed=s, corruption_rate=r / 10, n_evaluations=100) for s in range(20) for r in range(5)], {})
    n_values = len(load(folder).curves)
    assert (folder / "curves.parquet").stat().st_size < 11 * n_values  # 8 bytes of a random float64, and little else


def test_reading_needs_no_torch():
    code = (
        "import sys, lossbench.records; sys.exit(bool({'torch', 'lightning', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
