"""Classes of a file or a module as choices, without a package: `plugins=[my_losses.py,my_package.losses]`."""

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
from typing import Any

from lossbench import registry
from lossbench.errors import InvalidValue, LossbenchError, describe_error
from lossbench.seeds import hash_values
from lossbench.sources import find_user_line

FILE = ".py"


@dataclass(frozen=True)
class Plugin:
    """A file as it was read, or a module. Serialisable: a worker runs what its parent has run, not a later edit."""

    place: str  # as it was given
    module: str  # its name in `sys.modules`
    path: str = ""  # of a file
    text: bytes = b""


_loaded: dict[str, Plugin] = {}


def list_loaded() -> tuple[Plugin, ...]:
    """What this process has loaded, in that order."""
    return tuple(_loaded.values())


def load(places: Iterable[str]) -> None:
    """Register the classes of files and modules; a file that was loaded before runs again only if it has changed.

    Raises `InvalidValue`, with the line, for what cannot be imported or holds nothing of ours, and `NameClash`.
    """
    for place in places:
        plugin = find_plugin(place)
        if _loaded.get(plugin.module) != plugin:
            start(plugin)


def start(plugin: Plugin) -> None:
    """Run it, and register what it defines."""
    for names in registry.ALL.values():
        names.forget(plugin.module)
    module = run(plugin)
    for names in registry.ALL.values():
        known = [entry.kind for entry in names.entries().values()]  # a decorator may have been quicker
        for name, kind in _own(names, module):
            if kind not in known:
                names.register(name, kind, plugin.place)
    if not any(list_offers(plugin).values()):
        raise InvalidValue(
            f"{plugin.place} defines nothing to choose: no public Loss, Weighting, Corruption, Dataset, Model, Metric "
            f"or Task, and no function decorated with @lossbench.loss.{_unfinished(module)}"
        )
    _loaded[plugin.module] = plugin


def _unfinished(module: ModuleType) -> str:
    """What its abstract classes lack."""
    kinds = [v for v in vars(module).values() if inspect.isabstract(v) and _is_of(v, module.__name__)]
    return "".join(f" {kind.__name__} lacks {', '.join(sorted(kind.__abstractmethods__))}." for kind in kinds)


def list_offers(plugin: Plugin) -> dict[str, list[str]]:
    """The registered names of what it defines, by kind."""
    return {
        group: [name for name, entry in names.entries().items() if _is_of(entry.kind, plugin.module)]
        for group, names in registry.ALL.items()
    }


def _own(names: registry.Registry[Any], module: ModuleType) -> Iterator[tuple[str, type]]:
    """Without what it has imported."""
    return ((name, kind) for name, kind in names.offered(module) if _is_of(kind, module.__name__))


def _is_of(kind: type, module: str) -> bool:
    return f"{kind.__module__}.".startswith(f"{module}.")  # a package offers what its modules define


def find_plugin(place: str) -> Plugin:
    """A file (`path/to/file.py`) or a module (`package.module`), not yet run."""
    if not place.endswith(FILE):
        return Plugin(place, place)
    path = Path(place).expanduser()
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise InvalidValue(f"There is no file {place!r}{where}.")
    path = path.resolve()
    return Plugin(place, _module_name(path), str(path), path.read_bytes())


def _module_name(path: Path) -> str:
    """The file's own if that hides no module, else one that is the same in every process."""
    name = path.stem
    if name.isidentifier() and _is_free(name, path):
        return name
    plain = re.sub(r"\W", "_", name)
    return f"{plain}_{hash_values(str(path))[:8]}"


def _is_free(name: str, path: Path) -> bool:
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) == str(path)
    spec = importlib.util.find_spec(name)
    return spec is None or spec.origin == str(path)


def run(plugin: Plugin) -> ModuleType:
    """The module, executed. Raises `InvalidValue` for whatever a file raises."""
    if not plugin.path:
        with _importing(plugin, Path.cwd()):
            return import_module(plugin.module)
    spec = importlib.util.spec_from_file_location(plugin.module, plugin.path)
    assert spec is not None  # the name ends in .py
    # in sys.modules, where pickle and dataclasses look for it
    module = sys.modules[plugin.module] = importlib.util.module_from_spec(spec)
    try:
        with _importing(plugin, Path(plugin.path).parent):
            exec(compile(plugin.text, plugin.path, "exec"), vars(module))
    except LossbenchError:
        del sys.modules[plugin.module]
        raise
    return module


@contextmanager
def _importing(plugin: Plugin, folder: Path) -> Iterator[None]:
    """What a stranger's module raises as `InvalidValue`; its neighbours are found; no compiled file stays behind."""
    before, written = sys.path[:], sys.dont_write_bytecode
    sys.path[:0], sys.dont_write_bytecode = [str(folder)], True
    try:
        yield
    except (Exception, SystemExit) as error:
        where = "" if isinstance(error, SyntaxError) else find_user_line(error)  # which says it itself
        kind, said = (
            (type(error), str(error)) if isinstance(error, LossbenchError) else (InvalidValue, describe_error(error))
        )
        raise kind(f"{plugin.place!r} cannot be imported: {said}{where}") from error
    finally:
        sys.path[:], sys.dont_write_bytecode = before, written
