"""`-m`: jobs train together by our launcher, and one by one by any other; each has what Hydra gives a job."""

import math
import sys
from typing import ClassVar

import cloudpickle
import pandas as pd
import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.sweeper import Sweeper

from lossbench.cli.hydra.compat import BASIC_SWEEPER
from lossbench.cli.hydra.jobs import Jobs
from lossbench.cli.output import OutputMode
from lossbench.registry import GROUPS, losses
from tests.end_to_end.conftest import ONCE, trials

OWN = """
import lossbench
from lossbench.losses.regression import MSE


class Doubled(MSE):
    def __call__(self, prediction, target):
        return 2 * super().__call__(prediction, target)
"""


@pytest.fixture
def fits(monkeypatch):
    """How many rows each Lightning fit had."""
    import pytorch_lightning as pl

    seen, fit = [], pl.Trainer.fit

    def counted(self, model, *arguments, **named):
        seen.append(len(model.trials) if hasattr(model, "trials") else None)
        return fit(self, model, *arguments, **named)

    monkeypatch.setattr(pl.Trainer, "fit", counted)
    return seen


@pytest.fixture
def returns(monkeypatch):
    """What the launcher has returned to Hydra's sweeper, batch by batch."""
    # the scan for plugins runs their modules, and with that replaces classes that were imported before
    own = Plugins.instance().class_name_to_class[BASIC_SWEEPER]
    seen, sweep = [], own.sweep

    def kept(self, arguments):
        launch = self.launcher.launch
        self.launcher.launch = lambda *a, **k: seen.append(launch(*a, **k)) or seen[-1]
        return sweep(self, arguments)

    monkeypatch.setattr(own, "sweep", kept)
    return seen


class Patient(Sweeper):
    """A sweeper that is not Hydra's own: it asks for one job after another, and keeps what each came to."""

    seen: ClassVar = []

    def setup(self, *, hydra_context, task_function, config):
        self.loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(arguments)
        (batch,) = BasicSweeper.split_arguments(parsed, None)
        for number, job in enumerate(batch):
            Patient.seen += self.launcher.launch([job], initial_job_idx=number)


@pytest.fixture
def patient(monkeypatch):
    """The override that chooses it."""
    monkeypatch.setattr(Patient, "__module__", "hydra_plugins.patient")
    monkeypatch.setattr(Patient, "seen", [])
    monkeypatch.setitem(sys.modules, "hydra_plugins.patient", sys.modules[__name__])
    monkeypatch.setattr("hydra_plugins.patient", sys.modules[__name__], raising=False)
    Plugins.instance().register(Patient)
    ConfigStore.instance().store(
        group="hydra/sweeper", name="patient", node={"_target_": "hydra_plugins.patient.Patient"}
    )
    return "hydra/sweeper=patient"


def test_jobs_train_in_one_fit(lossbench, tmp_path, fits):
    code, out, _ = lossbench("-m", "loss=mse,huber,tukey", "epochs=1", "seeds=2", "rates=[0,0.2]")
    assert code == 0
    assert len(fits) == 1
    assert len(trials(tmp_path)) == 12
    assert out.count("test mae ↓") == 1
    assert "2 seeds, 12 trials" in out
    assert [p.name for p in tmp_path.iterdir()] == ["results"]  # no folders of Hydra's
    assert {p.name for p in (tmp_path / "results").iterdir()} <= {
        "regression",
        "tensorboard",
        "lossbench.log",
        ".training",
    }


def test_a_jobs_value_is_its_mean_validation_metric(lossbench, tmp_path, returns):
    assert lossbench("-m", "loss=mse,huber", "epochs=2", "seeds=2", "rates=[0,0.2]").code == 0
    ((mse, huber),) = returns
    recorded = trials(tmp_path).groupby("loss")["validation/mae/last"]
    assert recorded.count().to_dict() == {"mse": 4, "huber": 4}
    assert mse.return_value == pytest.approx(recorded.mean()["mse"], rel=1e-12)
    assert huber.return_value == pytest.approx(recorded.mean()["huber"], rel=1e-12)
    assert mse.overrides == ["loss=mse", "epochs=2", "seeds=2", "rates=[0,0.2]"]
    assert (mse.cfg.loss.name, huber.cfg.loss.name) == ("mse", "huber")


def test_a_diverged_trial_counts_as_the_trivial_predictor(lossbench, tmp_path, returns):
    assert lossbench("-m", "loss=mse", "lr=1e5", "optimizer.name=sgd", "epochs=1", "seeds=1", "rates=[0]").code == 0
    (diverged,) = trials(tmp_path).itertuples()
    assert diverged.status == "diverged"
    assert returns[0][0].return_value == pytest.approx(diverged.baseline_predictor)


