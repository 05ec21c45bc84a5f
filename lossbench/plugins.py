"""Register the classes of a file or a module without a package: `plugins=[my_losses.py,my_package.losses]`."""

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lossbench import registry
from lossbench.errors import InvalidValue, LossbenchError, describe_error
from lossbench.seeds import hash_values
from lossbench.sources import find_user_line, limit_import_time

FILE = ".py"


@dataclass(frozen=True)
class Plugin:
    """A module, or a file with its text. Serialisable: a worker runs the text that its parent ran, not a later edit."""

    place: str  # the path or module name, as the user wrote it
    module: str  # its name in `sys.modules`
    path: str = ""  # of a file
    text: bytes = b""


_loaded: dict[str, Plugin] = {}


def list_loaded() -> tuple[Plugin, ...]:
    """Return the plugins of this process, in the order in which they were loaded."""
    return tuple(_loaded.values())


def load(places: Iterable[str]) -> None:
    """Register the classes of files and modules; a file that was loaded before runs again only if it has changed.

    Raises `InvalidValue`, with the line, if one cannot be imported or defines nothing to register, and `NameClash`.
    """
    for place in places:
        plugin = find_plugin(place)
        if _loaded.get(plugin.module) != plugin:
            register_plugin(plugin)


def register_plugin(plugin: Plugin) -> None:
    """Run a plugin and register the classes that it defines."""
    # 1. an earlier version of the same file goes
    for kinds in registry.ALL.values():
        kinds.forget(plugin.module)
    module = run_plugin(plugin)
    # 2. its own classes, without those that it has imported
    for kinds in registry.ALL.values():
        registered = [entry.kind for entry in kinds.entries().values()]  # perhaps by a decorator
        for name, kind in kinds.list_public(module):
            if _is_defined_in(kind, module.__name__) and kind not in registered:
                kinds.register(name, kind, plugin.place)
    # 3. a file without any is a mistake; often a class is still abstract
    if not any(list_offers(plugin).values()):
        abstract = [
            kind for kind in vars(module).values() if inspect.isabstract(kind) and _is_defined_in(kind, module.__name__)
        ]
        hints = "".join(f" {kind.__name__} lacks {', '.join(sorted(kind.__abstractmethods__))}." for kind in abstract)
        raise InvalidValue(
            f"{plugin.place} defines nothing to choose: no public Loss, Weighting, Corruption, Dataset, Model, Metric "
            f"or Task, and no function decorated with @lossbench.loss.{hints}"
        )
    _loaded[plugin.module] = plugin


def list_offers(plugin: Plugin) -> dict[str, list[str]]:
    """Return the registered names of a plugin's classes, by kind."""
    return {
        group: [name for name, entry in kinds.entries().items() if _is_defined_in(entry.kind, plugin.module)]
        for group, kinds in registry.ALL.items()
    }


def _is_defined_in(kind: type, module: str) -> bool:
    return f"{kind.__module__}.".startswith(f"{module}.")  # a package's classes may lie in its modules


def find_plugin(place: str) -> Plugin:
    """Return a file (`path/to/file.py`) or a module (`package.module`) as a plugin, without running it."""
    if not place.endswith(FILE):
        return Plugin(place, place)
    path = Path(place).expanduser()
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise InvalidValue(f"There is no file {place!r}{where}.")
    path = path.resolve()
    # the file's name, unless that would hide a module; then one that is the same in every process
    name = path.stem
    if not (name.isidentifier() and _is_free(name, path)):
        plain = re.sub(r"\W", "_", name)
        name = f"{plain}_{hash_values(str(path))[:8]}"
    return Plugin(place, name, str(path), path.read_bytes())


def _is_free(name: str, path: Path) -> bool:
    """Return True if no other file is imported, or would be, under the module name `name`."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) == str(path)
    spec = importlib.util.find_spec(name)
    return spec is None or spec.origin == str(path)


def run_plugin(plugin: Plugin) -> ModuleType:
    """Execute a plugin and return the module. Raises `InvalidValue` for whatever it raises."""
    if not plugin.path:
        with _prepare_import(plugin, Path.cwd()):
            return import_module(plugin.module)
    spec = importlib.util.spec_from_file_location(plugin.module, plugin.path)
    assert spec is not None  # the name ends in .py
    # in sys.modules, where pickle and dataclasses look for it
    module = sys.modules[plugin.module] = importlib.util.module_from_spec(spec)
    try:
        with _prepare_import(plugin, Path(plugin.path).parent):
            exec(compile(plugin.text, plugin.path, "exec"), vars(module))
    except LossbenchError:
        del sys.modules[plugin.module]
        raise
    return module


@contextmanager
def _prepare_import(plugin: Plugin, folder: Path) -> Iterator[None]:
    """Let a plugin import modules of its folder, write no compiled files, and turn its errors into `InvalidValue`."""
    before, dont_write = sys.path[:], sys.dont_write_bytecode
    sys.path[:0], sys.dont_write_bytecode = [str(folder)], True
    try:
        with limit_import_time():
            yield
    except (Exception, SystemExit) as error:
        where = "" if isinstance(error, SyntaxError) else find_user_line(error)  # its message has the line already
        is_ours = isinstance(error, LossbenchError)
        kind, message = (type(error), str(error)) if is_ours else (InvalidValue, describe_error(error))
        raise kind(f"{plugin.place!r} cannot be imported: {message}{where}") from error
    finally:
        sys.path[:], sys.dont_write_bytecode = before, dont_write
