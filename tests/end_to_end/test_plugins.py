"""`plugins=[my_losses.py]`: losses of a file, from the command line; and `lossbench plugins`."""

import json
import re

import pytest
from commands import run_command

from tests.end_to_end.conftest import ONCE, trials

FILE = """
from dataclasses import dataclass

from lossbench import Encoding, Loss, Space


def distance(error, power):
    return error.abs() ** power


class _Regression(Loss):
    tasks, space, encoding = ("regression",), Space.VALUE, Encoding.VALUE


@dataclass(frozen=True)
class Mine(_Regression):
    power: float = 1.5

    def __call__(self, prediction, target):
        return distance(prediction - target, self.power).mean(-1)


@dataclass(frozen=True)
class Other(_Regression):
    def __call__(self, prediction, target):
        return (prediction - target).abs().mean(-1)
"""
pytestmark = pytest.mark.usefixtures("forgotten")
PLUGINS = "plugins=[own_losses.py]"
BOTH = ("task=regression", "model=linear", *ONCE, PLUGINS)


@pytest.fixture
def edit(tmp_path):
    """Writes the file, with one thing replaced by another."""

    def write(old="", new=""):
        assert old in FILE
        (tmp_path / "own_losses.py").write_text(FILE.replace(old, new))

    write()
    return write


def trained(said):
    found = re.search(r"Trained (\d+) trial", said.err)
    assert said.code == 0, said.err
    return int(found[1]) if found else 0


@pytest.mark.slow
def test_an_edit_trains_only_what_it_changes(lossbench, edit):
    command = (*BOTH, "losses=[mse,mine,{mine:{power:2}},other]")
    assert trained(lossbench(*command)) == 4
    assert trained(lossbench(*command)) == 0
    edit("return (prediction - target).abs().mean(-1)", "return 2 * (prediction - target).abs().mean(-1)")
    assert trained(lossbench(*command)) == 1
    edit("return error.abs() ** power", "return 2 * error.abs() ** power")
    said = lossbench(*command)
    assert trained(said) == 2  # what it changes; the other one as it was at first is on record
    assert "mine (power=2.0)" in said.out


def test_one_loss_with_fields_and_a_sweep(lossbench, edit, tmp_path):
    assert trained(lossbench(*BOTH, "loss=mine", "loss.power=2")) == 1
    assert trained(lossbench("-m", *BOTH, "loss=mine,other,mae,mse")) == 4
    assert set(trials(tmp_path)["loss"]) == {"mine(power=2.0)", "mine", "other", "mae", "mse"}


@pytest.mark.slow
def test_all_of_a_task_in_worker_processes(lossbench, edit, tmp_path):
    said = lossbench(*BOTH[:2], "epochs=1", "rates=[0]", "seeds=8", PLUGINS, "workers=2", "losses=[mine,other]")
    assert trained(said) == 16
    assert "worker process" in said.err
    assert set(trials(tmp_path)["status"]) == {"finished"}


@pytest.mark.parametrize("by", ["preset", "file"])
def test_presets_and_configuration_files_name_plugins(by, lossbench, edit, tmp_path):
    rest = "plugins: [own_losses.py]\nseeds: 1\nrates: [0.0]\nepochs: 1.0\n"
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    head = "# @package _global_\ndefaults:\n  - override /loss: mine\n"
    (tmp_path / "own" / "experiment" / "study.yaml").write_text(head + rest)
    (tmp_path / "own" / "study.yaml").write_text("defaults:\n  - config\n  - override loss: mine\n  - _self_\n" + rest)
    asked = ["experiment=study"] if by == "preset" else ["--config-name", "study"]
    said = lossbench("--config-dir", "own", *asked, "model=linear")
    assert trained(said) == 1
    assert "mine" in said.out