def test_each_job_has_hydras_files_where_they_are_asked_for(lossbench, tmp_path):
    code = lossbench("-m", "loss=mse,huber", *ONCE, "hydra.sweep.dir=sweep", "hydra.output_subdir=.hydra").code
    assert code == 0
    for number, loss in enumerate(("mse", "huber")):
        folder = tmp_path / "sweep" / str(number) / ".hydra"
        assert yaml.safe_load((folder / "overrides.yaml").read_text()) == [f"loss={loss}", *ONCE]
        assert yaml.safe_load((folder / "config.yaml").read_text())["loss"]["name"] == loss
        assert yaml.safe_load((folder / "hydra.yaml").read_text())["hydra"]["job"]["num"] == number
    assert (tmp_path / "sweep" / "multirun.yaml").exists()


def test_records_can_go_to_hydras_folder(lossbench, tmp_path):
    code = lossbench("-m", "loss=mse,huber", *ONCE, "hydra.sweep.dir=sweep", "output=${hydra:runtime.output_dir}").code
    assert code == 0
    assert [len(trials(tmp_path / "sweep" / number)) for number in "01"] == [1, 1]


def test_callbacks_are_called_for_each_job(lossbench, monkeypatch):
    from hydra.experimental.callback import Callback

    class Told(Callback):
        seen: ClassVar = []

        def on_job_start(self, config, **_):
            Told.seen.append(config.loss.name)

        def on_job_end(self, config, job_return, **_):
            Told.seen.append(round(job_return.return_value) > 0)

    monkeypatch.setattr(sys.modules[__name__], "Told", Told, raising=False)
    monkeypatch.setitem(sys.modules, "told", sys.modules[__name__])
    assert lossbench("-m", "loss=mse,huber", *ONCE, "+hydra.callbacks.told._target_=told.Told").code == 0
    assert Told.seen == ["mse", True, "huber", True]


def test_jobs_run_though_others_fail_and_their_errors_are_listed(lossbench, tmp_path, returns):
    code, out, err = lossbench("-m", "lr=-1,0.1", "loss=mse,huber", *ONCE)
    assert code == 1
    assert set(trials(tmp_path)["loss"]) == {"mse", "huber"}
    assert out.count("test mae ↓") == 1
    (line,) = (line for line in err.splitlines() if line.startswith("lossbench: "))
    assert line.startswith("lossbench: failed: lr=-1 loss=mse epochs=1 seeds=1 rates=[0] (and 1 more): The 'lr' param")
    values = [r.return_value for r in returns[0]]  # Hydra's own sweeper would end at a failed one
    assert [math.isnan(v) for v in values] == [True, True, False, False]


def test_batches_after_a_failed_job_run(lossbench, tmp_path, returns):
    code = lossbench("-m", "lr=-1,0.1", "loss=mse,huber", *ONCE, "hydra.sweeper.max_batch_size=2").code
    assert code == 1
    assert [len(batch) for batch in returns] == [2, 2]
    assert [r.hydra_cfg.hydra.job.num for batch in returns for r in batch] == [0, 1, 2, 3]
    assert set(trials(tmp_path)["loss"]) == {"mse", "huber"}


def test_batches_share_one_table(lossbench, fits):
    code, out, _ = lossbench("-m", "loss=mse,huber,mae,tukey", *ONCE, "hydra.sweeper.max_batch_size=2")
    assert (code, len(fits)) == (0, 2)
    assert "1 seed, 4 trials" in out


def test_an_interpolation_that_leads_nowhere_is_one_jobs_failure(lossbench, tmp_path):
    """Its overrides were read for the message, which raised again, inside of Hydra."""
    code, _, err = lossbench("-m", "loss=mse", "epochs=1,${nosuch}", "seeds=1", "rates=[0]")
    assert code == 1
    assert "lossbench: failed: loss=mse epochs=" in err
    assert err.endswith(": epochs: Interpolation key 'nosuch' not found\n")
    assert len(trials(tmp_path)) == 1


def test_a_bug_fails_the_jobs_and_is_named(lossbench, monkeypatch):
    monkeypatch.setattr("lossbench.study.api.run_with_boards", lambda *_: 1 / 0)
    code, _, err = lossbench("-m", "loss=mse,huber", *ONCE)
    assert (code, err) == (3, "lossbench: ZeroDivisionError: division by zero (--debug shows where)\n")


def test_a_folder_that_cannot_be_written_fails_its_job_only(lossbench, tmp_path):
    (tmp_path / "file").write_text("here")
    code, _, err = lossbench("-m", "output=file/x,results", "loss=mse", *ONCE)
    assert code == 1
    assert "Cannot write file/x" in err
    assert len(trials(tmp_path)) == 1


