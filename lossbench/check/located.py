"""Losses by where they are: `path/to/file.py:Class`, `path/to/file.py`, `package.module:Class`."""

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from lossbench.check.contract import told
from lossbench.errors import InvalidValue, LossbenchError, unknown
from lossbench.interfaces.loss import Loss

Kind = type[Loss]


def is_place(text: str) -> bool:
    """Whether `text` says where a loss is, and not what it is called."""
    return ":" in text or text.endswith(".py")


def losses_at(place: str) -> dict[str, Kind]:
    """The loss classes at `place`, by name: the one behind the colon, or all that the file or module defines.

    Raises `InvalidValue` if there is no such file or module, if it raises anything when it is imported, or if what is
    there is no loss; `UnknownName`, with the nearest, if the name is none of its losses.
    """
    path, _, name = place.partition(":")
    module = _from_file(Path(path)) if path.endswith(".py") else _imported(path)
    own = {n: kind for n, kind in vars(module).items() if _is_loss(kind) and kind.__module__ == module.__name__}
    if not name:
        if not own:
            raise InvalidValue(f"{path} defines no loss: no subclass of lossbench.Loss, no @lossbench.loss function.")
        return own
    found = getattr(module, name, None)
    if found is None:
        raise unknown(f"loss of {path}:", name, own, "Its losses")
    if not _is_loss(found):
        raise InvalidValue(
            f"{place} must be a subclass of lossbench.Loss, or a function decorated with @lossbench.loss. "
            f"Got {found!r:.80} instead."
        )
    return {name: found}


def _is_loss(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Loss) and not inspect.isabstract(found)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidValue(f"There is no file {str(path)!r}.")
    # a name of its own, so that it hides no module; in sys.modules, where pickle and dataclasses look for it
    name = path.stem if path.stem.isidentifier() and not _exists(path.stem) else f"checked_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InvalidValue(f"{str(path)!r} cannot be imported.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _import_of(str(path), [str(path.resolve().parent)]):
            spec.loader.exec_module(module)
    except LossbenchError:
        del sys.modules[name]
        raise
    return module


def _exists(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _imported(name: str) -> ModuleType:
    with _import_of(name, [str(Path.cwd())]):
        return import_module(name)


@contextmanager
def _import_of(name: str, folders: list[str]) -> Iterator[None]:
    """What a stranger's module raises as `InvalidValue`; its neighbours are found; no compiled file stays behind."""
    before, written = sys.path[:], sys.dont_write_bytecode
    sys.path[:0], sys.dont_write_bytecode = folders, True
    try:
        yield
    except LossbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidValue(f"{name!r} cannot be imported: {told(error)}") from error
    finally:
        sys.path[:], sys.dont_write_bytecode = before, written
