"""The modules of lossbench as parsed files, for tests of what they import and name."""

import ast
from functools import cache
from pathlib import Path

import lossbench

ROOT = Path(lossbench.__file__).parent


@cache
def parse_modules():
    """Return the syntax trees of all modules by their dotted names."""
    files = {path: path.relative_to(ROOT.parent).with_suffix("") for path in ROOT.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): ast.parse(path.read_text()) for path, name in files.items()}
