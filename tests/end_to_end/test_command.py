"""The command itself: help, version, lists, Hydra's own options, stopping, pipes."""

import shlex
import signal
import subprocess
import sys

import pytest
from rich.cells import cell_len
from waiting import PATIENCE

from lossbench.cli.main import HELP
from lossbench.registry import ALL
from tests.end_to_end.conftest import ONCE, trials

TASKS = ("binary", "multiclass", "regression")


@pytest.mark.parametrize("line", ["--help", "-h", "losses --help", "loss=mse -h"])
def test_help(lossbench, line):
    assert lossbench(*line.split()) == (0, HELP, "")


def test_version(lossbench):
    from importlib.metadata import version

    assert lossbench("--version") == (0, f"lossbench {version('lossbench')}\n", "")


def test_help_is_true():
    """Every setting that it names exists, and every setting is named."""
    from dataclasses import fields

    from lossbench.config.schema import Schema

    named = {word.removesuffix("=").removesuffix(".*") for word in HELP.split() if word.endswith(("=", ".*"))}
    assert named == {f.name for f in fields(Schema)}
    assert all(verb in HELP for verb in ALL)


def test_help_and_version_import_nothing_heavy(process):
    for option in ("--help", "--version"):
        code = (
            f"import sys; from lossbench.cli import main; main(['{option}']); "
            "sys.exit(str(sorted({'torch', 'hydra', 'omegaconf', 'numpy', 'pandas', 'rich'} & sys.modules.keys())))"
        )
        assert process("-c", code).stderr.strip() == "[]"


NO_LIGHTNING = """
import sys
from lossbench.cli import main
code = main(["--cfg", "job"])
sys.exit(code or str(sorted({"pytorch_lightning", "torchvision", "torchmetrics"} & sys.modules.keys())))
"""


def test_configuration_needs_no_lightning_and_a_closed_pipe_is_no_error(tmp_path):
    """Both of one process, as it takes seconds to import the rest."""
    done = piped(tmp_path, "-c", NO_LIGHTNING)
    assert (done.stdout, done.stderr) == ("1\n", "[]\n")  # the code for a message


def test_a_closed_pipe_is_no_error(tmp_path):
    done = piped(tmp_path, "-m", "lossbench", "losses")
    assert (done.stdout, done.stderr) == ("0\n", "")


def piped(folder, *arguments):
    """Run Python with its output in a pipe whose other end has closed; `stdout` is the exit code."""
    command = f"{shlex.join([sys.executable, *arguments])} | true; echo ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=True
    )


@pytest.mark.parametrize("verb", sorted(ALL))
@pytest.mark.parametrize("task", ["", *TASKS])
def test_lists_name_everything_that_fits_in_100_columns(lossbench, verb, task):
    code, out, err = lossbench(verb, *([task] if task else []))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [n for n in ALL[verb].names(task or None) if not any(line.split()[:1] == [n] for line in lines)] == []
    assert all(cell_len(line) <= 100 for line in lines)
    assert "…" not in out
    assert "``" not in out
    assert ":math:" not in out


def test_lists_show_fields_and_where_they_come_from(lossbench):
    out = lossbench("losses", "regression").out
    assert "delta=1.0" in out
    assert "target=?" in out
    assert "tasks" not in out.splitlines()[0]
    assert "tasks" in lossbench("losses").out.splitlines()[0]


def test_columns_sets_the_width(lossbench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert max(map(cell_len, lossbench("losses").out.splitlines())) > 100


def test_tables_fit_in_100_columns(lossbench):
    out = lossbench("losses=[mse,{huber:{delta:2}}]", "epochs=1", "seeds=1", "rates=[0,0.1]").out
    assert all(cell_len(x) <= 100 for x in out.splitlines() if not x.startswith(("Records", "Curves")))


def test_a_broken_plugin_is_reported_and_stops_nothing(lossbench, monkeypatch):
    from lossbench.registry import Problem, losses

    problem = Problem("lossbench.losses", "nice_loss", "some-package 1.0", "ImportError: no")
    monkeypatch.setattr(losses, "problems", [problem])
    code, out, err = lossbench("losses")
    assert code == 0
    assert "huber" in out
    assert err == "some-package 1.0 failed to load (lossbench.losses: nice_loss): ImportError: no\n"
    assert "some-package 1.0 offers it and failed to load: ImportError: no" in lossbench("loss=nice_loss").err


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--cfg job loss=huber", "delta: 1.0"),
        ("--cfg job --package loss loss=huber", "delta: 1.0"),
        ("--cfg hydra", "sweep:"),
        ("--info defaults", "loss/default/regression"),
        ("--info searchpath", "lossbench.configs"),
        ("--hydra-help", "== Flags =="),
        ("-sc install=bash", "complete -o nospace"),
        ("-sc install=fish", "complete -c"),
    ],
)
def test_options_of_hydra(lossbench, tmp_path, line, part):
    code, out, err = lossbench(*line.split())
    assert (code, err) == (0, "")
    assert part in out
    assert list(tmp_path.iterdir()) == []


def test_completion_offers_losses_and_fields(lossbench, monkeypatch):
    for typed, offered in (("loss=hu", "loss=huber"), ("optimizer.na", "optimizer.name=")):
        monkeypatch.setenv("COMP_LINE", f"lossbench {typed}")
        monkeypatch.setenv("COMP_POINT", str(len(f"lossbench {typed}")))
        assert offered in lossbench("-sc", "query=bash").out.split()


def test_ctrl_c_in_training_is_one_line_and_keeps_what_is_on_record(lossbench, monkeypatch, tmp_path):
    """Lightning catches it, ignores further ones and leaves with sys.exit(1)."""
    assert lossbench(*ONCE).code == 0

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossbench.study.reporters.ProgressBar.on_progress", stop)
    handler = signal.getsignal(signal.SIGINT)
    try:
        code, out, err = lossbench("epochs=1", "seeds=2", "rates=[0]")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "lossbench: stopped. What is on record stays; the same command trains the rest."
    assert len(trials(tmp_path)) == 1


def test_ctrl_c_elsewhere(lossbench, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossbench.cli.hydra.jobs.make_plan", stop)
    assert lossbench("loss=mse").code == 130


def test_the_module_says_no_in_one_line(process, tmp_path):
    done = process("-m", "lossbench", "lr=-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
