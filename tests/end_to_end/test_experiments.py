"""Experiments: what is asked for is trained, recorded once, and shown."""

import json
from itertools import product

import pandas as pd
import pytest
import yaml
from counting import count_calls
from hydra import compose, initialize_config_module

from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import make_plan
from lossbench.errors import InvalidValue
from lossbench.seeds import group_stacks
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
        "classes(weights={malignant: 2})",
    ),
    "task=multiclass loss=label_smoothing": ("loss", "cross_entropy(label_smoothing=0.1)"),
    "loss=huber loss.delta=2": ("loss", "huber(delta=2.0)"),
    "loss=external loss.target=torch.nn.HuberLoss loss.params.delta=2": (
        "loss",
        "external(params={delta: 2}, target=torch.nn.HuberLoss)",
    ),
}
WALL_CLOCK = ["wall_seconds"]


def no_training(*_):
    raise AssertionError("trained again")


@pytest.mark.parametrize("line", SETTINGS)
def test_each_setting_reaches_the_record(lossbench, tmp_path, line):
    code, out, err = lossbench(*line.split(), *ONCE)
    assert code == 0, err
    (row,) = trials(tmp_path).to_dict("records")
    column, value = SETTINGS[line]
    assert row[column] == value
    assert row["status"] == "finished"
    assert str(row["metric"]) in out
    assert "Records: results/" in out


def test_output_is_where_it_is_asked_to_be_and_named_for_people(lossbench, tmp_path):
    said = lossbench("output=elsewhere", *ONCE)
    assert said.code == 0
    assert {p.split("/")[0] for p in written(tmp_path)} == {"elsewhere"}
    assert any(p.startswith("elsewhere/regression/mse/diabetes-mlp-") for p in written(tmp_path))
    assert "Curves:  tensorboard --logdir elsewhere/tensorboard/regression/diabetes-mlp\n" in said.out


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
    assert sorted(found["corruption_rate"].unique()) == [0, 0.3]
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
    assert sorted((t.seed, t.corruption_rate) for t in trained) == [(2, 0.0), (2, 0.2)]
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


def test_trials_that_cannot_take_their_data_are_skipped_with_the_reason_and_the_others_train(lossbench, tmp_path):
    """Symmetric outliers make targets negative, which msle cannot take: at rate 0 it can be trained."""
    code, out, _ = lossbench(
        "losses=[msle,mse]", "corruption=symmetric_outliers", "epochs=1", "seeds=1", "rates=[0,0.2]"
    )
    assert code == 0
    status = trials(tmp_path).set_index(["loss", "corruption_rate"])["status"]
    assert status.to_dict() == {
        ("msle", 0): "finished",
        ("msle", 0.2): "skipped",
        ("mse", 0): "finished",
        ("mse", 0.2): "finished",
    }
    assert "1 of 1 skipped, msle at corruption rate 0.2: loss=msle cannot be trained on this data" in " ".join(
        out.split()
    )
    assert "targets that are not negative" in " ".join(out.split())


def test_if_all_trials_are_skipped_the_command_fails(lossbench, tmp_path):
    code, out, err = lossbench("loss=msle", "corruption=symmetric_outliers", "epochs=1", "seeds=1", "rates=[0.2]")
    assert (code, out) == (1, "")
    assert "1 trial skipped: loss=msle cannot be trained on this data: The loss takes targets that are not neg" in err
    assert trials(tmp_path)["status"].tolist() == ["skipped"]


def test_a_rate_that_more_rows_would_be_needed_for_is_skipped_alone(lossbench, tmp_path):
    code, out, _ = lossbench("task=binary", "corruption=asymmetric_flips", "epochs=1", "seeds=1", "rates=[0.2,0.9]")
    assert code == 0
    assert trials(tmp_path).set_index("corruption_rate")["status"].to_dict() == {0.2: "finished", 0.9: "skipped"}
    assert "can be corrupted: the corruption rate can be at most 0.6" in " ".join(out.split())


