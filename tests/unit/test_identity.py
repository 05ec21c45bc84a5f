"""An object's identity follows all that it does, and nothing else."""

import functools
import sys
import textwrap
import types

import numpy as np
import pytest
import torch
from torch import nn

from lossbench.identity import Unidentified, identify
from lossbench.interfaces import Loss

SOURCE = """
import torch
SCALE = 2.0

def helper(x):
    return x.abs() * SCALE

def made(power):
    def loss(prediction, target, offset=0.5):
        \"\"\"Words.\"\"\"
        return helper(prediction - target) ** power + offset
    return loss

loss = made(2)

class Module(torch.nn.Module):
    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight
        self.register_buffer("table", torch.arange(3.0))

    def forward(self, prediction, target):
        return helper(prediction - target).mean(-1) * self.weight
"""


@pytest.fixture
def cell(monkeypatch, tmp_path):
    """`cell(old, new)`: the names that a cell defines, with something replaced in it."""
    count = iter(range(1000))

    def run(*replaced):
        text = SOURCE
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"cell_{next(count)}.py"
        path.write_text(textwrap.dedent(text))
        module = types.ModuleType("__main__")
        exec(compile(path.read_text(), str(path), "exec"), vars(module))
        return module

    return run


@pytest.mark.parametrize("name", ["loss", "helper"])
@pytest.mark.parametrize(
    "change", [('"""Words."""', '"""Others."""'), ("import torch\n", "import torch\n# a comment\n\n")]
)
def test_words_and_layout_do_not_count(cell, name, change):
    assert identify(getattr(cell(), name)) == identify(getattr(cell(change), name))


@pytest.mark.parametrize(
    "change",
    [
        ("** power", "* power"),  # its source
        ("offset=0.5", "offset=0.6"),  # a default
        ("made(2)", "made(3)"),  # a value of its closure
        ("SCALE = 2.0", "SCALE = 3.0"),  # a global of a function that it calls
        ("x.abs()", "x.square()"),  # the source of that function
    ],
)
def test_a_function_is_all_that_it_depends_on(cell, change):
    assert identify(cell().loss) != identify(cell(change).loss)


def test_what_it_does_not_use_does_not_count(cell):
    assert identify(cell().helper) == identify(cell(("offset=0.5", "offset=0.6"), ("made(2)", "made(3)")).helper)


def test_a_module_is_its_source_attributes_and_state(cell):
    before = cell().Module()
    assert identify(before) == identify(cell().Module())
    changed = cell().Module()
    changed.table[0] = 1.0
    others = [cell().Module(2.0), changed]
    others.append(cell((".mean(-1)", ".sum(-1)")).Module())
    assert len({identify(before), *map(identify, others)}) == 4


def test_modules_of_installed_packages_are_their_names_and_versions():
    assert identify(nn.HuberLoss(delta=2.0)) == identify(nn.HuberLoss(delta=2.0))
    assert len({identify(x) for x in (nn.HuberLoss(), nn.HuberLoss(delta=2.0), nn.SmoothL1Loss())}) == 3
    assert len({identify(x) for x in (torch.relu, torch.sigmoid, nn.functional.huber_loss, np.log)}) == 4


def test_lambdas_of_one_line_differ():
    first, second = [lambda p, t: (p - t).abs(), lambda p, t: (p - t).square()]
    assert identify(first) != identify(second)
    assert identify(functools.partial(first, 1)) != identify(functools.partial(first, 2))


def test_the_function_behind_a_decorated_loss_counts(cell, forgotten):
    import lossbench

    kinds = [
        lossbench.loss(tasks=("regression",), name=f"mine_{i}")(c.loss)
        for i, c in enumerate([cell(), cell(("** power", "* power"))])
    ]
    assert all(issubclass(kind, Loss) for kind in kinds)
    assert identify(kinds[0]) != identify(kinds[1])


def test_circles_end():
    circle = [1]
    circle.append(circle)
    other = [1, [1]]
    assert identify(circle) != identify(other)


@pytest.mark.slow
def test_the_same_in_another_process(cell, process_identity):
    assert identify(cell().loss) == process_identity


@pytest.fixture
def process_identity(tmp_path):
    import subprocess

    path = tmp_path / "other.py"
    path.write_text(SOURCE + "\nfrom lossbench.identity import identify\nprint(identify(loss))\n")
    return subprocess.run([sys.executable, path], capture_output=True, text=True, check=True).stdout.strip()


def test_without_a_source_there_is_no_identity():
    namespace = {}
    exec("def loss(prediction, target):\n    return prediction", namespace)
    with pytest.raises(Unidentified, match="the source of loss cannot be read"):
        identify(namespace["loss"])
    with pytest.raises(Unidentified, match="nothing tells what object holds"):
        identify(object())


def test_arrays_are_their_content():
    same = [np.arange(3.0), np.arange(3.0), torch.arange(3.0), np.arange(3), np.arange(3.0)[:, None]]
    assert len({identify(x) for x in same}) == 4
