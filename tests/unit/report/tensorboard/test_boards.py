"""Which runs lie side by side, what they are called, and where."""

import json

import pandas as pd
import pytest

from lossbench.analysis.summary import Measurements, add_missing_columns, summarise_trials
from lossbench.report.tensorboard.boards import MARK, compute_start, get_board_folder, group_boards


@pytest.fixture
def cells(made_up):
    """A function from changes of trials to what their seeds say."""

    def made(*changes):
        rows = [made_up(**change).row for change in changes]
        return summarise_trials(add_missing_columns(pd.DataFrame(rows)), Measurements({}, {}))

    return made


def names(found):
    return [[run.name for run in board.runs] for board in found]


def test_a_loss_is_one_run_over_rates_and_corruptions(cells):
    found = cells({}, {"corruption_rate": 0.1}, {"corruption": "label_noise"}, {"loss": "mae", "weighting": "irls"})
    (board,) = group_boards(found)
    assert names([board]) == [["huber", "mae + irls"]]
    assert [(c.corruption, c.corruption_rate) for c in board.runs[0].cells] == [
        ("label_noise", 0.0), ("outliers", 0.0), ("outliers", 0.1)
    ]  # fmt: skip


def test_only_what_tells_runs_apart_is_in_their_names(cells):
    found = group_boards(cells({}, {"lr": 0.01}, {"loss": "mae", "lr": 0.1}))
    assert names(found) == [["huber lr=0.003", "huber lr=0.01", "mae"]]
    assert names(group_boards(cells({}, {"head": "cosine"}))) == [["huber head=cosine", "huber head=linear"]]


def test_a_learning_rate_of_its_own_per_rate_makes_no_runs(cells):
    (board,) = group_boards(cells({}, {"corruption_rate": 0.1, "lr": 0.01}))
    assert names([board]) == [["huber"]]
    assert "lr" not in board.runs[0].settings
    assert board.runs[0].settings["batch_size"] == 64


def test_what_is_not_compared_lies_on_boards_of_its_own(cells):
    assert names(group_boards(cells({}, {"epochs": 80.0}, {"metric": "rmse"}))) == [["huber"]] * 3


def test_failed_trials_are_on_no_board(cells):
    assert group_boards(cells({"status": "failed", "reason": ""})) == []


def test_a_name_is_no_path(cells):
    (board,) = group_boards(cells({"loss": "a/b:c"}, {"loss": "x" * 300}, {"loss": "x" * 299 + "y"}, {"loss": ".."}))
    safe = [run.name for run in board.runs]
    assert len(set(safe)) == 4
    assert "a_b_c" in safe
    assert not any("/" in name or len(name) > 100 or set(name) == {"."} for name in safe)


def test_names_that_become_the_same_stay_two(cells):
    (board,) = group_boards(cells({"loss": "a/b"}, {"loss": "a:b"}))
    assert len({run.name for run in board.runs}) == 2


def test_a_board_keeps_its_folder_and_others_are_named_by_what_differs(cells, tmp_path):
    first, second = group_boards(cells({}, {"epochs": 80.0}))
    assert get_board_folder(tmp_path, first) == tmp_path / "regression" / "friedman1-mlp"
    assert get_board_folder(tmp_path, second) == tmp_path / "regression" / "friedman1-mlp,epochs=80"
    (third,) = group_boards(cells({"epochs": 80.0, "optimizer": "sgd"}))
    assert get_board_folder(tmp_path, third).name == "friedman1-mlp,optimizer=sgd,epochs=80"
    assert {get_board_folder(tmp_path, board) for board in (first, second, third)} == {
        *(tmp_path / "regression").iterdir()
    }


def test_a_damaged_mark_is_made_anew(cells, tmp_path):
    (board,) = group_boards(cells({}))
    mark = get_board_folder(tmp_path, board) / MARK
    mark.write_text('{"task": ')
    assert get_board_folder(tmp_path, board) == mark.parent
    assert json.loads(mark.read_text()) == board.settings


def test_runs_are_listed_by_name(cells, tmp_path):
    (board,) = group_boards(cells({}))
    folder = get_board_folder(tmp_path, board)
    listed = ["(overview)", "adaface", "aexp", "agce", "mae", "mae + irls", "mse", "tukey", "zlpr"]
    assert sorted(listed, key=lambda name: compute_start(folder, name)) == listed
    assert len({compute_start(folder, name) for name in listed}) == len(listed)
