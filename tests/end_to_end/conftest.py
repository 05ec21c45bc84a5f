"""The command line in this process, in an empty folder of its own."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from waiting import PATIENCE

from lossbench.cli import main
from lossbench.config.protocol import Protocol
from lossbench.config.resolve import ExperimentPlan
from lossbench.runner.reporter import SilentReporter
from lossbench.study.api import run_with_boards

ONCE = ("epochs=1", "seeds=1", "rates=[0]")


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def quiet_loggers():
    """Hydra's --info adds handlers to the root logger and opens it up; both outlive the command."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def lossbench(monkeypatch, tmp_path, capsys, quiet_loggers):
    """`lossbench("loss=huber")`: the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str) -> Said:
        code = main(arguments)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def process(tmp_path):
    """The same in a process of its own: `process("-m", "lossbench", ...)` with this Python."""

    def call(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess:
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COLUMNS")}
        return subprocess.run(
            [python, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return call


def trials(root: Path) -> pd.DataFrame:
    """All trials on record at or below `root`."""
    return pd.concat([pd.read_parquet(p) for p in sorted(root.rglob("trials.parquet"))], ignore_index=True)


def written(root: Path) -> list[str]:
    """Every file and folder below `root`."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*"))


def train(experiments, workers=None, reporter=None):
    """Train experiments as a command does, TensorBoard's files included."""
    asked = ExperimentPlan(tuple(experiments), (), Protocol("quick", 1))
    run_with_boards([asked], reporter or SilentReporter(), workers)
