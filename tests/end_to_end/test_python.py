"""`lossbench.run` and `lossbench.load`: what the command line does, from Python, without Hydra."""

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lossbench
from lossbench import registry
from lossbench.cli import main
from lossbench.config import presets
from lossbench.config.resolve import make_plan
from lossbench.errors import InvalidValue, LossbenchError, UnknownName
from lossbench.runner.executors import processes
from lossbench.runner.reporter import SilentReporter
from lossbench.runner.runner import run as run_all
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.study import reporters
from lossbench.study.api import run_with_boards
from tests.end_to_end.conftest import trials

SHORT = {"task": "regression", "model": "linear", "epochs": 1, "seeds": 1, "rates": [0]}


@pytest.fixture
def run(monkeypatch, tmp_path, forgotten):
    """`lossbench.run` in an empty folder, briefly unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    return lambda **settings: lossbench.run(**(SHORT | settings))


def absolute(prediction, target):
    return (prediction - target).abs().mean(-1)


class Scaled(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, prediction, target):
        return (prediction - target).square().mean(-1) * self.scale


@dataclass(frozen=True)
class Tilted(lossbench.Loss):
    tasks, space, encoding = ("regression",), lossbench.Space.VALUE, lossbench.Encoding.VALUE
    tilt: float = 0.7

    def __call__(self, prediction, target):
        error = target - prediction
        return torch.maximum(self.tilt * error, (self.tilt - 1) * error).mean(-1)


PLUGIN = """
from dataclasses import dataclass
import lossbench

@dataclass(frozen=True)
class OfAPlugin(lossbench.Loss):
    tasks, space, encoding = ("regression",), lossbench.Space.VALUE, lossbench.Encoding.VALUE

    def __call__(self, prediction, target):
        return (prediction - target).abs().mean(-1)
"""


def n_new(results):
    """How many trials a run has trained."""
    found = [re.match(r"Trained (\d+) trial", line) for line in results.messages]
    return sum(int(match[1]) for match in found if match)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two losses at two rates on three seeds."""
    folder = tmp_path_factory.mktemp("records")
    settings = {"task": "regression", "losses": ["mse", "huber"], "seeds": 3, "rates": [0, 0.2], "epochs": 10}
    return lossbench.run(**settings, output=folder, progress=False)


def test_it_prints_nothing_where_there_is_no_terminal(run, capsys):
    found = run(losses=["mse", "huber"])
    assert capsys.readouterr() == ("", "")
    assert n_new(found) == 2


def test_messages_are_shown_when_asked_for(run, capsys):
    run(loss="mse", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"Trained 1 trial in .* s; peak memory .* GB\.\n", err)


def test_the_command_line_finds_what_python_has_trained(run, capsys, tmp_path):
    losses = ["mse", {"huber": {"delta": 2}}, lossbench.losses.Tukey(c=3.0), torch.nn.functional.smooth_l1_loss]
    assert n_new(run(losses=losses)) == 4
    typed = "losses=[mse,{huber:{delta:2}},{tukey:{c:3}},{external:{target:torch.nn.functional.smooth_l1_loss}}]"
    assert main(["task=regression", "model=linear", "epochs=1", "seeds=1", "rates=[0]", typed]) == 0
    assert "4 trials are on record already: nothing to train." in capsys.readouterr().err
    assert len(trials(tmp_path)) == 4