def test_ctrl_c_ends_the_sweep_as_it_came(lossbench, monkeypatch):
    class Stopped(KeyboardInterrupt):
        code = 143

    def stop(*_):
        raise Stopped("stopped with 3 of 4 trials on record")

    monkeypatch.setattr("lossbench.study.api.run_with_boards", stop)
    assert lossbench("-m", "loss=mse,huber", *ONCE) == (143, "", "lossbench: stopped with 3 of 4 trials on record\n")


def test_equal_jobs_count_once(lossbench, fits):
    command = ("epochs=1", "rates=[0]")
    code, out, _ = lossbench("-m", "loss=mse,mse", "seeds=[0],[0,1]", *command)
    assert (code, len(fits)) == (0, 1)
    assert "2 seeds, 2 trials" in out
    assert out == lossbench("loss=mse", "seeds=[0,1]", *command).out


def test_a_loss_that_cannot_take_the_data_is_skipped(lossbench, tmp_path):
    rates = ("epochs=1", "seeds=1", "rates=[0.2]", "corruption=symmetric_outliers")
    code, out, _ = lossbench("-m", "loss=msle,mse", *rates)
    assert code == 0
    assert set(trials(tmp_path)["status"]) == {"finished", "skipped"}
    assert "1 of 1 skipped, msle at corruption rate 0.2: " in out


@pytest.fixture
def fresh_store(monkeypatch):
    """Hydra's store outlives a test's own losses, and a glob would find them."""
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", {name: node for name, node in store.repo.items() if name not in GROUPS})


@pytest.mark.usefixtures("fresh_store")
class TestSkips:
    """What belongs to a sweep's nature is skipped with its reason."""

    def test_every_loss_there_is(self, lossbench, tmp_path, fits, monkeypatch):
        """`glob(*)` matches presets, losses of other tasks and `external`, but no node of ours.

        Of a small registry: tests/stack trains every loss there is.
        """
        fitting, others = {"mse", "huber", "gaussian_nll", "cosine_similarity"}, {"bce", "cross_entropy", "giou"}
        few = {name: losses.entries()[name] for name in (*fitting, *others, "trimmed_mae", "external")}
        monkeypatch.setattr(losses, "_entries", few)
        code, _, err = lossbench("-m", "loss=glob(*)", *ONCE, "task=regression")
        assert code == 0, err
        found = trials(tmp_path)
        assert set(found["loss"]) == fitting | {"trimmed_mae", "trimmed_mae(cut=6.0)"}
        assert set(found["status"]) == {"finished", "skipped"}
        assert set(found["loss"][found["status"] == "skipped"]) == {"cosine_similarity"}  # no direction in one output
        assert len(fits) == found["head"][found["status"] == "finished"].nunique()  # one for all that can share one
        assert "Skipped, for another task: bce, cross_entropy, giou." in err
        assert "Skipped, needs a value: external (loss.target)." in err

    def test_weightings_too(self, lossbench, tmp_path):
        once = ("epochs=0.1", "seeds=1", "rates=[0]")
        code, _, err = lossbench("-m", "task=binary", "loss=dice,bce", "weighting=glob(*)", *once)
        assert code == 0
        by_labels = {"balanced", "inverse_sqrt", "effective_number", "pos_weight", "deferred"}
        by_losses = {"focal", "ghm", "trimmed", "self_paced"}
        assert set(trials(tmp_path)["weighting"]) == {"none"} | by_labels | by_losses
        assert "Skipped, the data come without weights: sample." in err
        assert "Skipped, needs a value: classes (weighting.weights)." in err
        assert "Skipped, for another task: irls" in err
        assert ": dice + balanced, dice + deferred, " in err

    def test_of_many_not_all_are_named(self):
        from lossbench.errors import MAX_NAMES, Incompatible, describe_skipped

        many = [Incompatible("?", f"loss{i}", "for another task") for i in range(MAX_NAMES + 5)]
        (line,) = describe_skipped([*many, many[0]])
        assert line.endswith(f"loss{MAX_NAMES - 1} and 5 more.")
        assert describe_skipped([Incompatible("They do not fit.")]) == ["Skipped: They do not fit."]

    def test_if_nothing_is_left_it_is_bad_input(self, lossbench, tmp_path):
        code, out, err = lossbench("-m", "loss=bce,arcface")
        assert (code, out) == (2, "")
        assert err.splitlines() == [
            "Skipped, for another task: bce, arcface.",
            "lossbench: none of the 2 jobs can be run, see above.",
        ]
        assert list(tmp_path.iterdir()) == []


