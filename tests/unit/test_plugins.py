"""Classes of files and modules as choices."""

import pickle
import sys

import pytest

from lossbench import plugins, registry
from lossbench.config.resolve import parse_plugins
from lossbench.errors import InvalidValue
from lossbench.registry import NameClash

HEAD = """
from dataclasses import dataclass

import lossbench
from lossbench import Encoding, Loss, Space
from lossbench.interfaces import Corruption, Metric, Model
from lossbench.losses import Huber
"""
LOSS = """

@dataclass(frozen=True)
class {name}(Loss):
    tasks, space, encoding = ("regression",), Space.VALUE, Encoding.VALUE
    power: float = 2.0

    def __call__(self, prediction, target):
        return ((prediction - target).abs() ** self.power).mean(-1)
"""
FUNCTION = """

@lossbench.loss(tasks=("regression",), name="called")
def function(prediction, target):
    return (prediction - target).abs().mean(-1)
"""

MINE = HEAD + LOSS.format(name="Mine")


@pytest.fixture
def file(tmp_path, monkeypatch, forgotten):
    """`file(text)` writes it and gives its path."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="own_losses.py"):
        (tmp_path / name).write_text(text)
        return name

    return write


def names():
    return {name for name, entry in registry.losses.entries().items() if not entry.installed}


def test_public_classes_and_decorated_functions_become_choices(file):
    private = LOSS.format(name="_Private")
    named = LOSS.format(name="Other").replace("    tasks", '    name = "renamed"\n    tasks')
    plugins.load([file(HEAD + LOSS.format(name="MyOwn") + private + named + FUNCTION)])
    assert names() == {"my_own", "renamed", "called"}
    assert registry.losses.entries()["my_own"].source == "own_losses.py"
    assert registry.losses.entries()["huber"].source.startswith("lossbench ")
    assert registry.losses.get("my_own", power=3).power == 3.0


def test_other_kinds(file):
    text = """
@dataclass(frozen=True)
class Bias(Metric):
    tasks, higher_is_better, transform = ("regression",), False, "linear"

    def __call__(self, prediction, target):
        return (prediction - target).mean((-1, -2)).abs()
"""
    plugins.load([file(HEAD + text)])
    assert "bias" in registry.metrics.names("regression")
    (plugin,) = plugins.list_loaded()
    assert {kind: found for kind, found in plugins.list_offers(plugin).items() if found} == {"metrics": ["bias"]}


def test_a_file_runs_again_only_when_it_has_changed(file):
    plugins.load([file(MINE)])
    kind = registry.losses.find("mine")
    plugins.load(["own_losses.py"])
    assert registry.losses.find("mine") is kind
    plugins.load([file(HEAD + LOSS.format(name="Yours"))])
    assert names() == {"yours"}


def test_a_worker_runs_what_its_parent_has_run(file, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])  # "" is this folder: pytest-xdist's workers have it
    plugins.load([file(MINE)])
    sent = pickle.dumps((plugins.list_loaded(), registry.losses.get("mine", power=3)))
    file("this is no Python any more")
    del sys.modules["own_losses"]
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(sent)
    (plugin,) = plugins.list_loaded()
    plugins.register_plugin(plugin)
    assert pickle.loads(sent)[1] == registry.losses.get("mine", power=3)


def test_a_name_that_a_module_has_is_not_taken_from_it(file):
    json = sys.modules["json"]
    plugins.load([file(MINE, "json.py")])
    assert sys.modules["json"] is json
    assert pickle.loads(pickle.dumps(registry.losses.get("mine"))) == registry.losses.get("mine")
    assert plugins.find_plugin("json.py").module == plugins.find_plugin("json.py").module != "json"


def test_a_module_of_this_folder(file):
    file(MINE, "a_module_here.py")
    plugins.load(["a_module_here"])
    assert names() == {"mine"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n1 / 0", r"'own_losses\.py' cannot be imported: ZeroDivisionError: .* \(own_losses\.py, line 2\)$"),
        ("\n(", r"'own_losses\.py' cannot be imported: SyntaxError: .* \(own_losses\.py, line 2\)$"),
        ("import not_there_at_all", r"ModuleNotFoundError: .*'not_there_at_all' \(own_losses\.py, line 1\)$"),
        ("x = 1", r"own_losses\.py defines nothing to choose: .*@lossbench\.loss\.$"),
        ("from lossbench.losses import *", r"own_losses\.py defines nothing to choose: "),
        (MINE.replace("__call__", "forward"), r"defines nothing .* Mine lacks __call__\.$"),
        (MINE.replace("@dataclass(frozen=True)", ""), r"Mine of own_losses\.py must be a data"),
        (MINE.replace("space, encoding =", "other, more ="), "must declare space, encoding"),
        (MINE.replace('("regression",)', '"binary"'), r"tasks as a tuple, \('binary',\)\. Got"),
        (MINE.replace("power", "weight"), "has a field called 'weight': that is reserved"),
        (HEAD + FUNCTION.replace(", target", ""), r"takes \(prediction, target, \.\.\.\)\. .* \(own_losses\.py, l"),
    ],
)
def test_files_that_cannot_be_used(text, message, file):
    with pytest.raises(InvalidValue, match=message):
        plugins.load([file(text)])
    assert plugins.list_loaded() == ()


def test_a_clash_names_both(file):
    with pytest.raises(NameClash, match=r"'mse' of own_losses\.py clashes with lossbench\.losses\.regression\.MSE of"):
        plugins.load([file(HEAD + LOSS.format(name="MSE"))])


def test_places_that_do_not_exist(file):
    with pytest.raises(InvalidValue, match=r"There is no file 'nowhere\.py' in /"):
        plugins.load(["nowhere.py"])
    with pytest.raises(InvalidValue, match="'no_such_module_here' cannot be imported: ModuleNotFoundError"):
        plugins.load(["no_such_module_here"])


def test_the_setting():
    assert parse_plugins(None) == []
    assert parse_plugins("a.py") == parse_plugins(["a.py"]) == ["a.py"]
    for odd in ({"a": 1}, 3, [1], [""]):
        with pytest.raises(InvalidValue, match="plugins must be a list of files and modules"):
            parse_plugins(odd)
