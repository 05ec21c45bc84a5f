"""What the rooms of the report promise: nothing prints, and TensorBoard's files are written in one place."""

import ast
from pathlib import Path

import pytest

import lossbench.report

ROOT = Path(lossbench.report.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
WRITERS = {"tensorboard/events.py", "tensorboard/boards.py", "tensorboard/writer.py"}
WRITES = {"write_text", "write_bytes", "mkdir", "rename", "unlink", "rmtree", "savez", "to_parquet"}


def calls(module):
    """The names of all functions and methods that a module calls."""
    tree = ast.parse((ROOT / module).read_text("utf-8"))
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in called if isinstance(f, ast.Attribute | ast.Name)}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_prints_nothing_and_writes_nothing(module):
    found = calls(module)
    # only text.py holds a console, which writes into a string
    assert not found & {"print"} or module == "tables/text.py"
    assert "Console" not in found or module == "tables/text.py"
    assert not found & WRITES or module in WRITERS


def test_the_writers_are_known():
    assert {module for module in MODULES if calls(module) & WRITES} == WRITERS
