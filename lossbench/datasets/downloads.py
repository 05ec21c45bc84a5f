"""Files of public data sets: their folder, their download, and the errors when they are missing or damaged."""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from lossbench.errors import Unavailable

ROOT = "LOSSBENCH_DATA"
"""The variable that names the folder of all data sets."""


def get_data_folder(root: str) -> Path:
    """Return `root`, else `$LOSSBENCH_DATA`, else `$XDG_DATA_HOME/lossbench`, else `~/.local/share/lossbench`."""
    if folder := root or os.environ.get(ROOT, ""):
        return Path(folder).expanduser().absolute()
    general = os.environ.get("XDG_DATA_HOME", "")
    # the XDG specification says that relative paths are ignored
    return (Path(general) if os.path.isabs(general) else Path("~/.local/share").expanduser()) / "lossbench"


@dataclass(frozen=True)
class File:
    """A file, its checksum, and its address; a file that only an archive contains has no address."""

    path: Path
    md5: str = ""
    url: str = ""

    @property
    def fault(self) -> str:
        """`missing`, `damaged` (its checksum differs), or an empty string."""
        from torchvision.datasets.utils import check_integrity

        if not self.path.is_file():
            return "missing"
        return "" if check_integrity(self.path, self.md5 or None) else "damaged"


@dataclass(frozen=True)
class Download:
    """The archives of a data set and the files in them; `unpack` downloads missing archives and unpacks all."""

    title: str
    archives: tuple[File, ...]
    files: tuple[File, ...]
    unpack: Callable[[], object]

    @property
    def folder(self) -> Path:
        """The folder of the archives."""
        return self.archives[0].path.parent

    def ensure(self, allowed: bool) -> None:
        """Unpack unless all files are there; raises `Unavailable` if that needs a download and none is `allowed`."""
        if self.is_complete():
            return
        first, *others = self.archives
        more = f" (and {', '.join(f.path.name for f in others)})" if others else ""
        remedy = (
            f"Get {first.url}{more} where there is a network and copy {'them' if others else 'it'} to "
            f"{self.folder}, or say by data.root or ${ROOT} where the data lies."
        )
        if not allowed and (faults := describe_faults(self.archives)):
            raise Unavailable(
                f"{self.title} is not complete: {faults}, and data.download=false forbids to fetch it. {remedy}"
            )
        try:
            with _lock(self.folder), redirect_stdout(sys.stderr):
                if not self.is_complete():  # another process may have unpacked the files meanwhile
                    self.unpack()
        except (OSError, HTTPException, EOFError, RuntimeError) as error:
            raise Unavailable(
                f"{self.title} cannot be fetched into {self.folder}: {summarize_error(error)}. {remedy}"
            ) from error

    def is_complete(self) -> bool:
        """Return True if all files are there, intact or not: checksums take seconds."""
        return all(f.path.is_file() for f in self.files)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Turn any error of reading the files into `Unavailable`, which names the damaged ones."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # readers of pickles, images and XML raise anything on a damaged file
            unreadable = f"a file below {self.folder} cannot be read ({summarize_error(error)})"
            raise Unavailable(
                f"{self.title} is damaged: {describe_faults(self.files) or unreadable}. Delete it: it is then "
                "unpacked, or downloaded, again."
            ) from error


def describe_faults(files: Sequence[File]) -> str:
    """Return the first file that is missing or damaged, and the number of the others; empty if all are intact."""
    faults = [f"{f.path} is {fault}" for f in files if (fault := f.fault)]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}" if faults else ""


def summarize_error(error: Exception) -> str:
    """Return the message in one line: each line once, without the headings that end in a colon."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line and not line.endswith(":"))) or type(error).__name__


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock `folder` (created if missing) against other processes: two downloads would write into one file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # the kernel releases the lock of a process that is killed
        yield