class TestOtherSweepers:
    """A sweeper that is not Hydra's own has a policy for failures: it is given them."""

    def test_values_come_one_by_one(self, lossbench, tmp_path, patient):
        code, out, err = lossbench("-m", "loss=mse,huber", *ONCE, patient)
        assert code == 0, err
        recorded = trials(tmp_path).set_index("loss")["validation/mae/last"]
        assert [r.return_value for r in Patient.seen] == [recorded["mse"], recorded["huber"]]
        assert "1 seed, 2 trials" in out

    def test_failed_and_skipped_jobs_raise(self, lossbench, patient):
        code, _, err = lossbench("-m", "loss=mse,bce", "lr=0.1,-1", *ONCE, patient)
        assert code == 1
        assert "failed: loss=mse lr=-1" in err
        assert "Skipped, for another task: bce." in err
        statuses = [r.status for r in Patient.seen]
        assert statuses == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.FAILED, JobStatus.FAILED]

    def test_one_that_gives_up_leaves_the_table(self, lossbench, patient, monkeypatch):
        sweep = Patient.sweep

        def reads(self, arguments):
            sweep(self, arguments)
            return [r.return_value for r in Patient.seen]

        monkeypatch.setattr(Patient, "sweep", reads)
        code, out, err = lossbench("-m", "loss=mse", "lr=0.1,-1", *ONCE, patient)
        assert code == 1, err
        assert "1 seed, 1 trial" in out
        assert "failed: loss=mse lr=-1" in err


class TestOtherLaunchers:
    """`hydra/launcher=`: each job trains by itself, and shows its own table."""

    def test_the_basic_one_gives_the_same_records(self, lossbench, tmp_path, fits, returns):
        command = ("-m", "loss=mse,huber", "model=mlp,linear", "epochs=1", "seeds=2", "rates=[0,0.2]")
        ours = lossbench(*command, "output=ours")
        others = lossbench(*command, "output=others", "hydra/launcher=basic")
        assert (ours.code, others.code) == (0, 0)
        assert len(fits) == 2 + 4
        assert (ours.out.count("test mae ↓"), others.out.count("test mae ↓")) == (1, 4)
        one, other = (
            trials(tmp_path / name).sort_values("trial").reset_index(drop=True) for name in ("ours", "others")
        )
        assert one["trial"].tolist() == other["trial"].tolist()
        column = "validation/mae/last"
        pd.testing.assert_series_equal(one[column], other[column], rtol=1e-3)  # float32 in stacks of other sizes
        values = [[r.return_value for r in batch] for batch in returns]
        assert values[0] == pytest.approx(values[1], rel=1e-3)

    def test_failed_and_skipped_jobs_stop_nothing(self, lossbench, tmp_path):
        code, out, err = lossbench("-m", "loss=bce,mse", "lr=-1,0.1", *ONCE, "hydra/launcher=basic")
        assert code == 1
        assert len(trials(tmp_path)) == 1
        assert out.count("test mae ↓") == 1
        assert "Skipped, for another task: bce." in err
        assert "failed: loss=mse lr=-1" in err

    def test_json_is_one_document(self, lossbench):
        import json

        code, out, _ = lossbench("-m", "loss=mse,huber", *ONCE, "hydra/launcher=basic", "--json")
        assert (code, [s["loss"] for s in json.loads(out)["summaries"]]) == (0, ["huber", "mse"])

    def test_jobs_can_be_sent_to_other_processes(self):
        jobs = Jobs(["loss=mse"], OutputMode.QUIET)
        sent = cloudpickle.loads(cloudpickle.dumps(jobs))
        assert (sent.arguments, sent.mode, sent.jobs, sent.elsewhere) == (["loss=mse"], OutputMode.QUIET, [], True)
        assert (jobs.sent, jobs.elsewhere) == (True, False)

    @pytest.mark.slow
    def test_joblib(self, process, tmp_path):
        """In other processes, which load the plug-ins anew. What fails stops no other, and the exit code tells.

        Not forked as other commands are: joblib's workers end with the interpreter, or after five minutes.
        """
        (tmp_path / "own.py").write_text(OWN)
        own = ("plugins=[own.py]", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
        done = process("-m", "lossbench", "-m", *own, *ONCE, "loss=mse,doubled,bce", "lr=-1,0.1")
        assert done.returncode == 2, done.stderr
        assert "lossbench: The 'lr' parameter" in done.stderr
        assert set(trials(tmp_path)["loss"]) == {"mse", "doubled"}
        assert done.stdout.count("test mae ↓") == 2
        assert "Skipped, for another task: bce." in done.stderr


def test_the_launcher_is_for_our_own_command(monkeypatch):
    from types import SimpleNamespace

    from lossbench.cli.hydra.launcher import launch
    from lossbench.errors import InvalidValue

    with pytest.raises(InvalidValue, match="use basic here"):
        launch(SimpleNamespace(task_function=print, config=None), [[]], 0)


def test_the_plugin_imports_nothing_heavy(process):
    """Hydra imports it in every application of the environment."""
    code = (
        "import sys; import hydra_plugins.lossbench_launcher; "
        "sys.exit(str(sorted({'lossbench', 'torch', 'pandas', 'numpy'} & sys.modules.keys())))"
    )
    assert process("-c", code).stderr.strip() == "[]"
