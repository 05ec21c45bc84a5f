"""Arrays that take a while to draw or to read, kept between processes in a folder of the user's.

The folder is `$LOSSBENCH_CACHE`, else `$XDG_CACHE_HOME/lossbench`, else `~/.cache/lossbench`. It may be removed at any
time, by anyone: what is missing is made again.
"""

import inspect
import logging
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np

from lossbench.seeds import hash_values
from lossbench.types import Array

log = logging.getLogger("lossbench")

DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, NotImplementedError)
"""What reading a file raises that was cut, overwritten or is none of ours."""


def cached(key: object, make: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
    """What `make` gave when it was first called for `key`, read from a file; made now where there is no whole file.

    key: plain values and dataclasses of them (a dataclass counts by its fields: name its class beside it) that hold
        *everything* that the arrays depend on, the code included: see `origin`.
    make: arrays by name; none may hold Python objects.

    A folder that cannot be written or read is no error: then each call makes them.
    """
    name = f"{hash_values(key)[:32]}.npz"
    try:
        return _read(folder() / name)
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, *DAMAGED) as error:
        log.debug("cache: %s is made again: %s", name, error)
    arrays = {name: np.asarray(array) for name, array in make().items()}
    try:
        _write(folder() / name, arrays)
    except (OSError, RuntimeError) as error:
        log.debug("cache: %s is not kept: %s", name, error)
    return arrays


def folder() -> Path:
    """Where the files are; raises RuntimeError where no variable says so and the user has no home."""
    if own := os.environ.get("LOSSBENCH_CACHE"):
        return Path(own).expanduser()
    general = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG specification has relative paths ignored
    return (Path(general) if os.path.isabs(general) else Path.home() / ".cache") / "lossbench"


def origin(*modules: ModuleType, libraries: tuple[str, ...] = ("numpy", "scikit-learn")) -> list[str]:
    """What arrays depend on beside settings, for a key: versions of libraries, and the source of these modules."""
    return [f"{name} {version(name)}" for name in ("lossbench", *libraries)] + [_source(module) for module in modules]


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except OSError:  # installed without sources: lossbench's version has to do
        return module.__name__


def _read(path: Path) -> dict[str, Array]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                # reads to the member's end, where its checksum is compared
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
        if archive.comment != _names(arrays):  # the list of members has no checksum
            raise ValueError("arrays are missing")
    return arrays


def _names(arrays: Mapping[str, Array]) -> bytes:
    return hash_values(list(arrays)).encode()


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Whole or not at all, whoever else writes it and whenever this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            _pack(stream, arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _pack(stream: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """What np.savez writes, which has no room for an array called `file` and before NumPy 2.2 writes pickles."""
    with zipfile.ZipFile(stream, "w") as archive:
        archive.comment = _names(arrays)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