def test_a_class_of_an_importable_file_is_what_plugins_name(run, tmp_path, monkeypatch, capsys):
    source = (
        "from dataclasses import dataclass\nfrom lossbench import Encoding, Loss, Space\n\n"
        "@dataclass(frozen=True)\nclass OwnLoss(Loss):\n"
        "    tasks, space, encoding = ('regression',), Space.VALUE, Encoding.VALUE\n    power: float = 1.5\n\n"
        "    def __call__(self, prediction, target):\n"
        "        return ((prediction - target).abs() ** self.power).mean(-1)\n"
    )
    (tmp_path / "own_file.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    import own_file

    assert n_new(run(losses=[own_file.OwnLoss(1.2), own_file.OwnLoss])) == 2
    given = ["plugins=[own_file.py]", "losses=[{own_loss:{power:1.2}},own_loss]"]
    assert main(["task=regression", "model=linear", "epochs=1", "seeds=1", "rates=[0]", *given]) == 0
    assert "2 trials are on record already" in capsys.readouterr().err


def test_objects_of_all_kinds_train_together(run):
    objects = [Tilted(0.6), nn.HuberLoss(delta=0.5), Scaled(2.0), absolute, lambda p, t: (p - t).abs().mean(-1) * 2]
    found = run(losses=["mse", *objects], seeds=2)
    names = [re.sub("@.*", "", name) for name in found.table()["loss"]]
    absolutes = "external(target=tests.end_to_end.test_python.absolute)"
    assert sorted(names) == ["HuberLoss", "Scaled", absolutes, "function", "mse", "tilted(tilt=0.6)"]
    assert set(found.trials()["status"]) == {"finished"}
    assert any("takes prediction, target" in line for line in found.messages)  # what was inferred is said


def test_an_object_is_what_its_class_a_function_would_be(run):
    """torch's loss as an object, as a class and as ours: the same numbers."""
    found = run(losses=[nn.HuberLoss(), nn.HuberLoss, "huber"], precision="64")
    values = found.trials()["test/mae/last"]
    np.testing.assert_allclose(values, values[0], rtol=1e-9)


def test_equal_objects_are_found_again_and_others_are_not(run):
    assert n_new(run(loss=Scaled(2.0))) == 1
    assert n_new(run(loss=Scaled(2.0))) == 0
    assert n_new(run(loss=Scaled(3.0))) == 1
    other = Scaled(2.0)
    other.register_buffer("table", torch.ones(1))
    assert n_new(run(loss=other)) == 1


def test_an_object_without_a_source_trains_anew_and_says_so(run):
    namespace = {}
    exec("def strange(prediction, target):\n    return (prediction - target).abs().mean(-1)", namespace)
    for _ in range(2):
        found = run(loss=namespace["strange"])
        assert n_new(found) == 1
        assert found.messages[0].startswith("strange: the source of strange cannot be read, so that its earlier trials")


def test_a_loss_with_a_tensor_among_its_fields(run):
    @dataclass(frozen=True, eq=False)
    class Weighted(lossbench.Loss):
        tasks, space, encoding = ("regression",), lossbench.Space.VALUE, lossbench.Encoding.VALUE
        weights: torch.Tensor

        def __call__(self, prediction, target):
            return ((prediction - target).abs() * self.weights.to(prediction)).mean(-1)

    found = run(losses=[Weighted(torch.tensor([2.0])), Weighted(torch.tensor([3.0])), "mae"])
    assert len(set(found.table()["loss"])) == 3
    assert set(found.trials()["status"]) == {"finished"}


def test_data_model_weighting_and_corruption_as_objects(run):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 3))
    examples = lossbench.Examples(x, x[:, :1] + 0.1 * draw.normal(size=(120, 1)))
    parts = {
        "model": registry.models.get("mlp", width=8),
        "weighting": registry.weightings.get("irls"),
        "corruption": registry.corruptions.get("symmetric_outliers"),
    }
    found = run(data=examples, rates=[0.2], **parts)
    row = found.trials().iloc[0]
    assert row["data"].startswith("Examples@")
    assert (row["weighting"], row["corruption"], row["status"]) == ("irls", "symmetric_outliers", "finished")
    assert n_new(run(data=examples, rates=[0.2], **parts)) == 0
    other = lossbench.Examples(x + 1, examples.targets)
    assert n_new(run(data=other, rates=[0.2], **parts)) == 1


def test_settings_are_the_command_lines(run):
    settings = {"optimizer.name": "sgd", "clip": {"mode": "norm"}, "lr": (0.01, 0.02), "seeds": range(2, 4)}
    found = run(loss="mse", **settings).trials()
    assert sorted(zip(found["lr"], found["seed"], strict=True)) == [(0.01, 2), (0.01, 3), (0.02, 2), (0.02, 3)]
    assert set(found["optimizer"]) == {"sgd"}
    assert set(found["clip_mode"]) == {"norm"}


def test_a_preset_of_an_experiment(run):
    found = lossbench.run(experiment="label_noise", seeds=1, epochs=0.2, rates=[0.4], progress=False)
    assert set(found.table()["loss"]) == {"cross_entropy", "brier", "generalized_cross_entropy"}
    assert set(found.table()["task"]) == {"multiclass"}