def test_a_stack_that_cannot_be_built_does_not_stop_the_others(lossbench, tmp_path, monkeypatch):
    import lossbench.training.run as training
    from lossbench.errors import Incompatible

    run_stack = training.run_stack

    def choosy(stack, watch):
        if stack.trials[0].head == "mean_scale":
            raise Incompatible("not this one")
        return run_stack(stack, watch)

    monkeypatch.setattr(training, "run_stack", choosy)
    code, out, _ = lossbench("losses=[gaussian_nll,mse]", *ONCE)
    assert code == 1
    assert trials(tmp_path).set_index("loss")["status"].to_dict() == {"mse": "finished", "gaussian_nll": "failed"}
    assert "1 of 1 failed, gaussian_nll at corruption rate 0: not this one" in out


def test_losses_of_other_heads_can_share_one(lossbench, tmp_path):
    assert lossbench("losses=[mse,gaussian_nll]", "head=mean_scale", *ONCE).code == 0
    assert set(trials(tmp_path)["head"]) == {"mean_scale"}


def test_the_preset_of_label_noise(lossbench, tmp_path):
    assert lossbench("experiment=label_noise", "epochs=0.1", "seeds=1").code == 0
    found = trials(tmp_path)
    assert set(found["loss"]) == {"cross_entropy", "brier", "generalized_cross_entropy"}
    assert sorted(found["corruption_rate"].unique()) == [0, 0.2, 0.4, 0.6]


def test_the_preset_of_the_table_of_label_noise(lossbench, tmp_path):
    assert lossbench("experiment=label_noise_table", "epochs=0.1", "seeds=1", "rates=[0.6]").code == 0
    found = trials(tmp_path)
    assert len(found) == 13
    assert set(found["n_train"]) == {1293}
    assert {"taylor_cross_entropy(order=6)", "cross_entropy(label_smoothing=0.1)", "anl_ce"} < set(found["loss"])


def test_presets_of_ones_own(lossbench, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "quick.yaml").write_text("# @package _global_\nepochs: 1\nseeds: [4]\nrates: [0]\n")
    assert lossbench("--config-dir", "mine", "experiment=quick").code == 0
    assert trials(tmp_path)["seed"].tolist() == [4]


def test_without_corruption_there_is_one_rate(lossbench, tmp_path):
    assert lossbench("corruption=none", "epochs=1", "seeds=1").code == 0
    assert trials(tmp_path)["corruption_rate"].tolist() == [0]


def test_workers_and_quiet_reach_the_training(lossbench, monkeypatch):
    asked = []

    def ask(_, reporter, workers):
        asked.append((workers, reporter.console.quiet))
        raise InvalidValue("enough")

    monkeypatch.setattr("lossbench.study.api.run_with_boards", ask)
    lossbench(*ONCE)
    lossbench("workers=3", "--quiet", *ONCE)
    assert asked == [(None, False), (3, True)]


