"""Reading and writing a folder of records."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from lossbench.errors import LossbenchError
from lossbench.records.record import Record, Results, Samples, curves_table, predictions_table, test_table, trials_table

if TYPE_CHECKING:  # pandas and pyarrow take longer to import than a command line may take to answer
    import pandas as pd
    import pyarrow as pa

TRIALS, CURVES, TEST, CONFIG = "trials.parquet", "curves.parquet", "test.parquet", "config.yaml"
PREDICTIONS, SAMPLES = "predictions.parquet", "samples.npz"
UNTRAINED = ("failed", "skipped")
"""The status of a trial that raised, and of one whose loss or corruption cannot take its data: both have a reason."""

Writer = Callable[[IO[bytes]], object]


class RecordError(LossbenchError):
    """Records cannot be written or read: names the path and the reason."""


def save(folder: Path, records: Sequence[Record], config: Mapping[str, Any]) -> None:
    """Merge `records` into `folder` (a trial that is there already is replaced), atomically.

    Raises RecordError when the folder cannot be written or holds a damaged file; it is then as it was, but for rows
    that readers ignore.
    """
    if not records:
        return
    with writing(folder):
        _commit(folder, _contents(folder, {record.trial: record for record in records}, config))


def check_writable(folder: Path) -> None:
    """Raise RecordError if `save` would fail on `folder`: not writable, or holding a damaged file. Creates nothing."""
    with telling("write", folder):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=place, prefix=".") as stream:
            stream.write(b"\0")
    for name in (TRIALS, CURVES, TEST, PREDICTIONS):
        if (folder / name).exists():
            _read(folder / name, [])  # the footer only, which a cut file lacks


def statuses(folder: Path) -> dict[str, str]:
    """The status of every trial on record in `folder`, by id."""
    if not (folder / TRIALS).exists():
        return {}
    rows = _read(folder / TRIALS, ["trial", "status"])
    return dict(zip(rows["trial"].to_pylist(), rows["status"].to_pylist(), strict=True))


def finished(folder: Path) -> set[str]:
    """Ids of the trials that need no further training: finished or diverged (others are tried again)."""
    return {trial for trial, status in statuses(folder).items() if status in ("finished", "diverged")}


def load(folder: Path) -> Results:
    """Read a folder's records. Raises RecordError naming the file that is missing or damaged."""
    # Trials first: a concurrent save only adds to the files that are read after it.
    trials = _read(folder / TRIALS)
    known = trials["trial"]
    curves, test = (_rows_of(_read(folder / name), known).to_pandas() for name in (CURVES, TEST))
    return Results(trials.to_pandas(), curves, test, load_config(folder), *_load_pictures(folder, known))


def load_config(folder: Path) -> dict[str, Any]:
    """Read the settings of a folder's experiment, as plain values. Raises RecordError as `load` does."""
    import yaml

    with _reading(folder / CONFIG):
        return dict(yaml.safe_load((folder / CONFIG).read_text("utf-8")) or {})


def _load_pictures(folder: Path, known: "pa.Array") -> tuple["pd.DataFrame", Samples] | tuple[None, None]:
    if not (folder / PREDICTIONS).exists():
        return None, None
    predictions = _rows_of(_read(folder / PREDICTIONS), known).to_pandas()
    path = folder / SAMPLES
    with _reading(path), path.open("rb") as stream, np.load(stream) as held:
        names = tuple(held["class_names"].tolist())
        return predictions, Samples(str(held["kind"]), held["inputs"], held["targets"], names)


def columns(folder: Path, name: str, wanted: Callable[[str], bool]) -> "pa.Table":
    """Some columns of one of a folder's tables. Raises RecordError as `load` does."""
    import pyarrow.parquet as pq

    with _reading(folder / name):
        names = pq.read_schema(folder / name).names
    return _read(folder / name, [column for column in names if wanted(column)])