@pytest.mark.parametrize(
    ("settings", "kind", "told"),
    [
        ({"loss": "hubert"}, UnknownName, "Unknown loss 'hubert'. Did you mean 'huber'?"),
        ({"losses": ["mse", "bce"], "task": "regresion"}, UnknownName, "Did you mean 'regression'?"),
        ({"epoch": 3}, UnknownName, "Unknown setting 'epoch'. Did you mean 'epochs'?"),
        ({"optimizer": {"nam": "sgd"}}, UnknownName, "Did you mean 'optimizer.name'?"),
        ({"epochs": "many"}, InvalidValue, "epochs must be a number. Got 'many' instead."),
        ({"loss": {"huber": 3}}, LossbenchError, "Unknown"),
        ({"protocol": "tund"}, UnknownName, "Unknown protocol 'tund'. Did you mean 'tuned'?"),
        ({"experiment": "label_nois"}, UnknownName, "Did you mean 'label_noise'?"),
        (
            {"model": nn.Linear(3, 1)},
            InvalidValue,
            "model must be a name, a mapping with a name and fields, or a lossb",
        ),
        ({"loss": 3}, InvalidValue, "loss must be a name"),
        ({"weighting": absolute}, InvalidValue, "weighting must be a name"),
        ({"losses": [{"huber": 3}]}, InvalidValue, "huber must be followed by its fields"),
        ({"optimizer": "sgd"}, InvalidValue, 'optimizer must be set by its fields: optimizer={"name": ...'),
        ({"output": None}, InvalidValue, "output must be a value, not None."),
        (
            {"loss": "huber", "losses": ["mse"]},
            InvalidValue,
            'loss="huber" would not count, as losses is set',
        ),
        ({"experiment": "label_noise", "loss": "mae", "task": None}, InvalidValue, "would not count, as losses is set"),
        ({"data": lossbench.Examples([[1.0]], [[1.0]])}, InvalidValue, "The inputs of Examples must be a NumPy array"),
        (
            {"data": lossbench.Examples(np.zeros((3, 1)), np.zeros((2, 1)))},
            InvalidValue,
            "as many inputs as targets. Got 3 and 2 instead.",
        ),
        ({"loss": "huber", "losses": ["mse"]}, InvalidValue, "Put it into losses=[...], or add losses=None."),
        # as Python writes them, and not as a shell takes them
        ({"losses": "mse"}, InvalidValue, 'losses must be a list, as in losses=["mse"], or losses="all". Got'),
        ({"rates": 0.5}, InvalidValue, "rates must be a list, as in rates=[0.5]. Got 0.5 instead."),
        ({"protocol": {"search": 3}}, InvalidValue, 'Use protocol="tuned", or set protocol={"tuning_seeds": 10}.'),
        ({"plugins": 3}, InvalidValue, 'as in plugins=["my_losses.py", "my_package.losses"]. Got 3 instead.'),
        ({"seeds": [0, 0]}, InvalidValue, "seeds must differ from each other: 0 is listed twice. Got [0, 0] instead."),
        ({"progress": "yes"}, InvalidValue, "progress must be True, False or None. Got 'yes' instead."),
    ],
)
def test_bad_input_is_one_error_and_leaves_nothing(run, tmp_path, settings, kind, told):
    with pytest.raises(kind) as raised:
        run(**settings)
    assert told in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("regression", "Did you mean lossbench.run(task=\"regression\")? Got 'regression' instead."),
        ("hubre", 'Did you mean lossbench.run(loss="huber")?'),
        ("label_noise", 'Did you mean lossbench.run(experiment="label_noise")?'),
        ({"task": "regression"}, "Did you mean lossbench.run(**settings)?"),
        (3, 'Write lossbench.run(task="regression", losses=["mse", "huber"]).'),
    ],
)
def test_a_setting_without_its_name_gets_the_call_that_was_meant(tmp_path, monkeypatch, value, hint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidValue) as raised:
        lossbench.run(value)
    assert f"lossbench.run takes settings by name. {hint}" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_names_the_setting(run, tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(LossbenchError, match=r"Cannot write .* Choose another folder with output=\.$"):
        run(output="file/results")


def test_folders_may_be_one_list(results):
    folder = results.folders[0]
    assert len(lossbench.load([folder])) == len(lossbench.load(folder))
    assert len(lossbench.load(results.folders)) == len(results)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (
            lambda r: r.compare(rope="wide"),
            "rope must be a number in the range (0, 100): percent of an error, or",
        ),
        (lambda r: r.compare(rope=-1), "accuracy. Got -1 instead."),
        (
            lambda r: r.compare(confidence=2),
            "confidence must be a share from 0.5 to below 1, and not a percentage. Got 2",
        ),
        (lambda r: r.plot("differences", part="a"), "Got a instead."),
        (lambda r: r.compare().to_frame("speed"), "Unknown order 'speed'."),
        (lambda r: r.compare().to_latex("speed"), "Unknown order 'speed'."),
        (lambda r: lossbench.load(), "load takes at least one folder"),
        (
            lambda r: lossbench.load("results", 3),
            "load takes folders, as in lossbench.load('results', 'others').",
        ),
        (lambda r: lossbench.load(*r.folders, where=["corruption_rate"]), "where must map settings to values"),
    ],
)
def test_bad_questions_are_one_error(results, ask, told):
    with pytest.raises(LossbenchError) as raised:
        ask(results)
    assert told in str(raised.value)


