"""The source that a class or function depends on: its own, and what that names in its file and in files beside it.

Beside a module of a package lies all of that package.
"""

import ast
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType

OURS, PYTHON = Path(__file__).parent, Path(ast.__file__).parent
INSTALLED = {"site-packages", "dist-packages"}
AS_SCRIPT = "__name__ == '__main__'"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def extract_definition(module: str, name: str) -> list[str]:
    """The statement that makes `name`, the others of its module that it needs, and whole modules beside that.

    Needed is what a needed statement names, and what binds no name: calls, mostly. Comments, layout and docstrings do
    not count. Raises KeyError, OSError or TypeError where there is no source.
    """
    return list(_definition(sys.modules[module], name))


@cache  # a module that is run again is another one
def _definition(home: ModuleType, name: str) -> tuple[str, ...]:
    statements = _needed(_statements(home), name.partition(".")[0])
    beside = _beside(home, statements, {home.__name__})
    return (*map(ast.unparse, statements), *(ast.unparse(_tree(m)) for m in beside))


def find_user_line(error: BaseException) -> str:
    """` (my_losses.py, line 3)`: where in the user's own files it was raised; empty if in none of them."""
    files = [(Path(f.filename), f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    own = [f" ({path.name}, line {n})" for path, n in files if is_beside(str(path), path.parent) and path.is_absolute()]
    return own[-1] if own else ""


def is_beside(file: str, folder: Path) -> bool:
    """Whether a file lies in a folder and is neither installed, nor Python's or lossbench's: those have a version."""
    return Path(file).is_relative_to(folder) and not is_versioned(file)


def is_versioned(file: str) -> bool:
    """Whether a file is installed, or Python's or lossbench's: a version says what is in it."""
    path = Path(file)
    return bool(INSTALLED & set(path.parts)) or any(path.is_relative_to(home) for home in (PYTHON, OURS))


def list_versions(module: str) -> list[str]:
    """Return name and version of the distributions that hold a module; none of a file of the user's."""
    return [f"{name} {version(name)}" for name in _distributions().get(module.partition(".")[0], [])]


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _tree(module: ModuleType) -> ast.Module:
    return parse_undocumented(inspect.getsource(module))


@cache
def parse_undocumented(source: str) -> ast.Module:
    """Return a source's tree without docstrings; raises SyntaxError for what is no source."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _statements(module: ModuleType) -> list[ast.stmt]:
    """What runs when it is imported."""
    return [s for s in _tree(module).body if not (isinstance(s, ast.If) and ast.unparse(s.test) == AS_SCRIPT)]


def _needed(statements: list[ast.stmt], name: str) -> list[ast.stmt]:
    """Those that `name` needs, in their order; all if it is made in a way that cannot be followed."""
    bound = [_bound(s) for s in statements]
    if not any(name in names for names in bound):
        return statements
    wanted, open_ = set[int](), {name, "*"}
    while open_:
        new = {i for i, names in enumerate(bound) if open_ & names or not names} - wanted
        wanted |= new
        open_ = {node.id for i in new for node in ast.walk(statements[i]) if isinstance(node, ast.Name)}
    return [statements[i] for i in sorted(wanted)]


def _bound(statement: ast.stmt) -> set[str]:
    """The names that it makes or changes."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return {name for node in ast.walk(statement) for name in _names(node)}


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id


def _beside(module: ModuleType, statements: Iterable[ast.stmt], seen: set[str]) -> Iterator[ModuleType]:
    """The modules that statements import from the same folder or package, and what these import from it."""
    depth = (module.__package__ or "").count(".")  # of a package in a package, the outer one's folder
    folder = Path(inspect.getfile(module)).parents[depth]
    for name in (n for s in statements for node in ast.walk(s) for n in _imported(node, module.__package__)):
        other = sys.modules.get(name)
        file = getattr(other, "__file__", None)
        if other is None or name in seen or file is None or not is_beside(file, folder):
            continue
        seen.add(name)
        yield other
        yield from _beside(other, _tree(other).body, seen)


def _imported(node: ast.AST, package: str | None) -> Iterator[str]:
    """The modules that an import may be of: `from a import b` of `a` and of `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        relative = "." * node.level + (node.module or "")
        base = importlib.util.resolve_name(relative, package)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
