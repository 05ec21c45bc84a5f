"""Losses in files and modules that nobody has registered."""

import pickle
import sys

import pytest

from lossbench import registry
from lossbench.check import Status, check_loss
from lossbench.check.loading import is_location, load_losses
from lossbench.errors import InvalidValue, UnknownName
from lossbench.interfaces import Loss
from lossbench.registry import Registry

FILE = '''
from dataclasses import dataclass

import lossbench
from neighbour import power
from lossbench.interfaces.loss import check_same_shape


@dataclass(frozen=True)
class Cubed(lossbench.Loss):
    """The cubed distance."""

    tasks = ("regression",)
    space = lossbench.Space.VALUE
    encoding = lossbench.Encoding.VALUE

    def __call__(self, prediction, target):
        check_same_shape(prediction, target)
        return ((prediction - target).abs() ** power).mean(-1)


@lossbench.loss(tasks="regression")
def doubled(prediction, target, *, factor: float = 2.0):
    """Twice the absolute error, or factor times."""
    check_same_shape(prediction, target)
    return (factor * (prediction - target).abs()).mean(-1)


def plain(prediction, target):
    return (prediction - target).abs().mean(-1)


if __name__ == "__main__":
    raise RuntimeError
'''


@pytest.fixture(autouse=True)
def losses(monkeypatch):
    """Registration goes to an empty registry, and modules are forgotten."""
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    monkeypatch.setattr(registry, "losses", fresh := Registry("losses", "loss", Loss))
    before = set(sys.modules)
    yield fresh
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "neighbour.py").write_text("power = 3\n")
    path = tmp_path / "my_losses.py"
    path.write_text(FILE)
    return path


def test_what_is_a_place():
    assert [is_location(t) for t in ("huber", "a.py", "a.py:B", "a.b:C", "dir/a.py")] == [False, True, True, True, True]


def test_a_class_and_a_function_of_a_file(file, tmp_path):
    (name, kind), *_ = load_losses(f"{file}:Cubed").items()
    assert name == "Cubed"
    assert [r for r in check_loss(kind()) if r.status is Status.FAILED] == []
    assert load_losses(f"{file}:doubled")["doubled"](factor=3.0).factor == 3.0
    assert sorted(load_losses(str(file))) == ["Cubed", "doubled"]
    assert [p.name for p in tmp_path.iterdir() if p.name == "__pycache__"] == []
    assert str(tmp_path) not in sys.path


def test_a_file_hides_no_module(tmp_path):
    path = tmp_path / "json.py"
    path.write_text(FILE.replace("from neighbour import power", "power = 3"))
    json, kind = sys.modules["json"], load_losses(f"{path}:Cubed")["Cubed"]
    assert sys.modules["json"] is json
    assert pickle.loads(pickle.dumps(kind())) == kind()


def test_an_import_path():
    from lossbench.losses import Huber

    assert load_losses("lossbench.losses.regression:Huber") == {"Huber": Huber}
    assert load_losses("lossbench.losses:Huber") == {"Huber": Huber}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (":Cubd", UnknownName, "Did you mean 'Cubed'"),
        (":plain", InvalidValue, r"or a function decorated with @lossbench\.loss\. Got <function plain"),
    ],
)
def test_what_is_no_loss_of_a_file(file, name, error, message):
    with pytest.raises(error, match=message):
        load_losses(f"{file}{name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError: No module named 'nothing_of"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        ("def (", "cannot be imported: SyntaxError"),
        ("x = 1", "defines no loss"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "broken_losses.py"
    path.write_text(text)
    with pytest.raises(InvalidValue, match=message):
        load_losses(str(path))


def test_places_that_do_not_exist(tmp_path):
    with pytest.raises(InvalidValue, match=r"There is no file '.*missing\.py'"):
        load_losses(f"{tmp_path}/missing.py:A")
    with pytest.raises(InvalidValue, match="'no_package_here' cannot be imported"):
        load_losses("no_package_here:A")
