"""Experiments: what is asked for is trained, recorded once, and shown."""

import pandas as pd
import pytest
import yaml

from tests.end_to_end.conftest import ONCE, trials, written

SETTINGS = {  # what is typed, and the column it shows in
    "task=multiclass head=cosine": ("head", "cosine"),
    "metric=rmse": ("metric", "rmse"),
    "validation=clean": ("validation", "clean"),
    "precision=bf16": ("precision", "bf16"),
    "precision=64": ("precision", "64"),
    "optimizer.name=sgd": ("optimizer", "sgd"),
    "clip.mode=norm": ("clip_mode", "norm"),
    "task=multiclass model=cnn": ("model", "cnn"),
    "model.width=8": ("model", "mlp(width=8)"),
    "data=friedman1": ("data", "friedman1"),
    "corruption=none": ("corruption", "none"),
    "lr=0.1": ("lr", 0.1),
    "+lr=0.1": ("lr", 0.1),
    "task=binary weighting=classes weighting.weights={malignant:2}": (
        "weighting",
        "classes(weights={'malignant': 2})",
    ),
    "task=multiclass loss=label_smoothing": ("loss", "cross_entropy(label_smoothing=0.1)"),
    "loss=huber loss.delta=2": ("loss", "huber(delta=2.0)"),
    "loss=external loss.target=torch.nn.HuberLoss loss.params.delta=2": (
        "loss",
        "external(params={'delta': 2}, target=torch.nn.HuberLoss)",
    ),
}
WALL_CLOCK = ["wall_seconds"]


def no_training(*_):
    raise AssertionError("trained again")


@pytest.mark.parametrize("line", SETTINGS)
def test_each_setting_reaches_the_record(lossbench, tmp_path, line):
    code, out, err = lossbench(*line.split(), *ONCE)
    assert (code, err) == (0, "")
    (row,) = trials(tmp_path).to_dict("records")
    column, value = SETTINGS[line]
    assert row[column] == value
    assert row["status"] == "finished"
    assert str(row["metric"]) in out
    assert "Records: results/" in out


def test_output_is_where_it_is_asked_to_be_and_named_for_people(lossbench, tmp_path):
    said = lossbench("output=elsewhere", "progress=false", *ONCE)
    assert said.code == 0
    assert {p.split("/")[0] for p in written(tmp_path)} == {"elsewhere"}
    assert any(p.startswith("elsewhere/regression/mse/diabetes-mlp-") for p in written(tmp_path))
    assert "Curves:  tensorboard --logdir elsewhere/regression/mse/diabetes-mlp-" in said.out


def test_several_losses_are_experiments_of_one_stack(lossbench, tmp_path, monkeypatch):
    import lossbench.training.run as training

    stacks, run_stack = [], training.run_stack
    monkeypatch.setattr(training, "run_stack", lambda stack, p: stacks.append(stack) or run_stack(stack, p))
    said = lossbench("seeds=[3,7]", "losses=[mse,{huber:{delta:2}},{name:huber,delta:3}]", "epochs=1", "rates=[0,0.3]")
    assert said.code == 0
    assert [len(s.trials) for s in stacks] == [12]
    found = trials(tmp_path)
    assert sorted(found["loss"].unique()) == ["huber(delta=2.0)", "huber(delta=3.0)", "mse"]
    assert sorted(found["seed"].unique()) == [3, 7]
    assert sorted(found["rate"].unique()) == [0, 0.3]
    assert "huber(delta=2.0)" in said.out


def test_the_recorded_configuration_gives_the_same_experiment(lossbench, tmp_path):
    assert lossbench("loss=huber", "loss.delta=2", *ONCE).code == 0
    (config,) = tmp_path.rglob("config.yaml")
    recorded = yaml.safe_load(config.read_text())
    assert recorded["loss"] == {"name": "huber", "delta": 2.0}
    assert recorded["model"] == {"name": "mlp", "width": 64, "depth": 2}
    assert (recorded["epochs"], recorded["lr"], recorded["batch_size"]) == (1, 0.003, 64)
    shown = yaml.safe_load(lossbench("--cfg", "job", "loss=huber", "loss.delta=2").out)
    assert recorded.keys() <= shown.keys()


def test_the_same_command_again_trains_nothing_and_says_so(lossbench, monkeypatch):
    first = lossbench("losses=[mse,huber]", "epochs=1", "seeds=1", "rates=[0,0.2]")
    monkeypatch.setattr("lossbench.training.run.run_stack", no_training)
    again = lossbench("losses=[mse,huber]", "epochs=1", "seeds=1", "rates=[0,0.2]")
    assert again.code == 0
    assert again.out == first.out
    assert again.err.startswith("4 trials are on record already: nothing to train.")


