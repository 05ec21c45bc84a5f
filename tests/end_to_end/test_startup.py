"""A command imports no more than it needs: a mistake is answered at once, and lists wait for nothing that trains."""

import subprocess
import sys

import pytest

import lossbench

HEAVY = ("torch", "pytorch_lightning", "torchmetrics", "torchvision", "scipy.stats", "sklearn", "tensorboard", "pandas")
CODE = """
import contextlib, io, sys
from lossbench.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    code = main(sys.argv[2:])
print(code, *sorted(set(sys.argv[1].split(",")) & sys.modules.keys()))
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    settings = {"task": "regression", "losses": ["mse", "huber"], "model": "linear", "seeds": 2, "rates": [0]}
    lossbench.run(**settings, epochs=1, output=folder, progress=False)
    return str(folder)


def run_python(*arguments):
    """Return what a new Python prints: one that is forked from another would have its modules."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def imported():
    """`imported("losses")`: the exit code, and what of `HEAVY` a command has imported."""

    def ask(*arguments):
        code, *names = run_python("-c", CODE, ",".join(HEAVY), *arguments)
        return int(code), set(names)

    return ask


@pytest.mark.parametrize("line", ["epoch=3", "epochs=many", "lr=-1", "optimizer.name=adam", "seeds=[0"])
def test_a_refused_setting_imports_nothing_heavy(imported, line):
    assert imported(line) == (2, set())


@pytest.mark.parametrize("line", ["compare FOLDER", "compare FOLDER --json"])
def test_records_are_compared_without_torch(imported, records, line):
    code, names = imported(*line.replace("FOLDER", records).split())
    assert (code, names) == (0, {"pandas"})


@pytest.mark.parametrize(("line", "code"), [("losses --task binary", 0), ("describe huber", 0), ("describe hubr", 2)])
def test_what_is_registered_is_shown_with_torch_alone(imported, line, code):
    assert imported(*line.split()) == (code, {"torch"})


def test_an_unknown_choice_is_told_with_torch_alone(imported):
    assert imported("loss=hubert") == (2, {"torch"})


def test_importing_the_package_imports_nothing_heavy():
    code = f"import lossbench, sys; print(*(set({HEAVY}) & sys.modules.keys()))"
    assert run_python("-c", code) == []


def test_the_settings_in_the_help_are_those_of_the_schema():
    from lossbench.cli.main import HELP
    from lossbench.config.schema import SETTINGS

    missing = [path for path in SETTINGS if f"{path}=" not in HELP and f"{path.partition('.')[0]}.*" not in HELP]
    assert missing == []