def test_lists_and_descriptions(lossbench, edit):
    listed = json.loads(lossbench("losses", "--task", "regression", PLUGINS, "--json").out)
    assert {"mine", "other", "mse"} <= {loss["name"] for loss in listed}
    said = lossbench("describe", "mine", PLUGINS)
    assert "lossbench 'plugins=[own_losses.py]' task=regression loss=mine" in said.out
    assert lossbench("check", "mine", "loss.power=2", PLUGINS, "--quiet").code == 1  # it broadcasts
    assert lossbench("plot", "mine", PLUGINS, "--output", "mine.svg").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plugins=[nowhere.py]"], "There is no file 'nowhere.py'"),
        (["plugins={a:2}"], "plugins must be a list of files and modules, as in 'plugins=[my_losses.py,my_package"),
        (["-m", "plugins=[a.py],[b.py]"], "plugins is one list for all jobs"),
        (["plugins=[own_broken.py]"], "'own_broken.py' cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_is_one_message(arguments, message, lossbench, tmp_path):
    (tmp_path / "own_broken.py").write_text("1 / 0\n")
    said = lossbench("loss=mse", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert message in said.err


def test_what_is_installed(lossbench, edit):
    said = lossbench("plugins", PLUGINS)
    assert "losses: mine, other" in said.out
    assert "Built in: " in said.out
    found = json.loads(lossbench("plugins", PLUGINS, "--json").out)
    assert found["built_in"]["losses"] > 100
    own = found["plugins"][-1]
    assert own["place"].endswith("/own_losses.py")
    assert (own["name"], own["offers"], own["problems"]) == ("own_losses.py", {"losses": ["mine", "other"]}, [])
    assert lossbench("plugins", "everything").code == 2


PACKAGE = {
    "own_package.py": FILE,
    "own_broken.py": "import no_such_package\n",
    "own_package-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: own-package\nVersion: 1.2\n",
    "own_package-1.2.dist-info/entry_points.txt": (
        "[lossbench.losses]\nmine = own_package:Mine\nbroken = own_broken\n"
        "[lossbench.loss]\nother = own_package:Other\n"
    ),
}


@pytest.mark.slow
def test_a_package_that_fails_in_part_is_told(tmp_path):
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = run_command(tmp_path, "-m", "lossbench", "plugins", "--json")
    assert done.returncode == 1, done.stderr
    (own,) = [p for p in json.loads(done.stdout)["plugins"] if p["name"] == "own-package"]
    assert (own["version"], own["place"], own["editable"]) == ("1.2", str(tmp_path), False)
    assert own["offers"] == {"losses": ["mine"]}
    broken, strange = own["problems"]
    assert (broken["kind"], broken["name"]) == ("losses", "broken")
    assert broken["reason"] == "ModuleNotFoundError: No module named 'no_such_package'"
    assert "Unknown group 'lossbench.loss'. Did you mean 'lossbench.losses'?" in strange["reason"]
    shown = run_command(tmp_path, "-m", "lossbench", "plugins")
    assert "failed: losses: broken: ModuleNotFoundError" in " ".join(shown.stdout.split())


DEEDS = {
    "return prediction.relu() if missing else 0": (
        "failed",
        "Bad raises NameError: name 'missing' is not defined (own_",
    ),
    "raise RuntimeError('no pixels')": ("failed", "Bad raises RuntimeError: no pixels (own_losses.py, line 12)"),
    "return self.of(prediction)": ("failed", "Bad raises AttributeError: 'Bad' object has no attribute 'of' (own_"),
    "return (prediction - target).abs() * float('nan')": (
        "failed",
        "Bad must return one value per example, shape [12]",
    ),
    "return (prediction - target).mean(-1) * float('nan')": (
        "diverged",
        "the loss is nan at step 0, before anything is",
    ),
    "return (prediction - target).abs().mean(-1) / 0": ("diverged", "the loss is inf at step 0, before anything is"),
    "return (prediction * 0).sqrt().mean(-1)": ("diverged", "is not finite at step 0, before anything is learned"),
    "return (prediction - target).mean()": ("failed", "Bad must return one value per example, shape [12]"),
    "return (prediction - target).mean(-1).repeat(2)": ("failed", "Bad must return one value per example, shape [12]"),
    "return (prediction.detach() - target).mean(-1)": ("failed", "Bad returned a tensor without a gradient: it is"),
    "return target[..., 0] * 0 + prediction.mean().item()": (
        "failed",
        "Bad returned a tensor without a gradient: it is",
    ),
    "return torch.as_tensor(prediction.numpy()[..., 0])": ("failed", "Bad raises RuntimeError: Can't call numpy()"),
    "target -= prediction; return target.abs().mean(-1)": ("failed", "Bad changes its target in place."),
    "return prediction.clamp_(0).mean(-1)": ("failed", "Bad changes its prediction in place."),
    "return prediction.mean(-1).to('meta')": ("failed", "Bad was given tensors on cpu and returned one on meta."),
    "return target.to('nowhere')": ("failed", "Bad raises RuntimeError: "),
    "return 0.3": ("failed", "Bad must return a tensor. Got float instead."),
    "pass": ("failed", "Bad must return a tensor. Got NoneType instead."),
    "return prediction.mean(-1) * torch.rand(())": ("failed", "Bad gives another value when it is called again with"),
    "return (prediction - target).abs().mean(-1) / target.abs().max().item()": ("finished", ""),
}
"""What a loss may do, what becomes of it, and what is said."""
BAD = """
from dataclasses import dataclass

import torch

from lossbench import Encoding, Loss, Space

@dataclass(frozen=True)
class Bad(Loss):
    tasks, space, encoding = ("regression",), Space.VALUE, Encoding.VALUE
    def __call__(self, prediction, target):
        {deed}
"""


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_loss_does_wrong_is_told_and_the_others_go_on(deed, lossbench, tmp_path):
    (tmp_path / "own_losses.py").write_text(BAD.format(deed=deed))
    said = lossbench(*BOTH, "losses=[bad,mse]")
    rows = trials(tmp_path).set_index("loss")
    status, reason = DEEDS[deed]
    assert rows["status"].to_dict() == {"bad": status, "mse": "finished"}
    assert reason in (rows["reason"]["bad"] or "")
    assert reason in " ".join(said.out.split())
    assert said.code == (status == "failed")


def test_a_wrong_signature_is_told(lossbench, tmp_path):
    text = BAD.format(deed="return prediction.mean(-1)").replace("prediction, target)", "prediction)")
    (tmp_path / "own_losses.py").write_text(text)
    said = lossbench(*BOTH, "losses=[bad,mse]")
    told = "Bad raises TypeError: Bad.__call__() takes 2 positional arguments but 3 were given"
    assert told in " ".join(said.out.split())
    assert said.code == 1
