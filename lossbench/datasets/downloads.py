"""Files of public data sets: where they lie, how they get there, and what is said when they do not."""

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


def data_folder(root: str) -> Path:
    """`root` if it is given, else `$LOSSBENCH_DATA`, else `$XDG_DATA_HOME/lossbench` or `~/.local/share/lossbench`."""
    if given := root or os.environ.get(ROOT, ""):
        return Path(given).expanduser().absolute()
    general = os.environ.get("XDG_DATA_HOME", "")
    # the XDG specification has relative paths ignored
    return (Path(general) if os.path.isabs(general) else Path("~/.local/share").expanduser()) / "lossbench"


@dataclass(frozen=True)
class File:
    """A file, its checksum, and where it can be downloaded; empty for what is only unpacked."""

    path: Path
    md5: str = ""
    url: str = ""

    @property
    def fault(self) -> str:
        """`missing`, `damaged` (its checksum differs), or nothing."""
        from torchvision.datasets.utils import check_integrity

        if not self.path.is_file():
            return "missing"
        return "" if check_integrity(self.path, self.md5 or None) else "damaged"


@dataclass(frozen=True)
class Download:
    """The archives of a data set and what is in them; `unpack` downloads those that are not there, and unpacks."""

    title: str
    archives: tuple[File, ...]
    files: tuple[File, ...]
    unpack: Callable[[], object]

    def ensure(self, allowed: bool) -> None:
        """Unpack unless all files are there; raises `Unavailable` if that needs a download and none is `allowed`."""
        if self._complete():
            return
        if not allowed and (faults := _faults(self.archives)):
            raise Unavailable(
                f"{self.title} is not complete: {faults}, and data.download=false forbids to fetch it. {self._help()}"
            )
        with self._told(), _alone(self.archives[0].path.parent), redirect_stdout(sys.stderr):
            if not self._complete():  # somebody else may have done it meanwhile
                self.unpack()

    def _complete(self) -> bool:
        return all(f.path.is_file() for f in self.files)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Whatever reading the files raises becomes `Unavailable`, which names the damaged ones."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # readers of pickles, images and XML raise anything on a damaged file
            where = self.archives[0].path.parent
            what = _faults(self.files) or f"a file below {where} cannot be read ({_reason(error)})"
            raise Unavailable(
                f"{self.title} is damaged: {what}. Delete it: it is then unpacked, or downloaded, again."
            ) from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, HTTPException, EOFError, RuntimeError) as error:
            where = self.archives[0].path.parent
            raise Unavailable(
                f"{self.title} cannot be fetched into {where}: {_reason(error)}. {self._help()}"
            ) from error

    def _help(self) -> str:
        first, *others = self.archives
        more = f" (and {', '.join(f.path.name for f in others)})" if others else ""
        return (
            f"Get {first.url}{more} where there is a network and copy {'them' if others else 'it'} to "
            f"{first.path.parent}, or say by data.root or ${ROOT} where the data lies."
        )


def _faults(files: Sequence[File]) -> str:
    """Which files are missing or damaged: the first, and how many more."""
    found = [(f.path, fault) for f in files if (fault := f.fault)]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0][0]} is {found[0][1]}{more}" if found else ""


def _reason(error: Exception) -> str:
    """In one line, each reason once, without the headings that end in a colon."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line and not line.endswith(":"))) or type(error).__name__


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if missing) alone among processes: two downloads would write into one file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # goes with the process: a kill leaves nobody locked out
        yield