def test_what_is_wanted_of_records_may_be_one_value(results):
    folder = results.folders[0].parents[2]
    assert set(lossbench.load(folder, where={"loss": "mse"}).table()["loss"]) == {"mse"}
    assert set(
        lossbench.load(folder, where={"corruption_rate": 0.2, "loss": ("mse", "huber")}).table()["corruption_rate"]
    ) == {0.2}


def test_a_trial_that_lies_in_two_folders_counts_once(run, tmp_path):
    run(loss="mse", output="first")
    shutil.copytree("first", "copy")
    run(loss="mse", seeds=[1], output="first")
    run(loss="mse", seeds=[2], output="copy")
    found = lossbench.load("copy", "first")
    assert sorted(found.trials()["seed"]) == [0, 1, 2]
    assert not found.curves().duplicated(["trial", "step", "split", "metric"]).any()


def test_settings_of_an_experiments_preset_count_as_on_the_command_line(run, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "presets" / "experiment").mkdir(parents=True)
    text = "plugins: [mine.py]\nlosses: [of_a_plugin, mse]\nworkers: 2\n"
    (tmp_path / "presets" / "experiment" / "own.yaml").write_text(text)
    monkeypatch.setattr(presets, "_folders", [tmp_path / "presets"])
    found = run(experiment="own", seeds=3)
    assert set(found.table()["loss"]) == {"of_a_plugin", "mse"}
    assert any("worker process" in line for line in found.messages)


