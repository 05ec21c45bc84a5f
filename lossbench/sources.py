"""The source that a class or function depends on: its own, and that of what it names in its file and files beside it.

For a module of a package, all modules of that package lie beside it.
"""

import ast
import importlib.util
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType

LOSSBENCH, PYTHON = Path(__file__).parent, Path(ast.__file__).parent
IMPORT_SECONDS = 120.0
"""The time that the import of a plug-in may take."""
INSTALLED = {"site-packages", "dist-packages"}
MAIN_GUARD = "__name__ == '__main__'"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def extract_definition(module: str, name: str) -> list[str]:
    """Return the source of `name`: its statement, the statements of its module that it needs, and modules beside that.

    A statement is needed if a needed statement names what it binds, or if it binds no name: calls, mostly. Comments,
    layout and docstrings do not count. Raises KeyError, OSError or TypeError where there is no source.
    """
    return list(_extract_definition(sys.modules[module], name))


@cache  # by the module object: a module that runs again is another one
def _extract_definition(module: ModuleType, name: str) -> tuple[str, ...]:
    # an import does not run the block below the main guard
    statements = [
        s for s in _parse_module(module).body if not (isinstance(s, ast.If) and ast.unparse(s.test) == MAIN_GUARD)
    ]
    needed = _select_needed(statements, name.partition(".")[0])
    modules = _list_modules_beside(module, needed, {module.__name__})
    return (*map(ast.unparse, needed), *(ast.unparse(_parse_module(m)) for m in modules))


def find_user_line(error: BaseException) -> str:
    """Return ` (my_losses.py, line 3)`, the last line of the traceback in the user's files; empty if there is none."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    lines = [f" ({path.name}, line {n})" for path, n in frames if path.is_absolute() and not is_versioned(str(path))]
    return lines[-1] if lines else ""


def is_versioned(file: str) -> bool:
    """Return True if a file is installed, or Python's or lossbench's: a version number stands for its contents."""
    path = Path(file)
    return bool(INSTALLED & set(path.parts)) or any(path.is_relative_to(home) for home in (PYTHON, LOSSBENCH))


def list_versions(module: str) -> list[str]:
    """Return name and version of the distributions that hold a module; none for a file of the user's."""
    return [f"{name} {version(name)}" for name in _list_distributions().get(module.partition(".")[0], [])]


@cache
def _list_distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _parse_module(module: ModuleType) -> ast.Module:
    return parse_undocumented(inspect.getsource(module))


@cache
def parse_undocumented(source: str) -> ast.Module:
    """Return a source's syntax tree without docstrings; raises SyntaxError if it is not valid by itself."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _select_needed(statements: list[ast.stmt], name: str) -> list[ast.stmt]:
    """Return the statements that `name` needs, in their order; all if no statement visibly binds it."""
    bound = [_list_bound(s) for s in statements]
    if not any(name in names for names in bound):
        return statements
    # a graph search: the frontier holds names whose statements may still be missing; "*" is bound by star imports
    needed, frontier = set[int](), {name, "*"}
    while frontier:
        new = {i for i, names in enumerate(bound) if frontier & names or not names} - needed
        needed |= new
        frontier = {node.id for i in new for node in ast.walk(statements[i]) if isinstance(node, ast.Name)}
    return [statements[i] for i in sorted(needed)]


def _list_bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds or changes."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        # all names in the targets: `table[key] = value` changes `table`
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    # imports, and compound statements with bindings somewhere inside
    names = set[str]()
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _list_modules_beside(module: ModuleType, statements: Iterable[ast.stmt], seen: set[str]) -> Iterator[ModuleType]:
    """Yield the modules that statements import from the same folder or package, and what these import from there."""
    depth = (module.__package__ or "").count(".")  # of a package in a package, the outer one's folder
    folder = Path(inspect.getfile(module)).parents[depth]
    for name in (n for s in statements for node in ast.walk(s) for n in _list_imported(node, module.__package__)):
        other = sys.modules.get(name)
        file = getattr(other, "__file__", None)
        if other is None or name in seen or file is None:
            continue
        # a version stands for the contents of installed modules
        if not Path(file).is_relative_to(folder) or is_versioned(file):
            continue
        seen.add(name)
        yield other
        yield from _list_modules_beside(other, _parse_module(other).body, seen)


def _list_imported(node: ast.AST, package: str | None) -> Iterator[str]:
    """Yield the modules that an import may be of: `from a import b` of `a` and of `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        relative = "." * node.level + (node.module or "")
        base = importlib.util.resolve_name(relative, package)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


@contextmanager
def limit_import_time() -> Iterator[None]:
    """Raise TimeoutError if an import takes longer than `IMPORT_SECONDS`; in the main thread, which has signals."""
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield  # the limit is that of the import which this one is part of
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"the import does not end within {IMPORT_SECONDS:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, IMPORT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
