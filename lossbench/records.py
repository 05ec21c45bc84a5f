"""Records: what a trial leaves on disk, written as a whole or not at all, safe against kills and concurrent processes.

A folder (one experiment) holds ``curves.parquet``, ``test.parquet``, ``config.yaml`` and ``trials.parquet``, and where
its examples can be drawn ``predictions.parquet`` and ``samples.npz``. ``trials.parquet`` is replaced last: a trial
exists only if it is there, and readers ignore rows of unknown trials in the other files.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from lossbench.errors import InvalidValue, LossbenchError
from lossbench.types import Array

if TYPE_CHECKING:  # pandas and pyarrow take longer to import than a command line may take to answer
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Samples:
    """Test examples to be drawn. They depend on the data only, so all trials of a folder have the same.

    kind: the task's `Picture`.
    inputs, targets: ``[n, C, H, W]`` and ``[n, ...]``, raw.
    class_names: as in `Examples`.
    """

    kind: str
    inputs: Array
    targets: Array
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """The record of one trial.

    trial: 16 hexadecimal digits, the hash of the trial's settings.
    row: its row of ``trials.parquet``: settings, status and metrics, as plain scalars.
    steps, seconds: ``[E]``, the steps and times (since the start of training) of its evaluations.
    curves: ``(split, metric) -> [E]``, split being train, validation or test.
    test_index: ``[n_test]``, the test examples' positions in the data set.
    scores: ``"last"`` and ``"best"`` (epoch) -> ``[n_test]``, the primary metric's score per test example; empty where
        it has none.
    samples: the first test examples, where they can be drawn.
    predictions: ``"last"`` and ``"best"`` -> ``[n, K]``, the predictions on the samples, as pictures need them.
    test_groups: ``[n_test]``, whole numbers; None where the test examples do not come in groups.
    other_scores: metric -> ``[n_test]``, scores at the last epoch whose mean is that metric.

    Raises InvalidValue when lengths do not agree.
    """

    trial: str
    row: dict[str, Any]
    steps: Array
    seconds: Array
    curves: dict[tuple[str, str], Array]
    test_index: Array
    scores: dict[str, Array]
    samples: Samples | None = None
    predictions: dict[str, Array] = field(default_factory=dict)
    test_groups: Array | None = None
    other_scores: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # 1. as many as evaluations
        curves = {f"The curve {split}/{metric}": c for (split, metric), c in self.curves.items()}
        self._check_lengths(len(self.steps), {"The seconds": self.seconds} | curves)
        # 2. as many as test examples
        scores = {f"The {epoch} scores": s for epoch, s in self.scores.items()}
        scores |= {f"The scores of {name}": s for name, s in self.other_scores.items()}
        groups = {} if self.test_groups is None else {"The groups": self.test_groups}
        self._check_lengths(len(self.test_index), scores | groups)
        # 3. as many as samples
        predictions = {f"The {epoch} predictions": p for epoch, p in self.predictions.items()}
        self._check_lengths(0 if self.samples is None else len(self.samples.inputs), predictions)

    def _check_lengths(self, length: int, arrays: Mapping[str, Array]) -> None:
        for label, array in arrays.items():
            if len(array) != length:
                raise InvalidValue(
                    f"{label} of trial {self.trial} must have {length} values. Got {len(array)} instead."
                )


@dataclass
class Results:
    """The records of one experiment's folder, as tables (see `Record` for the meaning of their columns)."""

    trials: "pd.DataFrame"  # one row per trial
    curves: "pd.DataFrame"  # trial, step, seconds, split, metric, value
    test: "pd.DataFrame"  # trial, example, epoch, score; where known, group and score/METRIC
    config: dict[str, Any]
    predictions: "pd.DataFrame | None" = None  # trial, example, epoch, values; None where nothing can be drawn
    samples: Samples | None = None


GROUP = "group"


def name_score_column(metric: str) -> str:
    """Return the column of ``test.parquet`` with the scores of a metric that is not the primary one."""
    return f"score/{metric}"