def test_workers_and_plugins_are_read_like_other_settings(run, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    found = run(losses=["of_a_plugin", "mse"], plugins=(tmp_path / "mine.py",), workers="1")
    assert len(found) == 2


def test_a_loss_with_a_number_of_numpys_is_the_loss_with_that_number(run):
    found = run(losses=[lossbench.losses.get("huber", delta=np.float32(2))])
    assert found.table()["loss"].tolist() == ["huber(delta=2.0)"]


def test_where_nothing_can_be_trained_it_raises_with_the_reason(run):
    def broken(prediction, target):
        raise RuntimeError("on purpose")

    with pytest.raises(LossbenchError, match=r"No trial could be trained: .*on purpose"):
        run(loss=broken)


def test_one_failing_loss_takes_no_other_with_it(run):
    def broken(prediction, target):
        raise RuntimeError("on purpose")

    found = run(losses=[broken, "mse"])
    assert list(found.failed.values()) == [1]
    assert "on purpose" in next(iter(found.failed))
    assert len(found.table()) == 2


def test_what_does_not_fit_is_skipped_with_its_reason(run):
    found = run(losses=["mse", "bce"])
    assert found.skipped == ["Skipped, for another task: bce."]
    assert found.skipped[0] in found.messages
    assert found.skipped[0] in str(found)


def test_what_is_skipped_is_told_where_there_is_no_bar_either(run, capsys):
    run(losses=["mse", "bce"], progress=None)
    assert "Skipped, for another task: bce." in capsys.readouterr().err


def test_tables(results):
    table, every, curves = results.table(), results.trials(), results.curves()
    assert list(zip(table["loss"], table["corruption_rate"], strict=True)) == [
        ("huber", 0.0),
        ("huber", 0.2),
        ("mse", 0.0),
        ("mse", 0.2),
    ]
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    own = every[(every["loss"] == "huber") & (every["corruption_rate"] == 0)]
    assert table["value"].iloc[0] == pytest.approx(own["test/mae/last"].mean())
    assert len(every) == len(results) == 12
    assert set(curves["split"]) == {"train", "validation", "test"}
    assert {"loss", "corruption_rate", "seed", "step", "metric", "value"} <= set(curves)
    assert "test mae ↓" in str(results)
    assert "<pre" in results._repr_html_()
    assert repr(results) == "<Results: 12 trials of huber, mse>"


def test_a_comparison(results):
    found = results.compare(baseline="huber")
    frame = found.to_frame()
    assert set(frame["baseline"]) == {"huber"}
    assert [text.split(":")[0] for text in found.verdicts] == ["Corruption rate 0", "Corruption rate 0.2"]
    assert r"\begin{tabular}" in found.to_latex()
    assert found.to_markdown().startswith("| name |")
    assert found.verdicts[1].split(" is worse")[0] in str(found).replace("\n", " ")
    assert "<script" not in found._repr_html_()
    with pytest.raises(UnknownName, match="baseline"):
        results.compare(baseline="mae")


def test_recommendations_make_the_loss(results):
    first = results.recommended()[0]
    assert (first.loss, first.corruption_rate, first.learning_rate) == (
        "mse",
        0.0,
        0.003,
    )  # the simplest of what is as good
    namespace = {}
    exec(first.snippet, namespace)
    torch.testing.assert_close(namespace["criterion"](torch.ones(4, 1), torch.zeros(4, 1)), torch.tensor(1.0))


@pytest.mark.parametrize("kind", ["curves", "robustness", "differences"])
def test_figures(results, kind):
    assert isinstance(results.plot(kind), matplotlib.figure.Figure)


def test_figures_that_the_records_do_not_hold(results):
    with pytest.raises(InvalidValue, match="protocol=tuned"):
        results.plot("tuning")
    with pytest.raises(UnknownName, match="Did you mean 'curves'"):
        results.plot("curve")


def test_load_reads_what_any_command_recorded(results):
    folder = results.folders[0].parents[2]
    found = lossbench.load(folder)
    pd.testing.assert_frame_equal(found.table(), results.table())
    assert set(lossbench.load(folder, where={"corruption_rate": [0.2]}).table()["corruption_rate"]) == {0.2}
    with pytest.raises(LossbenchError, match="There is no folder"):
        lossbench.load("nowhere")


def test_only_the_trials_of_the_run_are_in_its_results(run):
    assert len(run(loss="mse", seeds=3)) == 3
    assert len(run(loss="mse", seeds=2)) == 2


def test_a_tuned_run(run):
    found = run(
        losses=["mse", "mae"], protocol={"name": "tuned", "tuning_seeds": 2, "grid_extensions": 0}, lr=[0.01, 0.03]
    )
    assert set(found.trials()["seed"]) == {0}
    assert set(found.compare().to_frame()["n_learning_rates"]) == {2}
    assert isinstance(found.plot("tuning"), matplotlib.figure.Figure)


def test_records_of_tuning_alone_have_nothing_to_report(run, tmp_path):
    run(losses=["mse", "huber"], protocol={"name": "tuned", "tuning_seeds": 1, "lr_grid": [1]}, output=tmp_path)
    found = lossbench.load(tmp_path, where={"seed": FIRST_TUNING_SEED})
    assert (len(found), found.table().empty, found.trials().empty, found.curves().empty) == (0, True, True, True)


def test_records_are_read_once(run, monkeypatch):
    reads = []
    original = reporters.read_study
    monkeypatch.setattr(reporters, "read_study", lambda *given: reads.append(given) or original(*given))
    monkeypatch.setattr("lossbench.report.tensorboard.writer.read_study", lambda *_: 1 / 0)
    run(losses=["mse", "huber"])
    assert len(reads) == 1


def test_in_a_thread_no_signal_handler_is_touched(run):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(loss="mse")))
    thread.start()
    thread.join()
    assert len(found[0]) == 1


