"""What of a file a loss depends on."""

import importlib
import sys

import pytest

from lossbench.sources import extract_definition, find_user_line

FILE = '''
"""A module."""
import math
import torch
from beside import factor

SHARED = 2  # a number
SHARED += 1
ALONE = 3


def doubled(x):
    """Twice."""
    return SHARED * x


class Mine:
    """Mine."""

    def call(self, x):
        return doubled(x) + factor(x)


class Other:
    def call(self, x):
        return ALONE * x * math.pi


print(end="")
for name in ("made",):
    globals()[name] = Other
if __name__ == "__main__":
    Mine()
'''
BESIDE = """
from further import constant


def factor(x):
    return constant * x
"""


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """`changed(old, new, file)`: which of Mine and Other have another definition after an edit."""
    monkeypatch.syspath_prepend(tmp_path)
    texts = {"followed.py": FILE, "beside.py": BESIDE, "further.py": "constant = 1\n"}

    def definitions():
        for file, text in texts.items():
            (tmp_path / file).write_text(text)
            sys.modules.pop(file.removesuffix(".py"), None)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        importlib.import_module("followed")
        return {name: extract_definition("followed", name) for name in ("Mine", "Other")}

    def edit(old, new, file="followed.py"):
        before = definitions()
        assert old in texts[file]
        texts[file] = texts[file].replace(old, new)
        after = definitions()
        return {name for name in before if before[name] != after[name]}

    yield edit
    for file in texts:
        sys.modules.pop(file.removesuffix(".py"), None)


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (("return doubled(x)", "return 1 + doubled(x)"), {"Mine"}),
        (("return SHARED * x", "return SHARED + x"), {"Mine"}),
        (("SHARED = 2", "SHARED = 4"), {"Mine"}),
        (("SHARED += 1", "SHARED += 2"), {"Mine"}),
        (("ALONE * x", "ALONE + x"), {"Other"}),
        (("ALONE = 3", "ALONE = 4"), {"Other"}),
        (("import math", "import cmath as math"), {"Other"}),
        (("constant * x", "constant + x", "beside.py"), {"Mine"}),
        (("constant = 1", "constant = 2", "further.py"), {"Mine"}),
        (('print(end="")', 'print("", end="")'), {"Mine", "Other"}),
        (("  # a number", "  # some number"), set()),
        (('"""Twice."""', '"""Two times."""'), set()),
        (("    Mine()", "    Other()"), set()),
        (("import torch", "import torch.nn"), set()),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_an_edit_changes_what_depends_on_it(edit, wanted, changed):
    assert changed(*edit) == wanted


def test_what_is_made_by_other_means_depends_on_the_whole_file(changed):
    changed("ALONE = 3", "ALONE = 4")
    assert "class Mine:" in "\n".join(extract_definition("followed", "made_elsewhere"))


def test_what_is_installed_is_told_by_its_version():
    assert all("def normalize" not in text for text in extract_definition("torch.nn.functional", "mse_loss"))


def test_no_source():
    with pytest.raises((OSError, TypeError)):
        extract_definition("math", "sqrt")
    with pytest.raises(KeyError):
        extract_definition("no_such_module", "x")


def test_the_line_of_an_error_is_in_the_users_file():
    with pytest.raises(ZeroDivisionError) as raised:
        1 / 0  # noqa: B018  # it is raised
    assert find_user_line(raised.value).startswith(" (test_sources.py, line ")
    assert find_user_line(ValueError()) == ""


def test_of_a_package_all_modules_lie_beside_each_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    texts = {
        "packed_by_a_user/__init__.py": "",
        "packed_by_a_user/helpers.py": "FACTOR = 2\n",
        "packed_by_a_user/losses/__init__.py": "",
        "packed_by_a_user/losses/mine.py": "from ..helpers import FACTOR\ndef f(x):\n    return FACTOR * x\n",
    }

    def defined(factor):
        for file, text in texts.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text.replace("FACTOR = 2", f"FACTOR = {factor}  # {'.' * factor}"))
        for name in [name for name in sys.modules if name.startswith("packed_by_a_user")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        importlib.import_module("packed_by_a_user.losses.mine")
        return extract_definition("packed_by_a_user.losses.mine", "f")

    assert defined(2) == defined(2)
    assert defined(2) != defined(3)