def build_trials(rows: list[dict[str, Any]]) -> "pa.Table":
    """Build the table with a row per trial and every column that occurs in any row."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row)) or ["trial", "status"]
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            # values of several types become text: records are not lost for that
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    return pa.table(columns)


def build_curves(records: Sequence[Record]) -> "pa.Table":
    """Build the table with a row per trial, split, metric and evaluation."""
    import pyarrow as pa

    parts = [(r, split, metric, values) for r in records for (split, metric), values in r.curves.items()]
    lengths = [len(values) for *_, values in parts]
    columns = {
        "trial": _repeat_names([r.trial for r, *_ in parts], lengths),
        "step": _concatenate([r.steps for r, *_ in parts], np.int64),
        "seconds": _concatenate([r.seconds for r, *_ in parts], np.float64),
        "split": _repeat_names([split for _, split, _, _ in parts], lengths),
        "metric": _repeat_names([metric for *_, metric, _ in parts], lengths),
        "value": _concatenate([values for *_, values in parts], np.float64),
    }
    return pa.table(columns)


def build_test(records: Sequence[Record]) -> "pa.Table":
    """Build the table with a row per trial, epoch and test example."""
    import pyarrow as pa

    # a trial without scores of the primary metric may have others, of the last epoch
    parts = [(r, epoch) for r in records for epoch in r.scores or (["last"] if r.other_scores else [])]
    lengths = [len(r.test_index) for r, _ in parts]

    def concatenate(arrays: Sequence[Array | None], kind: type = np.float64) -> Array:
        filled = [np.full(n, np.nan) if array is None else array for array, n in zip(arrays, lengths, strict=True)]
        return _concatenate(filled, kind)

    columns = {
        "trial": _repeat_names([r.trial for r, _ in parts], lengths),
        "example": concatenate([r.test_index for r, _ in parts], np.int64),
        "epoch": _repeat_names([epoch for _, epoch in parts], lengths),
        "score": concatenate([r.scores.get(epoch) for r, epoch in parts]),
    }
    if parts and all(r.test_groups is not None for r, _ in parts):
        columns[GROUP] = concatenate([r.test_groups for r, _ in parts], np.int64)
    for name in dict.fromkeys(name for r in records for name in r.other_scores):
        scores = [r.other_scores.get(name) if epoch == "last" else None for r, epoch in parts]
        columns[name_score_column(name)] = concatenate(scores, np.float32)
    return pa.table(columns)


def build_predictions(records: Sequence[Record]) -> "pa.Table":
    """Build the table with a row per trial, epoch and test example that can be drawn."""
    import pyarrow as pa

    parts = [(r, epoch, values) for r in records for epoch, values in r.predictions.items()]
    lengths = [len(values) for *_, values in parts]
    # lists of numbers, as Arrow keeps them: all numbers in one array, and the edges between the lists
    widths = [np.full(len(values), values.shape[1]) for *_, values in parts]
    edges = np.concatenate([[0], np.cumsum(_concatenate(widths, np.int64))])
    flat = _concatenate([values.ravel() for *_, values in parts], np.float64)
    columns = {
        "trial": _repeat_names([r.trial for r, *_ in parts], lengths),
        "example": _concatenate([r.test_index[: len(values)] for r, _, values in parts], np.int64),
        "epoch": _repeat_names([epoch for _, epoch, _ in parts], lengths),
        "values": pa.ListArray.from_arrays(pa.array(edges, pa.int32()), pa.array(flat)),
    }
    return pa.table(columns)


def _repeat_names(names: list[str], lengths: list[int]) -> "pa.DictionaryArray":
    """Return each name as often as its length says, dictionary-encoded."""
    import pyarrow as pa

    encoded = pa.array(names, pa.string()).dictionary_encode()
    codes = np.repeat(encoded.indices.to_numpy(zero_copy_only=False), lengths)
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), encoded.dictionary)


def _concatenate(parts: list[Array], kind: type) -> Array:
    return np.concatenate([np.zeros(0, kind), *(np.asarray(part, kind) for part in parts)])  # also of no parts


TRIALS, CURVES, TEST, CONFIG = "trials.parquet", "curves.parquet", "test.parquet", "config.yaml"
PREDICTIONS, SAMPLES = "predictions.parquet", "samples.npz"
LOCK_SECONDS = 60.0
"""The time that a save waits for another process: one that holds the lock for longer is stopped."""
DAMAGED = ".damaged"
"""The end of the name of a file that was set aside."""
COLUMNS = {
    TRIALS: ("trial", "status"),
    CURVES: ("trial", "step", "seconds", "split", "metric", "value"),
    TEST: ("trial", "example", "epoch", "score"),
    PREDICTIONS: ("trial", "example", "epoch", "values"),
}
"""Columns without which a table is not ours."""
DIGEST = b"lossbench.columns"
"""The key, in a table's metadata, of a digest of its columns' names and its number of rows."""
UNTRAINED = ("failed", "skipped")
"""Statuses with a reason: failed, if training raised; skipped, if the loss or corruption cannot take the data."""

Writer = Callable[[IO[bytes]], object]


class RecordError(LossbenchError):
    """Records cannot be written or read: names the path and the reason.

    reason: what is wrong with the file, without its path.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def save(folder: Path, records: Sequence[Record], config: Mapping[str, Any]) -> None:
    """Merge `records` into `folder` (a trial that is there already is replaced), atomically.

    Raises RecordError when the folder cannot be written or holds a damaged file; it is then as it was, but for rows
    that readers ignore.
    """
    if not records:
        return
    with lock_folder(folder):
        _replace_files(folder, _merge_files(folder, {record.trial: record for record in records}, config))