class TestLists:
    """`losses=`, `weightings=`, `corruptions=` and numbers: all combinations, in one stacked fit."""

    def test_all_combinations_in_the_order_of_the_lists(self, resolved):
        found = resolved(
            "losses=[mse,huber]", "weightings=[none,irls]", "corruptions=[none,feature_outliers]", "lr=[0.1,0.01]"
        ).experiments
        names = [(t.loss.name, t.weighting.name, t.corruption.name, t.optimizer.lr) for t in map(template, found)]
        assert names == list(product(["mse", "huber"], ["none", "irls"], ["none", "feature_outliers"], [0.1, 0.01]))
        assert [len(e.list_trials()) for e in found[:3]] == [5, 5, 20]  # without corruption there is one rate

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            ("lr=[0.1,1]", "lr"),
            ("optimizer.weight_decay=[0,0.1]", "weight_decay"),
            ("optimizer.warmup=[0,0.1]", "warmup"),
            ("clip.mode=norm clip.threshold=[1,5]", "clip"),
        ],
    )
    def test_numbers_in_which_rows_may_differ_take_a_list(self, resolved, line, name):
        values = [float(v) for v in line.split("[")[1].rstrip("]").split(",")]
        experiments = resolved(*line.split()).experiments
        assert [getattr(template(e).optimizer, name) for e in experiments] == values
        assert len(group_stacks(t for e in experiments for t in e.list_trials())) == 1

    def test_what_does_not_act_makes_no_experiments(self, resolved):
        assert len(resolved("clip.threshold=[1,5]").experiments) == 1
        assert len(resolved("losses=[huber,{huber:{delta:1}}]").experiments) == 1

    def test_what_does_not_fit_is_skipped_with_its_reason(self, resolved):
        made = resolved("task=binary", "losses=[dice,bce,mse]", "weightings=[none,balanced,irls]")
        names = [(template(e).loss.name, template(e).weighting.name) for e in made.experiments]
        assert names == [("dice", "none"), ("bce", "none"), ("bce", "balanced")]
        assert [(s.parts, s.reason) for s in made.skipped] == [
            ("mse", "for another task"),
            ("irls", "for another task"),
            ("dice + balanced", "single examples cannot be weighed in a loss of whole batches"),
        ]

    def test_skips_are_told_in_a_line_per_reason(self, lossbench):
        code, out, err = lossbench("task=binary", "losses=[dice,bce,mse,mae]", "weightings=[none,balanced]", *ONCE)
        assert code == 0
        assert "bce + balanced" in out
        assert err.splitlines()[1:] == [
            "Skipped, for another task: mse, mae.",
            "Skipped, single examples cannot be weighed in a loss of whole batches: dice + balanced.",
        ]

    def test_a_head_that_some_losses_cannot_read(self, resolved):
        (skipped,) = resolved("losses=[mse,gaussian_nll]", "head=linear").skipped
        assert (skipped.parts, skipped.reason) == ("gaussian_nll", "cannot read the outputs of head=linear")

    @pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
    def test_all_is_what_fits_the_task_and_needs_no_value(self, resolved, task):
        from lossbench.registry import list_required, losses

        wanted = [name for name in losses.names(task) if not list_required(losses.find(name))]
        assert [template(e).loss.name for e in resolved(f"task={task}", "losses=all").experiments] == wanted
        assert "external" not in wanted
        assert resolved(f"task={task}", "weightings=all", "corruptions=all").experiments

    def test_presets_are_losses_of_a_list(self, resolved):
        smoothed = "losses=[label_smoothing,{label_smoothing:{label_smoothing:0.3}},cross_entropy]"
        found = resolved("task=multiclass", smoothed).experiments
        assert [template(e).loss.label for e in found] == [
            "cross_entropy(label_smoothing=0.1)", "cross_entropy(label_smoothing=0.3)", "cross_entropy",
        ]  # fmt: skip

    def test_presets_of_ones_own(self, lossbench, tmp_path):
        (tmp_path / "mine" / "loss").mkdir(parents=True)
        (tmp_path / "mine" / "loss" / "wide.yaml").write_text("defaults:\n  - huber\n\ndelta: 5\n")
        assert lossbench("--config-dir", "mine", "losses=[wide,mse]", *ONCE).code == 0
        assert set(trials(tmp_path)["loss"]) == {"huber(delta=5.0)", "mse"}

    def test_a_thousand_experiments_resolve_at_once(self, resolved):
        variants = ",".join(f"{{huber:{{delta:{i}}}}}" for i in range(2, 32))
        asked = (f"losses=[{variants}]", "weightings=[none,irls]", "seeds=1")
        resolved(*asked, "lr=[1]")  # what is only done once
        few = count_calls(lambda: resolved(*asked, "lr=[1]"))
        made = []
        many = count_calls(lambda: made.append(resolved(*asked, "lr=[1,2,3,4,5,6,7,8,9,10]")))
        assert len(made[0].experiments) == 600
        assert many < 1.5 * few  # 1.13; with a build for each experiment it was ten times the work

    def test_the_table_has_columns_for_numbers(self, lossbench):
        out = lossbench("losses=[mse,huber]", "lr=[0.001,0.003]", "optimizer.weight_decay=[0,0.1]", *ONCE).out
        rows = [line.split()[:4] for line in out.splitlines() if line.startswith(("mse ", "huber "))]
        assert sorted(rows) == sorted(
            [loss, lr, decay, "0"] for loss in ("mse", "huber") for lr in ("0.001", "0.003") for decay in ("0", "0.1")
        )
        assert "Records: results/regression (8 folders)" in out


