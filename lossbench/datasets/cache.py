"""A cache on disk for arrays that take a while to draw or to read.

The folder is `$LOSSBENCH_CACHE`, else `$XDG_CACHE_HOME/lossbench`, else `~/.cache/lossbench`. Anyone may remove it at
any time: arrays that are missing are computed again.
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

import numpy as np

from lossbench.seeds import hash_values
from lossbench.types import Array

log = logging.getLogger("lossbench")

DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, NotImplementedError)
"""The errors of reading a file that was truncated, overwritten or written by another program."""


def load_or_compute(key: object, compute: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
    """Return the arrays that are cached under `key`; compute and cache them if there is no intact file.

    key: plain values and dataclasses of them (a dataclass counts by its fields: name its class beside it) that hold
        *everything* that the arrays depend on, the code included: see `list_code_versions`.
    compute: returns arrays by name; none may hold Python objects.

    A folder that cannot be written or read is no error: the arrays are then computed at each call.
    """
    name = f"{hash_values(key)[:32]}.npz"
    try:
        return _read(get_cache_folder() / name)
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, *DAMAGED) as error:
        log.debug("cache: %s is made again: %s", name, error)
    arrays = {name: np.asarray(array) for name, array in compute().items()}
    try:
        _write(get_cache_folder() / name, arrays)
    except (OSError, RuntimeError) as error:
        log.debug("cache: %s is not kept: %s", name, error)
    return arrays


def get_cache_folder() -> Path:
    """Return the folder of the files; raises RuntimeError where no variable names it and the user has no home."""
    if folder := os.environ.get("LOSSBENCH_CACHE"):
        return Path(folder).expanduser()
    general = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG specification says that relative paths are ignored
    return (Path(general) if os.path.isabs(general) else Path.home() / ".cache") / "lossbench"


def list_code_versions(*modules: ModuleType, libraries: tuple[str, ...] = ("numpy", "scikit-learn")) -> list[str]:
    """Return the versions of lossbench and `libraries` and the source of `modules`, for a cache key."""
    versions = [f"{name} {version(name)}" for name in ("lossbench", *libraries)]
    for module in modules:
        try:
            versions.append(inspect.getsource(module))
        except OSError:  # installed without sources: lossbench's version has to do
            versions.append(module.__name__)
    return versions


def _hash_names(arrays: Mapping[str, Array]) -> bytes:
    return hash_values(list(arrays)).encode()


def _read(path: Path) -> dict[str, Array]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                # reads to the member's end, where its checksum is compared
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
        if archive.comment != _hash_names(arrays):  # the list of members has no checksum of its own
            raise ValueError("arrays are missing")
    return arrays


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the file atomically, so that neither another writer nor a kill leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            # the format of np.savez, which has no room for an array called `file` and before NumPy 2.2 writes pickles
            with zipfile.ZipFile(stream, "w") as archive:
                archive.comment = _hash_names(arrays)
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