def check_writable(folder: Path) -> None:
    """Raise RecordError if `save` could not write in `folder`. Creates nothing."""
    with explain_errors("write", folder):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=place, prefix=".") as stream:
            stream.write(b"\0")


def find_damage(folder: Path) -> dict[str, str]:
    """Return what is wrong with the files of a folder that has trials on record, by name: reads all that they hold."""
    if not os.path.lexists(folder / TRIALS):
        return {}  # no trial exists: what a killed save has left is nobody's
    present = [name for name in (TRIALS, CURVES, TEST, CONFIG, PREDICTIONS, SAMPLES) if os.path.lexists(folder / name)]
    readers: dict[str, Callable[[], object]] = {
        CONFIG: lambda: load_config(folder),
        SAMPLES: lambda: _load_samples(folder),
    }
    damage = {}
    for name in present:
        try:
            readers.get(name, lambda name=name: _read(folder / name))()
        except RecordError as error:
            damage[name] = error.reason
    needed = [CURVES, TEST, CONFIG, *([SAMPLES] if PREDICTIONS in present else [])]  # a killed save may leave samples
    return damage | {name: "it is missing" for name in needed if name not in present}


def set_aside_damage(folder: Path, config: Mapping[str, Any] | None = None) -> list[str]:
    """Rename damaged files, so that their trials can be trained again, and return a line on each.

    A trial needs its row, curves and scores: without one of these files no trial of the folder is whole, and all three
    are renamed. Predictions and samples go together; trials are whole without them. config: what `config.yaml` is to
    hold, if that is damaged; without it the file is left as it is.
    """
    if not os.path.lexists(folder / TRIALS):
        return []
    with lock_folder(folder):
        damage = find_damage(folder)
        moved: set[str] = set()
        for group in ({TRIALS, CURVES, TEST}, {PREDICTIONS, SAMPLES}):
            moved |= group if group & damage.keys() else set()
        for name in sorted(moved):
            if os.path.lexists(folder / name):
                os.replace(folder / name, _choose_free_path(folder / f"{name}{DAMAGED}"))
        if CONFIG in damage and config is not None:
            if (folder / CONFIG).is_dir():
                os.replace(folder / CONFIG, _choose_free_path(folder / f"{CONFIG}{DAMAGED}"))
            _replace_files(folder, [(CONFIG, _write_config(config))])
    lines = []
    for name, reason in damage.items():
        if name == CONFIG:
            outcome = "it is written anew" if config is not None else "the next training in this folder writes it anew"
        elif name in (PREDICTIONS, SAMPLES):
            outcome = "nothing is drawn of these trials"
        else:
            outcome = "its trials are to be trained again"
        lines.append(f"{folder / name} is damaged ({reason}): {outcome}.")
    return lines


def _choose_free_path(path: Path) -> Path:
    """Return the path, with a number behind it if it is taken: what was set aside before stays."""
    paths = (path.with_name(f"{path.name}-{number}") if number > 1 else path for number in count(1))
    return next(free for free in paths if not os.path.lexists(free))