def test_a_default_typed_out_is_the_same_experiment(lossbench, monkeypatch):
    assert lossbench("loss=huber", *ONCE).code == 0
    monkeypatch.setattr("lossbench.training.run.run_stack", no_training)
    assert lossbench("loss=huber", "loss.delta=1", "data=diabetes", "lr=0.003", "model.depth=2", *ONCE).code == 0


def test_more_seeds_train_only_the_new_ones(lossbench, tmp_path, monkeypatch):
    import lossbench.training.run as training

    assert lossbench("epochs=1", "seeds=2", "rates=[0,0.2]").code == 0
    before = trials(tmp_path).set_index("trial")
    trained, run_stack = [], training.run_stack
    monkeypatch.setattr(training, "run_stack", lambda stack, p: trained.extend(stack.trials) or run_stack(stack, p))
    code, out, err = lossbench("epochs=1", "seeds=3", "rates=[0,0.2]")
    assert code == 0
    assert err.startswith("4 trials are on record already; training the other 2.")
    assert sorted((t.seed, t.rate) for t in trained) == [(2, 0.0), (2, 0.2)]
    assert "3 seeds, 6 trials" in out
    after = trials(tmp_path).set_index("trial")
    pd.testing.assert_frame_equal(after.loc[before.index], before)


def test_the_table_shows_what_was_asked_for_only(lossbench):
    assert lossbench("epochs=1", "seeds=2", "rates=[0,0.2]").code == 0
    assert "1 seed, 1 trial" in lossbench(*ONCE).out


def test_the_same_command_elsewhere_gives_the_same_numbers(lossbench, tmp_path):
    command = ("losses=[mse,tukey]", "epochs=2", "seeds=2", "rates=[0,0.2]")
    assert lossbench(*command, "output=a").code == lossbench(*command, "output=b").code == 0
    a, b = (trials(tmp_path / name).drop(columns=WALL_CLOCK) for name in "ab")
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    for name in ("curves", "test"):
        one, two = (pd.concat(map(pd.read_parquet, sorted((tmp_path / n).rglob(f"{name}.parquet")))) for n in "ab")
        pd.testing.assert_frame_equal(
            one.drop(columns="seconds", errors="ignore"), two[one.columns.drop("seconds", errors="ignore")]
        )


def test_trials_that_cannot_train_are_recorded_with_the_reason_and_the_others_train(lossbench, tmp_path):
    """Symmetric outliers make targets negative, which msle cannot take: at rate 0 it can be trained."""
    code, out, _ = lossbench(
        "losses=[msle,mse]", "corruption=symmetric_outliers", "epochs=1", "seeds=1", "rates=[0,0.2]"
    )
    assert code == 1
    status = trials(tmp_path).set_index(["loss", "rate"])["status"]
    assert status.to_dict() == {
        ("msle", 0): "finished",
        ("msle", 0.2): "failed",
        ("mse", 0): "finished",
        ("mse", 0.2): "finished",
    }
    assert "targets that are not negative" in " ".join(out.split())


def test_a_rate_that_more_rows_would_be_needed_for_fails_alone(lossbench, tmp_path):
    code, out, _ = lossbench("task=binary", "corruption=asymmetric_flips", "epochs=1", "seeds=1", "rates=[0.2,0.9]")
    assert code == 1
    assert trials(tmp_path).set_index("rate")["status"].to_dict() == {0.2: "finished", 0.9: "failed"}
    assert "can be corrupted: the rate can be at most 0.6" in " ".join(out.split())


def test_a_stack_that_cannot_be_built_does_not_stop_the_others(lossbench, tmp_path, monkeypatch):
    import lossbench.training.run as training
    from lossbench.errors import Incompatible

    run_stack = training.run_stack

    def choosy(stack, progress):
        if stack.trials[0].head == "mean_scale":
            raise Incompatible("not this one")
        return run_stack(stack, progress)

    monkeypatch.setattr(training, "run_stack", choosy)
    code, out, err = lossbench("losses=[gaussian_nll,mse]", *ONCE)
    assert (code, err) == (2, "lossbench: not this one\n")
    assert trials(tmp_path)["loss"].tolist() == ["mse"]
    assert "mse" in out
    assert "gaussian_nll" not in out