def find(root: Path) -> list[Path]:
    """Every folder at or below `root` that holds records, sorted."""
    return sorted(path.parent for path in root.rglob(TRIALS))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if missing) alone among processes. An OSError inside becomes a RecordError."""
    with telling("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # goes with the process: a kill leaves nobody locked out
            yield


def _contents(folder: Path, records: dict[str, Record], config: Mapping[str, Any]) -> list[tuple[str, Writer]]:
    """File names and their writers, in the order in which they must be put in place."""
    import pyarrow as pa
    import yaml

    old = _read(folder / TRIALS).to_pylist() if (folder / TRIALS).exists() else []
    kept = [row for row in old if row["trial"] not in records]
    ids = pa.array([row["trial"] for row in kept], pa.string())
    fresh = list(records.values())
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    # Replaced trials are withdrawn first, lest an old row be read with new curves.
    withdrawal = [(TRIALS, _parquet(trials_table(kept)))] if len(kept) < len(old) else []
    return [
        *withdrawal,
        (CURVES, _parquet(_merged(folder / CURVES, ids, curves_table(fresh)))),
        (TEST, _parquet(_merged(folder / TEST, ids, test_table(fresh)))),
        *_pictures(folder, ids, fresh),
        (CONFIG, lambda stream: stream.write(text.encode())),
        (TRIALS, _parquet(trials_table(kept + [{"trial": r.trial} | r.row | {"trial": r.trial} for r in fresh]))),
    ]


def _pictures(folder: Path, kept: "pa.Array", fresh: Sequence[Record]) -> list[tuple[str, Writer]]:
    """Samples and what was predicted of them; nothing for tasks without pictures."""
    path, samples = folder / PREDICTIONS, next((r.samples for r in fresh if r.samples is not None), None)
    if samples is None and not path.exists():
        return []
    merged = _merged(path, kept if path.exists() else kept[:0], predictions_table(fresh))
    own = [] if samples is None else [(SAMPLES, _npz(samples))]
    return [*own, (PREDICTIONS, _parquet(merged))]


def _npz(samples: Samples) -> Writer:
    names = np.array(samples.class_names, str)
    arrays = {"kind": np.array(str(samples.kind)), "inputs": samples.inputs, "targets": samples.targets}
    return lambda stream: np.savez_compressed(stream, allow_pickle=False, class_names=names, **arrays)


def _merged(path: Path, kept: "pa.Array", fresh: "pa.Table") -> "pa.Table":
    import pyarrow as pa

    old = [_rows_of(_read(path), kept)] if len(kept) else []
    return pa.concat_tables([*old, fresh], promote_options="default")  # older files lack some columns


def _rows_of(table: "pa.Table", trials: "pa.Array") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table["trial"].cast(pa.string()), value_set=trials)).unify_dictionaries()


def _parquet(table: "pa.Table") -> Writer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = [f.name for f in table.schema if not (pa.types.is_floating(f.type) or pa.types.is_list(f.type))]
    table = table.unify_dictionaries()
    return lambda stream: pq.write_table(table, stream, compression="zstd", use_dictionary=words)


def _read(path: Path, columns: list[str] | None = None) -> "pa.Table":
    import pyarrow.parquet as pq

    with _reading(path), path.open("rb") as stream:
        file = pq.ParquetFile(stream)  # read_table would take columns from folders named a=b
        if "trial" not in file.schema_arrow.names:
            raise ValueError("no column 'trial'")
        return file.read(columns)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a bad file into one message that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise RecordError(f"There are no complete records in {path.parent}: {path.name} is missing.") from error
    except Exception as error:
        raise RecordError(f"{path} is damaged or cannot be read ({error}). Remove it to train again.") from error


@contextmanager
def telling(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a RecordError that names the path and the reason."""
    try:
        yield
    except OSError as error:
        raise RecordError(f"Cannot {doing} {path}: {error.strerror or error}.") from error


def _commit(folder: Path, files: list[tuple[str, Writer]]) -> None:
    """Write all files under temporary names, and only then put them in place, one after the other."""
    # Fixed names under the lock: what a killed process left is overwritten, not piled up.
    staged = [(folder / f".{number}.{name}", folder / name) for number, (name, _) in enumerate(files)]
    try:
        for (temporary, _), (_, write) in zip(staged, files, strict=True):
            _write(temporary, write)
        for temporary, path in staged:
            os.replace(temporary, path)
            _sync(folder)
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def _write(path: Path, write: Writer) -> None:
    with path.open("wb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """Make renames so far durable, in their order."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