def read_statuses(folder: Path) -> dict[str, str]:
    """Return the status of every trial on record in `folder`, by id."""
    if not (folder / TRIALS).exists():
        return {}
    rows = _read(folder / TRIALS, ["trial", "status"])
    return dict(zip(rows["trial"].to_pylist(), rows["status"].to_pylist(), strict=True))


def find_finished(folder: Path) -> set[str]:
    """Return the ids of the trials that need no further training: finished or diverged (others are tried again)."""
    return {trial for trial, status in read_statuses(folder).items() if status in ("finished", "diverged")}


def load(folder: Path) -> Results:
    """Read a folder's records. Raises RecordError naming the file that is missing or damaged."""
    # 1. trials first: a concurrent save only adds to the files that are read after it
    trials = _read(folder / TRIALS)
    known = trials["trial"]
    # 2. rows of these trials in the other tables
    curves, test = (_select_rows(_read(folder / name), known).to_pandas() for name in (CURVES, TEST))
    config = load_config(folder)
    # 3. predictions that can be drawn
    predictions, samples = None, None
    if (folder / PREDICTIONS).exists():
        predictions = _select_rows(_read(folder / PREDICTIONS), known).to_pandas()
        samples = _load_samples(folder)
    return Results(trials.to_pandas(), curves, test, config, predictions, samples)


def load_config(folder: Path) -> dict[str, Any]:
    """Read the settings of a folder's experiment, as plain values. Raises RecordError as `load` does."""
    import yaml

    with _open(folder / CONFIG) as stream:
        return dict(yaml.safe_load(stream.read().decode()) or {})


def _load_samples(folder: Path) -> Samples:
    with _open(folder / SAMPLES) as stream, np.load(stream) as arrays:
        class_names = tuple(arrays["class_names"].tolist())
        return Samples(str(arrays["kind"]), arrays["inputs"], arrays["targets"], class_names)


def read_columns(folder: Path, name: str, is_needed: Callable[[str], bool]) -> "pa.Table":
    """Read some columns of one of a folder's tables. Raises RecordError as `load` does."""
    import pyarrow.parquet as pq

    with _open(folder / name) as stream:
        names = pq.read_schema(stream).names
    return _read(folder / name, [column for column in names if is_needed(column)])


def find_folders(root: Path) -> list[Path]:
    """Return every folder at or below `root` that holds records, sorted."""
    return sorted(path.parent for path in root.rglob(TRIALS))


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock `folder` (made if missing) against other processes. An OSError inside becomes a RecordError."""
    with explain_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("ab") as stream:
            _wait_for_lock(stream, folder)  # the kernel drops it with the process: a kill locks nobody out
            yield


def _wait_for_lock(stream: IO[bytes], folder: Path) -> None:
    """Lock a file once nobody else does. Raises RecordError after `LOCK_SECONDS`: a lock is held for one save only."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise RecordError(
                    f"Another process has locked {folder} for {LOCK_SECONDS:.0f} s. It may be stopped: end it."
                ) from error
        time.sleep(0.02)


def _merge_files(folder: Path, new: dict[str, Record], config: Mapping[str, Any]) -> list[tuple[str, Writer]]:
    """Return the names and writers of the folder's files with the new records, in the order of their replacement."""
    import pyarrow as pa

    records = list(new.values())
    old_rows = _read(folder / TRIALS).to_pylist() if (folder / TRIALS).exists() else []
    kept_rows = [row for row in old_rows if row["trial"] not in new]
    kept = pa.array([row["trial"] for row in kept_rows], pa.string())  # ids
    files: list[tuple[str, Writer]] = []

    def add(name: str, table: "pa.Table") -> None:
        files.append((name, _write_parquet(table)))

    # 1. replaced trials are withdrawn, lest an old row be read with new curves
    if len(kept_rows) < len(old_rows):
        add(TRIALS, build_trials(kept_rows))
    # 2. curves and scores
    add(CURVES, _append_rows(folder / CURVES, kept, build_curves(records)))
    add(TEST, _append_rows(folder / TEST, kept, build_test(records)))
    # 3. predictions, of tasks whose examples can be drawn
    samples = next((r.samples for r in records if r.samples is not None), None)
    path = folder / PREDICTIONS
    if samples is not None:
        files.append((SAMPLES, _write_samples(samples)))
    if samples is not None or path.exists():
        add(PREDICTIONS, _append_rows(path, kept if path.exists() else kept[:0], build_predictions(records)))
    # 4. settings
    files.append((CONFIG, _write_config(config)))
    # 5. trials last: from here on the new ones exist; the id comes first, whatever the row says
    new_rows = [{"trial": r.trial} | r.row | {"trial": r.trial} for r in records]
    add(TRIALS, build_trials(kept_rows + new_rows))
    return files