def test_runs_in_two_threads_have_their_own_logs_and_leave_the_logger_as_it_was(run, tmp_path):
    log = logging.getLogger("lossbench")
    before = log.level, log.propagate, log.handlers
    both = threading.Barrier(2)

    class Meeting(SilentReporter):
        """Neither run ends before the other has begun."""

        def on_saved(self, experiments):
            both.wait(60)

    def train(loss):
        asked = make_plan(SHORT | {"loss": loss, "output": str(tmp_path / loss)})
        run_with_boards([asked], Meeting(), 1)

    threads = [threading.Thread(target=train, args=(loss,)) for loss in ("mse", "huber")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [(tmp_path / loss / "lossbench.log").read_text() for loss in ("mse", "huber")]
    assert [text.count("1 of 1 trials on record") for text in texts] == [1, 1]
    assert (log.level, log.propagate, log.handlers) == before


def test_a_reporters_error_ends_the_run_and_is_no_failure_of_the_trials(tmp_path):
    class Broken(SilentReporter):
        def on_progress(self, progress):
            raise ZeroDivisionError("on purpose")

    asked = make_plan(SHORT | {"output": str(tmp_path)})
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        run_all([asked], Broken())
    assert list(tmp_path.rglob("trials.parquet")) == []


def test_a_second_ctrl_c_is_a_keyboard_interrupt(tmp_path):
    """Lightning makes it sys.exit(1), by which a notebook or a script would not know it."""

    class Hasty(SilentReporter):
        def on_progress(self, progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([make_plan(SHORT | {"output": str(tmp_path)})], Hasty())


def test_where_no_worker_can_start_training_goes_on_in_this_process(run, monkeypatch):
    def start(*_):
        raise AssertionError("daemonic processes are not allowed to have children")

    monkeypatch.setattr(processes, "Worker", start)
    found = run(losses=["mse", "huber"], seeds=3, workers=2)
    assert len(found) == 6
    assert any("daemonic processes" in line for line in found.messages)


def test_workers_know_objects_inside_a_combined_loss(run):
    def own(prediction, target):
        return (prediction - target).abs().mean(-1)

    found = run(losses=[{"name": "combined", "terms": [own, "mse"]}], seeds=3, workers=2)
    assert (found.failed, len(found)) == ({}, 3)


def test_objects_of_this_session_are_no_offer(run):
    run(loss=lambda prediction, target: (prediction - target).abs().mean(-1))
    assert not [name for name in registry.losses.names("regression") if "@" in name]


def test_the_api_is_what_dir_shows():
    assert {"run", "load", "Results", "Comparison", "Loss", "losses"} <= set(dir(lossbench))
    for name in dir(lossbench):
        assert getattr(lossbench, name) is not None


SCRIPT = """
import pathlib, sys
from dataclasses import dataclass
import lossbench

@dataclass(frozen=True)
class Mine(lossbench.Loss):
    tasks, space, encoding = ("regression",), lossbench.Space.VALUE, lossbench.Encoding.VALUE
    power: float = 2.0

    def __call__(self, prediction, target):
        return ((prediction - target).abs() ** self.power).mean(-1)

with open("ran", "a") as stream:
    stream.write("x")
results = lossbench.run(losses=[Mine(), "mse"], model="linear", seeds=2, rates=[0], epochs=1, workers=2)
print(results.trials().groupby("loss")["test/mae/last"].mean().round(3).nunique(), set(results.trials()["status"]))
"""


def test_a_script_needs_no_guard(tmp_path):
    """Workers never run it, though what it defines trains there."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 {'finished'}\n"  # the same loss as mse
    assert (tmp_path / "ran").read_text() == "x"
    assert "worker process" in (tmp_path / "results" / "lossbench.log").read_text()


CELL = """
from dataclasses import dataclass
import lossbench
EXPONENT = {exponent}

@dataclass(frozen=True)
class Mine(lossbench.Loss):
    tasks, space, encoding = ("regression",), lossbench.Space.VALUE, lossbench.Encoding.VALUE

    def __call__(self, prediction, target):
        return ((prediction - target).abs() ** EXPONENT).mean(-1)
"""
CALL = """
results = lossbench.run(losses=[Mine(), "mse"], model="linear", seeds=2, rates=[0], epochs=1, progress=False)
mine = results.trials().groupby("loss")["test/mae/last"].mean().round(3)
print(sorted(mine.index)[0].split("@")[0], mine.nunique(), [m.split(".")[0] for m in results.messages])
"""


def test_a_notebook(tmp_path):
    """A class of a cell trains; edited, it has new numbers; as it was, it is found again."""
    import nbformat
    from nbclient import NotebookClient

    cells = [
        CELL.format(exponent=1.0),
        CALL,
        CELL.format(exponent=2.0),
        CALL,
        CELL.format(exponent=1.0),
        CALL,
        "results.compare()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    first, edited, again = (notebook.cells[i].outputs[0]["text"] for i in (1, 3, 5))
    assert first.startswith("Mine 2 ['Trained 4 trials in")
    assert edited.startswith("Mine 1 ['2 trials are on record already; training the other 2', 'Trained 2 trials in")
    assert again == "Mine 2 ['4 trials are on record already: nothing to train']\n"
    assert "text/html" in notebook.cells[6].outputs[0]["data"]