def test_losses_of_other_heads_can_share_one(lossbench, tmp_path):
    assert lossbench("losses=[mse,gaussian_nll]", "head=mean_scale", *ONCE).code == 0
    assert set(trials(tmp_path)["head"]) == {"mean_scale"}


def test_the_preset_of_label_noise(lossbench, tmp_path):
    assert lossbench("experiment=label_noise", "epochs=0.1", "seeds=1").code == 0
    found = trials(tmp_path)
    assert set(found["loss"]) == {"cross_entropy", "brier", "generalized_cross_entropy"}
    assert sorted(found["rate"].unique()) == [0, 0.2, 0.4, 0.6]


def test_presets_of_ones_own(lossbench, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "quick.yaml").write_text("# @package _global_\nepochs: 1\nseeds: [4]\nrates: [0]\n")
    assert lossbench("--config-dir", "mine", "experiment=quick").code == 0
    assert trials(tmp_path)["seed"].tolist() == [4]


def test_without_corruption_there_is_one_rate(lossbench, tmp_path):
    assert lossbench("corruption=none", "epochs=1", "seeds=1").code == 0
    assert trials(tmp_path)["rate"].tolist() == [0]


def test_progress_is_read(lossbench, monkeypatch):
    shown = []
    monkeypatch.setattr("lossbench.cli.run.train", lambda experiments, missing, progress: shown.append(progress) or [])
    lossbench("progress=false", *ONCE)
    lossbench(*ONCE)
    assert shown == [False, True]


class TestSweep:
    """`-m`: one job after another."""

    def test_every_job_runs(self, lossbench, tmp_path):
        code, out, err = lossbench("-m", "loss=mse,huber", *ONCE)
        assert (code, err) == (0, "")
        assert set(trials(tmp_path)["loss"]) == {"mse", "huber"}
        assert out.count("Records: ") == 2
        assert [p.name for p in tmp_path.iterdir()] == ["results"]
        assert [p.name for p in (tmp_path / "results").iterdir()] == ["regression"]  # no folders of Hydra's

    def test_options_may_come_last(self, lossbench, tmp_path):
        assert lossbench(*ONCE, "-m", "loss=mse,huber", "model=linear").code == 0
        assert set(trials(tmp_path)["model"]) == {"linear"}

    def test_jobs_run_though_others_fail_and_their_errors_are_listed(self, lossbench, tmp_path):
        code, out, err = lossbench("-m", "model=cnn,linear", "loss=mse,huber", *ONCE)
        assert code == 2
        assert set(trials(tmp_path)["loss"]) == {"mse", "huber"}
        lines = err.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith(
            "lossbench: model=cnn loss=mse epochs=1 seeds=1 rates=[0]: The model cnn takes images"
        )
        assert lines[2] == "lossbench: 2 of 4 jobs failed, see above."
        assert out.count("Records: ") == 2

    def test_a_bug_in_one_job_does_not_stop_the_others(self, lossbench, monkeypatch, tmp_path):
        import lossbench.training.run as training

        run_stack = training.run_stack
        monkeypatch.setattr(
            training, "run_stack", lambda s, p: 1 / 0 if s.trials[0].loss.name == "mse" else run_stack(s, p)
        )
        code, _, err = lossbench("-m", "loss=mse,huber", *ONCE)
        assert code == 2
        assert "ZeroDivisionError" in err
        assert trials(tmp_path)["loss"].tolist() == ["huber"]

    def test_the_worst_exit_code_counts(self, lossbench):
        rates = ("epochs=1", "seeds=1", "rates=[0.2]", "corruption=symmetric_outliers")
        assert lossbench("-m", "loss=msle,mse", *rates).code == 1


def test_a_plugins_loss_trains_beside_built_in_ones(lossbench, tmp_path):
    """`plugins/lossbench-example`, which scripts/setup installs: a function that masks with booleans."""
    code, out, _ = lossbench("losses=[mse,trimmed_mae,{trimmed_mae:{cut:2}}]", *ONCE)
    assert code == 0
    routes = trials(tmp_path).set_index("loss")["route"]
    assert set(routes.index) == {"mse", "trimmed_mae", "trimmed_mae(cut=2.0)"}
    assert all(r.endswith(("fold", "loop")) for r in routes.drop("mse"))
    assert "trimmed_mae (cut=2.0)" in out
    assert "trimmed_mae" in lossbench("losses", "regression").out
    assert "Did you mean 'trimmed_mae'" in lossbench("loss=trimed_mae").err