def _write_config(config: Mapping[str, Any]) -> Writer:
    import yaml

    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return lambda stream: stream.write(text.encode())


def _write_samples(samples: Samples) -> Writer:
    names = np.array(samples.class_names, str)
    arrays = {"kind": np.array(str(samples.kind)), "inputs": samples.inputs, "targets": samples.targets}
    return lambda stream: np.savez_compressed(stream, allow_pickle=False, class_names=names, **arrays)


def _write_parquet(table: "pa.Table") -> Writer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # dictionaries pay for names and counts, not for floats
    encoded = [f.name for f in table.schema if not (pa.types.is_floating(f.type) or pa.types.is_list(f.type))]
    table = table.unify_dictionaries()
    # pages have checksums, names of columns and numbers of rows do not
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), DIGEST: _digest(table.column_names, table.num_rows)}
    )
    return lambda stream: pq.write_table(
        table, stream, compression="zstd", use_dictionary=encoded, write_page_checksum=True
    )


def _digest(names: Sequence[str], n_rows: int) -> bytes:
    return hashlib.sha256("\n".join([*names, str(n_rows)]).encode()).hexdigest()[:16].encode()


def _append_rows(path: Path, kept: "pa.Array", new: "pa.Table") -> "pa.Table":
    """Return the rows of the kept trials from the file at `path`, and the new ones after them."""
    import pyarrow as pa

    old = [_select_rows(_read(path), kept)] if len(kept) else []
    return pa.concat_tables([*old, new], promote_options="default")  # older files lack some columns


def _select_rows(table: "pa.Table", trials: "pa.Array") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table["trial"].cast(pa.string()), value_set=trials)).unify_dictionaries()


def _read(path: Path, columns: list[str] | None = None) -> "pa.Table":
    import pyarrow.parquet as pq

    with _open(path) as stream:
        # read_table would take columns from folders named a=b
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        if lacking := [name for name in COLUMNS[path.name] if name not in file.schema_arrow.names]:
            raise ValueError(f"no column {lacking[0]!r}")
        digest = (file.schema_arrow.metadata or {}).get(DIGEST)  # older files have none
        table = file.read(columns)
        if digest not in (None, _digest(file.schema_arrow.names, table.num_rows)):
            raise ValueError("its columns' names or its number of rows have changed")
        return table


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, and turn whatever a library raises on what it holds into one message that names the file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would wait for a writer, for ever
            raise ValueError("it is no regular file")  # noqa: TRY301
        with path.open("rb") as stream:
            yield stream
    except FileNotFoundError as error:
        message = f"There are no complete records in {path.parent}: {path.name} is missing."
        raise RecordError(message, "it is missing") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecordError(
            f"{path} is damaged or cannot be read ({reason}). `lossbench repair` sets it aside, and the next "
            "training replaces its trials.",
            reason,
        ) from error


@contextmanager
def explain_errors(verb: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a RecordError that names the path and the reason. The verb: "write", "read"."""
    try:
        yield
    except OSError as error:
        raise RecordError(f"Cannot {verb} {path}: {error.strerror or error}.") from error


def _replace_files(folder: Path, files: list[tuple[str, Writer]]) -> None:
    """Write all files under temporary names, and only then put them in place, one after the other."""
    # Fixed names under the lock: what a killed process left is overwritten, not piled up.
    staged = [(folder / f".{number}.{name}", folder / name) for number, (name, _) in enumerate(files)]
    try:
        # 1. write, and wait for the disk
        for (temporary, _), (_, write) in zip(staged, files, strict=True):
            _write(temporary, write)
        # 2. rename, and make each rename durable before the next: the order counts after a power cut, too
        for temporary, path in staged:
            os.replace(temporary, path)
            _sync_folder(folder)
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def _write(path: Path, write: Writer) -> None:
    with path.open("wb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
