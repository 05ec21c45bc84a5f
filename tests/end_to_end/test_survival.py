"""Sweeps survive kills, Ctrl-C, each other, full disks and workers that die; nothing that was finished is lost."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Command
from hydra import compose, initialize_config_module
from waiting import PATIENCE, wait_until

from lossbench import records
from lossbench import records as files
from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import resolve
from lossbench.report.tensorboard import writer
from lossbench.runner import runner
from lossbench.runner.executors import CannotStart, processes
from lossbench.runner.interrupts import Interrupted
from lossbench.runner.locks import Locks
from lossbench.runner.queue import TrialQueue
from lossbench.seeds import trial_id
from lossbench.training.evaluation import Evaluation
from lossbench.training.run import make_failed_record, run_stack
from tests.end_to_end.conftest import train, trials

STUDY = ("task=regression", "losses=[mse,huber]", "seeds=3", "rates=[0,0.4]", "precision=64", "epochs=100")
ENDLESS = ("task=regression", "loss=mse", "seeds=2", "rates=[0]", "epochs=1000000")
OFTEN = """
from lossbench.losses.regression import MSE
from lossbench.training import checkpoint

checkpoint.SHORTEST_PAUSE, checkpoint.LARGEST_WRITE_SHARE = 0.05, 1.0


class Mine(MSE):
    pass
"""
"""A plug-in, since these run in workers, too: checkpoints come so often that no machine is done before the first."""


@pytest.fixture
def experiments(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    register_choices()

    def make(*overrides):
        with initialize_config_module("lossbench.configs", version_base="1.3"):
            return resolve(compose("config", overrides=["task=regression", *overrides]))

    return make


@pytest.fixture
def started(tmp_path):
    """A command in a process of its own, which goes on and writes checkpoints often: `started("loss=huber")`."""
    (tmp_path / "often.py").write_text(OFTEN)
    running = []

    def start(*arguments):
        running.append(Command(tmp_path, "-m", "lossbench", *arguments, "plugins=[often.py]"))
        return running[-1]

    yield start
    for command in running:
        command.close()


def log(root):
    path = root / "results" / "lossbench.log"
    return path.read_text() if path.exists() else ""


def checkpoints(root):
    return list((root / "results" / ".training").glob("*/*.pt"))


def numbers(root):
    """All metrics on record, by trial."""
    table = trials(root).set_index("trial").sort_index()
    return table[[c for c in table if "/" in c]]


def assert_same(root, other):
    pd.testing.assert_frame_equal(numbers(root), numbers(other), check_exact=True)
    for a in sorted(root.rglob("curves.parquet")):
        (b,) = other.rglob(str(Path(*a.parts[-4:])))
        keys = ["trial", "split", "metric", "step"]
        one, two = (pd.read_parquet(p).astype({"split": str, "metric": str, "trial": str}) for p in (a, b))
        one, two = (t.sort_values(keys)["value"].to_numpy() for t in (one, two))
        np.testing.assert_array_equal(one, two)


def written(root):
    """When each checkpoint was written."""
    return {path: path.stat().st_mtime_ns for path in checkpoints(root)}


@pytest.mark.slow
@pytest.mark.parametrize(("n", "kills"), [(1, 3), (2, 1)])
def test_killed_at_random_moments(n, kills, started, lossbench, tmp_path):
    random = np.random.default_rng(n)
    assert lossbench(*STUDY, f"workers={n}", "output=undisturbed").code == 0
    for _ in range(kills):
        before, old = set(saved(tmp_path)), written(tmp_path)
        running = started(*STUDY, f"workers={n}")
        wait_until(lambda old=old: written(tmp_path).items() - old.items(), "a checkpoint is written", running)
        time.sleep(random.uniform(0, 0.1))
        running.kill()
        assert set(saved(tmp_path)) >= before
    last = lossbench(*STUDY, f"workers={n}")
    assert last.code == 0, last.err
    assert "goes on after step" in log(tmp_path)
    assert_same(tmp_path / "results", tmp_path / "undisturbed")
    assert lossbench(*STUDY).code == 0
    assert not checkpoints(tmp_path)  # what a kill just after the records were saved has left is cleared away


def saved(root):
    return [i for path in root.glob("results/**/trials.parquet") for i in records.find_finished(path.parent)]


@pytest.mark.slow
def test_a_signal_saves_and_says_how_to_go_on(started, tmp_path):
    """The second command goes on where the first was stopped; that one is a Python of its own, from start to end."""
    (tmp_path / "often.py").write_text(OFTEN)
    command = [sys.executable, "-m", "lossbench", *ENDLESS, "workers=1", "plugins=[often.py]"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: written(tmp_path), "a checkpoint is written", process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    old = written(tmp_path)
    running = started(*ENDLESS, "workers=1")
    wait_until(lambda: written(tmp_path).items() - old.items(), "a checkpoint is written", running)
    running.send_signal(signal.SIGTERM)
    done = running.wait()
    assert (process.returncode, done.returncode) == (130, 143)
    for said in (err, done.stderr):
        assert "The same command goes on from there." in said
        assert "Traceback" not in said
    (step,) = re.findall(r"goes on after step (\d+)", log(tmp_path))
    assert int(step) > 0


def test_a_command_with_workers_that_is_stopped_leaves_no_process(started, tmp_path):
    running = started(*ENDLESS, "workers=2")
    wait_until(lambda: checkpoints(tmp_path), "a worker trains", running)
    running.send_signal(signal.SIGTERM)
    assert running.wait().returncode == 143
    wait_until(lambda: not alive(tmp_path), "all its processes have ended")


def test_killed_workers_die_with_their_parent(started, tmp_path):
    running = started(*ENDLESS, "workers=2")
    wait_until(lambda: checkpoints(tmp_path), "a worker trains", running)
    running.kill()
    wait_until(lambda: not alive(tmp_path), "all its processes have ended")


def alive(folder):
    """Processes that work in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink() == folder:
                found.append(path)
        except OSError:  # it has just ended
            continue
    return found