@pytest.fixture
def resolved():
    """`resolved("losses=all")`: what a command line's lists make together."""
    register_choices()

    def make(*overrides: str):
        with initialize_config_module("lossbench.configs", version_base="1.3"):
            return make_plan(compose("config", overrides=list(overrides)))

    return make


def template(experiment):
    return experiment.template


class TestQuiet:
    """`--quiet`: nothing on success, errors as ever."""

    def test_nothing_is_printed_on_success(self, lossbench, tmp_path):
        assert lossbench("--quiet", "losses=[mse,bce]", *ONCE) == (0, "", "")
        assert lossbench("-m", "loss=mse,huber", *ONCE, "--quiet") == (0, "", "")
        assert len(trials(tmp_path)) == 2
        assert lossbench("losses", "--quiet") == (0, "", "")

    def test_errors_are_told(self, lossbench):
        code, out, err = lossbench("--quiet", "lr=-1")
        assert (code, out) == (2, "")
        assert "'lr'" in err
        code, out, err = lossbench("--quiet", "model=cnn", *ONCE)
        assert (code, out) == (1, "")
        assert err.startswith("lossbench: 1 trials failed: The model cnn takes images")


class TestJson:
    """`--json`: one document on standard output, whatever happens."""

    def test_it_says_what_the_table_says(self, lossbench):
        command = ("losses=[huber,mse,bce]", "epochs=1", "seeds=2", "rates=[0,0.2]")
        table = lossbench(*command).out
        code, out, _ = lossbench("--json", *command)
        document = strict(out)
        assert code == 0
        assert [(s["loss"], s["corruption_rate"]) for s in document["summaries"]] == list(
            product(["huber", "mse"], [0, 0.2])
        )
        for row in document["summaries"]:
            last = row["last"]
            assert f"{last['value']:.0f} [{last['low']:.0f}–{last['high']:.0f}]" in table
            assert (row["task"], row["data"], row["metric"], row["lr"]) == ("regression", "diabetes", "mae", 0.003)
            assert (row["n_trials"], row["n_diverged"], row["n_failed"], row["reasons"]) == (2, 0, 0, [])
            assert row["steps_to_target"]["median"] is None  # never reached: infinite, for which JSON has no word
        assert [row["degradation"] is None for row in document["summaries"]] == [True, False] * 2
        assert len(document["records"]) == 2
        assert document["skipped"] == [{"reason": "for another task", "what": ["bce"]}]
        assert document["failed"] == []

    def test_failed_trials_have_their_reason(self, lossbench):
        code, out, _ = lossbench("--json", "model=cnn", *ONCE)
        (row,) = strict(out)["summaries"]
        assert (code, row["n_failed"], row["last"]) == (1, 1, None)
        assert row["reasons"][0].startswith("The model cnn takes images")

    @pytest.mark.parametrize("line", ["lr=-1", "--quiet", "losess", "--cfg job", "losses=[", "-m loss=bce,brier"])
    def test_an_error_is_a_document_too(self, lossbench, line):
        code, out, err = lossbench(*line.split(), "--json")
        assert code == 2
        assert err.endswith(f"lossbench: {strict(out)['error']}\n")

    def test_jobs_that_failed_and_were_skipped(self, lossbench):
        code, out, _ = lossbench("-m", "loss=mse,bce", "lr=0.1,-1", "--json", *ONCE)
        document = strict(out)
        assert code == 1
        assert [s["loss"] for s in document["summaries"]] == ["mse"]
        assert [f["job"].split()[:2] for f in document["failed"]] == [["loss=mse", "lr=-1"]]
        assert document["skipped"] == [{"reason": "for another task", "what": ["bce"]}]

    def test_lists_of_names(self, lossbench):
        from lossbench.registry import ALL

        for verb, registry in ALL.items():
            assert [entry["name"] for entry in strict(lossbench(verb, "--json").out)] == registry.names()
        losses = {entry["name"]: entry for entry in strict(lossbench("losses", "regression", "--json").out)}
        assert losses["huber"]["fields"] == {"delta": 1.0}
        assert losses["external"]["fields"]["target"] is None


def strict(text):
    """JSON as the standard has it, without NaN."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


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
