"""An object's identity follows all that it does, and nothing else."""

import functools
import importlib
import os
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
def cell(tmp_path):
    """`cell(old, new)`: the names that a cell defines, with something replaced in it."""
    count = iter(range(1000))

    def run(*replaced, text=SOURCE):
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


IMPORTS = """
import abc, collections, dataclasses, enum, functools, logging, typing
from pathlib import Path
import numpy as np
import torch
from torch import nn
"""
MODULE = """
class Module(nn.Module):
    def __init__(self, scale):
        super().__init__()
        {}
    def forward(self, prediction, target):
        return prediction - target
loss = Module({})
"""
CHANGES = {
    "a decorator's body": (
        """
def twice(function):
    @functools.wraps(function)
    def inner(p, t):
        return 2 * function(p, t)
    return inner
@twice
def loss(p, t):
    return p - t
""",
        "2 *",
        "3 *",
    ),
    "inside a cache": ("@functools.lru_cache\ndef loss(p, t):\n    return p - t", "p - t", "p + t"),
    "inside a library's decorator": ("@torch.enable_grad()\ndef loss(p, t):\n    return p - t", "p - t", "p + t"),
    "inside vmap": ("def one(p, t):\n    return p - t\nloss = torch.vmap(one)", "p - t", "p + t"),
    "vmap's axes": ("def one(p, t):\n    return p - t\nloss = torch.vmap(one, in_dims=0)", "dims=0", "dims=1"),
    "an enum's value": (
        "class E(enum.Enum):\n    A = 1.0\nCHOSEN = E.A\ndef loss(p, t):\n    return CHOSEN.value * (p - t)",
        "A = 1.0",
        "A = 2.0",
    ),
    "a text enum's value": (
        "class E(str, enum.Enum):\n    A = 'a'\ndef loss(p, t, e=E.A):\n    return p",
        "'a'",
        "'b'",
    ),
    "a called tuple": (
        "class L(typing.NamedTuple):\n    d: float = 1.0\n    def __call__(self, p, t):\n        return p - t\n"
        "loss = L()",
        "p - t",
        "p + t",
    ),
    "a called mapping": (
        "class L(dict):\n    def __call__(self, p, t):\n        return p - t\nloss = L()",
        "p - t",
        "p + t",
    ),
    "a missing key's value": (
        "D = collections.defaultdict(lambda: 1.0)\ndef loss(p, t):\n    return D[0] * (p - t)",
        "1.0",
        "2.0",
    ),
    "NumPy's function": ("reduce = np.mean\ndef loss(p, t):\n    return reduce(p - t)", "np.mean", "np.sum"),
    "NumPy's ufunc": ("f = np.log\ndef loss(p, t):\n    return f(p - t)", "np.log", "np.exp"),
    "a bound method of a dict": ("get = {1: 2.0}.get\ndef loss(p, t):\n    return get(1) * p", "2.0", "3.0"),
    "a tensor's method": ("f = torch.Tensor.abs\ndef loss(p, t):\n    return f(p - t)", ".abs", ".square"),
    "a dtype": ("D = torch.float32\ndef loss(p, t):\n    return (p - t).to(D)", "float32", "float64"),
    "a path": ("D = Path('a')\ndef loss(p, t):\n    return p - t + len(str(D))", "'a'", "'ab'"),
    "beside a logger": (
        "log = logging.getLogger('x')\ndef loss(p, t):\n    log.info('y')\n    return p - t",
        "p - t",
        "p + t",
    ),
    "a private attribute": (MODULE.format("self._scale = scale", "1.0"), "Module(1.0)", "Module(2.0)"),
    "a frozen parameter": (
        MODULE.format("self.w = nn.Parameter(torch.ones(1), requires_grad=scale)", "True"),
        "Module(True)",
        "Module(False)",
    ),
    "a buffer that is not saved": (
        MODULE.format("self.register_buffer('w', torch.ones(1) * scale, persistent=False)", "1"),
        "Module(1)",
        "Module(2)",
    ),
    "a hook": (
        MODULE.format("self.scale = scale", "1") + "loss.register_forward_hook(lambda m, given, out: out * 2)",
        "out * 2",
        "out * 3",
    ),
    "extra state": (
        "class M(nn.Module):\n    d = 1\n    def get_extra_state(self):\n        return {'a': self.d}\nloss = M()",
        "d = 1",
        "d = 2",
    ),
    "a part twice": ("part = nn.ReLU()\nloss = nn.Sequential(part, part)", "(part, part)", "(part)"),
    "a function's attribute": ("def loss(p, t):\n    return loss.d * (p - t)\nloss.d = 1", "d = 1", "d = 2"),
    "a metaclass": (
        "class K(type):\n    def d(cls):\n        return 1.0\nclass L(metaclass=K):\n"
        "    def __call__(self, p, t):\n        return type(self).d() * (p - t)\nloss = L()",
        "1.0",
        "2.0",
    ),
    "a mask": ("A = np.ma.array([1.0, 2.0], mask=[0, 1])\ndef loss(p, t):\n    return A.sum() * p", "[0, 1]", "[1, 0]"),
    "slots": (
        "class L:\n    __slots__ = ('d',)\n    def __init__(self, d):\n        self.d = d\n"
        "    def __call__(self, p, t):\n        return self.d * (p - t)\nloss = L(1.0)",
        "L(1.0)",
        "L(2.0)",
    ),
    "a cached property": (
        "class L:\n    @functools.cached_property\n    def d(self):\n        return 1.0\n"
        "    def __call__(self, p, t):\n        return self.d * (p - t)\nloss = L()",
        "return 1.0",
        "return 2.0",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_an_object_depends_on_counts(cell, what):
    text, old, new = CHANGES[what]
    before, again, after = (cell(*r, text=IMPORTS + text).loss for r in ((), (), [(old, new)]))
    assert identify(before) == identify(again)
    assert identify(before) != identify(after)


def test_a_global_that_is_called_as_an_attribute_does_not_count(cell):
    text = "data = [1, 2]\ndef loss(p, t):\n    return (p - t).data"
    assert identify(cell(text=text).loss) == identify(cell(("[1, 2]", "[1, 3]"), text=text).loss)


@pytest.fixture
def helpers(monkeypatch, tmp_path):
    """`helpers(text)`: a user's module of this source, imported anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two texts of one length within a second look alike to it

    def write(text, name="helpers_of_a_user"):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return write


@pytest.mark.parametrize(
    "text",
    [
        "import helpers_of_a_user as h\ndef loss(p, t):\n    return h.f(p - t)",
        "def loss(p, t):\n    import helpers_of_a_user\n    return helpers_of_a_user.f(p - t)",
        "def loss(p, t):\n    from helpers_of_a_user import f\n    return f(p - t)",
    ],
    ids=["above", "inside", "from"],
)
def test_what_a_users_module_takes_from_another_counts(cell, helpers, text):
    def identified(factor):
        helpers(f"def g(x):\n    return {factor} * x\n", "further_helpers")
        helpers("from further_helpers import g\ndef f(x):\n    return g(x)\n")
        return identify(cell(text=text).loss)

    assert identified(2) == identified(2)
    assert identified(2) != identified(3)


def test_a_setting_of_a_module_counts_as_it_is(cell, helpers):
    module = helpers("SCALE = 2.0\n")
    loss = cell(text="import helpers_of_a_user as h\ndef loss(p, t):\n    return h.SCALE * (p - t)").loss
    before = identify(loss)
    module.SCALE = 3.0
    assert identify(loss) != before


def test_a_file_that_has_changed_since_says_nothing_of_what_was_imported(helpers, tmp_path):
    """What runs is the older: under the newer's name its numbers would be found after a restart."""
    f = helpers("def f(p, t):\n    return p - t\n").f
    identify(f)
    path = tmp_path / "helpers_of_a_user.py"
    path.write_text("def f(p, t):\n    return p + t + 1\n")
    os.utime(path, (path.stat().st_mtime + 5,) * 2)
    with pytest.raises(Unidentified, match="the file of f has changed since it was imported"):
        identify(f)


@pytest.mark.parametrize("held", ["torch.eye(2).to_sparse()", "iter([1])", "np.random.default_rng(0)"])
def test_what_cannot_be_seen_has_no_identity(cell, held):
    with pytest.raises(Unidentified, match="nothing tells what"):
        identify(cell(text=f"{IMPORTS}A = {held}\ndef loss(p, t):\n    return A * (p - t)").loss)


def test_classes_of_a_command_have_no_source():
    """`python -c` runs in a file of the name that the methods of dataclasses have."""
    namespace = {"__name__": "__main__"}
    exec(compile("class L:\n    def __call__(self, p, t):\n        return p - t\n", "<string>", "exec"), namespace)
    with pytest.raises(Unidentified, match=r"the source of L\.__call__ cannot be read"):
        identify(namespace["L"]())