def test_two_processes_share_the_work(started, tmp_path):
    both = [started(*STUDY), started(*STUDY)]
    for done in [running.wait() for running in both]:
        assert done.returncode == 0, done.stderr
    trained = [int(n) for n in re.findall(r"Trained (\d+) trial", log(tmp_path))]
    assert sum(trained) == 12  # none twice
    assert len(trials(tmp_path)) == 12


def test_workers_give_the_same_records(experiments, tmp_path):
    same = ("losses=[mse,gaussian_nll]", "seeds=9", "rates=[0,0.4]", "epochs=2", "precision=64")
    train(experiments(*same, "output=one"), workers=1)
    train(experiments(*same, "output=two"), workers=2)
    one, two = numbers(tmp_path / "one"), numbers(tmp_path / "two")
    pd.testing.assert_frame_equal(one, two, rtol=1e-9)
    assert "in 2 worker processes" in (tmp_path / "two" / "lossbench.log").read_text()


KILLER = """
import os, signal
import torch

def dies(prediction, target):
    os.kill(os.getpid(), signal.SIGKILL)

def kind(prediction, target):
    return (prediction - target).square().mean(-1)
"""


def test_a_trial_that_kills_its_worker_takes_no_other_with_it(experiments, tmp_path, monkeypatch):
    (tmp_path / "killer.py").write_text(KILLER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "DEATHS", 1)
    external = "losses=[mse,{external:{target:killer.dies,batch_level:false}},mae]"
    made = experiments(external, "seeds=1", "rates=[0]", "epochs=1", "evaluations=1")
    train(made, workers=2)
    status = trials(tmp_path).set_index("loss")["status"]
    assert status.pop(next(name for name in status.index if "external" in name)) == "failed"
    assert set(status) == {"finished"}


def test_classes_of_a_notebook_train_in_workers(experiments, tmp_path, monkeypatch):
    """They are sent by value: a worker does not import what runs as `__main__`."""
    from lossbench import registry
    from lossbench.losses.regression import MSE

    kind = type("Mine", (MSE,), {"__module__": "__main__", "tasks": ("regression",)})
    registry.losses.entries()
    monkeypatch.setitem(registry.losses._entries, "mine", registry.Entry("mine", kind, "notebook"))
    register_choices()
    train(experiments("losses=[mine]", "seeds=2", "rates=[0]", "epochs=1"), workers=2)
    assert "in 1 worker process;" in log(tmp_path)
    assert set(trials(tmp_path)["status"]) == {"finished"}
    assert len(trials(tmp_path)) == 2


def test_a_full_disk_is_one_message_and_loses_nothing(experiments, tmp_path, monkeypatch, lossbench):
    made = experiments("loss=mse", "seeds=1", "rates=[0]", "epochs=1")
    train(made)
    before = numbers(tmp_path)

    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write", full)
    code, _, err = lossbench("loss=mse", "seeds=3", "rates=[0]", "epochs=1", "task=regression")
    assert code in (1, 2)
    assert err.count("No space left on device") == 1
    monkeypatch.undo()
    pd.testing.assert_frame_equal(numbers(tmp_path), before)


def test_curves_that_a_kill_prevented_are_written_later(experiments, tmp_path, monkeypatch):
    made = experiments("loss=mse", "seeds=1", "rates=[0]", "epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr(writer, "refresh", lambda *_, **__: writer.WriteResult((), 0))
        train(made)
    assert not list(tmp_path.rglob("*tfevents*"))
    train(made)
    assert sorted(path.parent.name for path in tmp_path.rglob("*tfevents*")) == ["(overview)", "mse"]


def test_workers_are_started_where_they_pay(monkeypatch):
    monkeypatch.setattr(runner, "count_cores", lambda: 8)
    assert runner.choose_n_workers(seconds=1.0) == 1
    assert runner.choose_n_workers(seconds=3600.0) == 8


def test_each_gpu_has_a_name(monkeypatch):
    monkeypatch.setattr(runner.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runner.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert runner.list_gpus() == ["0", "1"]
    assert runner.choose_n_workers(seconds=0.1) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert runner.list_gpus() == ["5", "7"]


def test_trials_of_several_stacks_are_taken_over_apart(experiments, tmp_path):
    """Two locks of a process that has died meanwhile: their trials must not be trained as one stack."""
    made = experiments("losses=[mse,gaussian_nll]", "seeds=2", "rates=[0]", "epochs=1", "precision=64")
    train(made, workers=1)
    wanted = numbers(tmp_path)
    shutil.rmtree(tmp_path / "results")
    locks, queue = Locks(Path("results")), TrialQueue(made)
    held = [locks.acquire([trial_id(t) for t in e.list_trials()]) for e in made]
    assert queue.cut_parts(queue.estimate_sizes(), 1) == 2
    assert queue.take() is None  # another process trains them
    for lock in held:
        lock.release()  # and dies
    assert queue.wait_for_others(lambda: False, lambda n: None)
    assert queue.cut_parts(queue.estimate_sizes(), 1) == 2
    while part := queue.take():
        queue.save(part, run_stack(part.stack))
    queue.close()
    pd.testing.assert_frame_equal(numbers(tmp_path), wanted)


def test_a_trial_that_failed_elsewhere_is_not_waited_for(experiments, monkeypatch):
    made = experiments("loss=mse", "seeds=1", "rates=[0]", "epochs=1")
    queue, (trial,) = TrialQueue(made), made[0].list_trials()
    lock = Locks(Path("results")).acquire([trial_id(trial)])
    queue.cut_parts(queue.estimate_sizes(), 1)
    assert queue.take() is None
    records.save(made[0].folder, [make_failed_record(trial, "it raised")], made[0].to_config())
    lock.release()
    assert not queue.wait_for_others(lambda: False, lambda n: None)


def test_a_worker_that_somebody_stops_is_replaced(experiments, tmp_path, monkeypatch):
    """SIGTERM to one worker only: its part goes on in another process."""
    made = experiments("losses=[mse,mae]", "seeds=4", "rates=[0,0.4]", "epochs=100", "precision=64")
    sent = []

    def hearing(pool, worker, events, hear=processes.ProcessExecutor._receive):
        kind = pool.__dict__.setdefault("heard", [])
        kind.append(worker)
        if len(kind) > 2 and not sent:  # it has told of its progress
            sent.append(os.kill(worker.process.pid, signal.SIGTERM))
        return hear(pool, worker, events)

    monkeypatch.setattr(processes.ProcessExecutor, "_receive", hearing)
    train(made, workers=2)
    assert sent
    assert set(trials(tmp_path)["status"]) == {"finished"}
    assert len(trials(tmp_path)) == 16


@pytest.mark.parametrize("evaluation", [1, 2, 4])
def test_sigterm_during_an_evaluation_saves_as_well(evaluation, experiments, tmp_path, monkeypatch):
    made = experiments("loss=mse", "seeds=2", "rates=[0]", "epochs=4", "evaluations=4", "precision=64")
    times = []

    def evaluate(self, *given, original=Evaluation.evaluate):
        times.append(1)
        if len(times) == evaluation + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *given)

    monkeypatch.setattr(Evaluation, "evaluate", evaluate)
    with pytest.raises(Interrupted) as stopped:
        train(made)
    assert stopped.value.code == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    if evaluation < 4:  # after the last step the rest takes no time, and is done
        assert checkpoints(tmp_path)
    train(made)
    assert set(trials(tmp_path)["status"]) == {"finished"}


def test_a_log_that_cannot_be_written_stops_nothing(experiments, tmp_path):
    (tmp_path / "results" / "lossbench.log").mkdir(parents=True)
    train(experiments("loss=mse", "seeds=1", "rates=[0]", "epochs=1"))
    assert len(trials(tmp_path)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_log_on_a_full_disk_stops_nothing(experiments, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "lossbench.log").symlink_to("/dev/full")
    train(experiments("loss=mse", "seeds=1", "rates=[0]", "epochs=1"))
    assert len(trials(tmp_path)) == 1


def test_what_no_package_offers_is_sent_to_workers(experiments, monkeypatch):
    from lossbench import registry

    made = experiments("loss=mse", "seeds=1", "rates=[0]")
    assert pickle.loads(processes.pickle_registered(made[0].list_trials())) == []
    kind = type("Mine", (registry.metrics.find("mae"),), {"__module__": "__main__"})
    monkeypatch.setitem(registry.metrics._entries, "mae", registry.Entry("mae", kind, "notebook"))
    ((group, entry),) = pickle.loads(processes.pickle_registered(made[0].list_trials()))
    assert (group, entry.name) == ("metrics", "mae")
    kind.cannot = threading.Lock()
    with pytest.raises(CannotStart, match="mae cannot be pickled: "):
        processes.pickle_registered(made[0].list_trials())
