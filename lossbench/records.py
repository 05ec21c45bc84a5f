"""What a trial leaves on disk: written whole or not at all, safe against kills and concurrent processes.

A folder (one experiment) holds ``curves.parquet``, ``test.parquet``, ``config.yaml`` and ``trials.parquet``, and where
its examples can be drawn ``predictions.parquet`` and ``samples.npz``. ``trials.parquet`` is replaced last: a trial
exists only if it is there, and rows of other trials in the other files are nobody's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lossbench.errors import InvalidValue
from lossbench.types import Array

if TYPE_CHECKING:  # it takes longer to import than a command line may take to answer
    import pandas as pd

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # it takes longer to import than a command line may take to answer
    import pyarrow as pa

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lossbench.errors import LossbenchError

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
    """What one trial leaves.

    trial: 16 hexadecimal digits, the hash of the trial's settings.
    row: its row of ``trials.parquet``: settings, status and metrics, as plain scalars.
    steps, seconds: ``[E]``, where and when (since the start of training) it was evaluated.
    curves: ``(split, metric) -> [E]``, split being train, validation or test.
    test_index: ``[n_test]``, the test examples' row numbers in the data set.
    scores: ``"last"`` and ``"best"`` (epoch) -> ``[n_test]``, the primary metric's score per test example; empty where
        it has none.
    samples: the first test examples, where they can be drawn.
    shown: ``"last"`` and ``"best"`` -> ``[n, K]``, what a picture shows of the predictions on them (`Task.shown`).
    test_groups: ``[n_test]``, whole numbers; None where the test examples do not come in groups.
    others: metric -> ``[n_test]``, scores at the last epoch whose mean is that metric.

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
    shown: dict[str, Array] = field(default_factory=dict)
    test_groups: Array | None = None
    others: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        curves = {f"The curve {split}/{metric}": c for (split, metric), c in self.curves.items()}
        scores = {f"The {epoch} scores": s for epoch, s in self.scores.items()}
        self._check(len(self.steps), {"The seconds": self.seconds} | curves)
        scores |= {f"The scores of {name}": s for name, s in self.others.items()}
        groups = {} if self.test_groups is None else {"The groups": self.test_groups}
        self._check(len(self.test_index), scores | groups)
        shown = {f"The {epoch} predictions": s for epoch, s in self.shown.items()}
        self._check(0 if self.samples is None else len(self.samples.inputs), shown)

    def _check(self, wanted: int, arrays: Mapping[str, Array]) -> None:
        for what, array in arrays.items():
            if len(array) != wanted:
                raise InvalidValue(f"{what} of trial {self.trial} must have {wanted} values. Got {len(array)} instead.")


@dataclass
class Results:
    """What one experiment's folder holds, as tables (see `Record` for their columns' meaning)."""

    trials: "pd.DataFrame"  # one row per trial
    curves: "pd.DataFrame"  # trial, step, seconds, split, metric, value
    test: "pd.DataFrame"  # trial, example, epoch, score; where known, group and score/METRIC
    config: dict[str, Any]
    predictions: "pd.DataFrame | None" = None  # trial, example, epoch, values; None where nothing can be drawn
    samples: Samples | None = None


GROUP = "group"


def score_of(metric: str) -> str:
    """The column of ``test.parquet`` with the scores of a metric that is not the primary one."""
    return f"score/{metric}"


def build_trials(rows: list[dict[str, Any]]) -> "pa.Table":
    """A row per trial, with the columns of any."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row)) or ["trial", "status"]
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> "pa.Array":
    """One column, as text where the values' types do not go together: records are not lost for that."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])


def build_curves(records: Sequence[Record]) -> "pa.Table":
    """A row per trial, split, metric and evaluation."""
    import pyarrow as pa

    parts = [(r, split, metric, values) for r in records for (split, metric), values in r.curves.items()]
    lengths = [len(values) for *_, values in parts]
    columns = {
        "trial": _categories([r.trial for r, *_ in parts], lengths),
        "step": _joined([r.steps for r, *_ in parts], np.int64),
        "seconds": _joined([r.seconds for r, *_ in parts], np.float64),
        "split": _categories([split for _, split, _, _ in parts], lengths),
        "metric": _categories([metric for *_, metric, _ in parts], lengths),
        "value": _joined([values for *_, values in parts], np.float64),
    }
    return pa.table(columns)


def build_test(records: Sequence[Record]) -> "pa.Table":
    """A row per trial, epoch and test example."""
    import pyarrow as pa

    parts = [(r, epoch) for r in records for epoch in r.scores or (["last"] if r.others else [])]
    lengths = [len(r.test_index) for r, _ in parts]

    def joined(pick: Callable[[Record, str], Array | None], kind: type = np.float64) -> Array:
        held = [(pick(*part), n) for part, n in zip(parts, lengths, strict=True)]
        return _joined([np.full(n, np.nan) if x is None else x for x, n in held], kind)

    columns = {
        "trial": _categories([r.trial for r, _ in parts], lengths),
        "example": joined(lambda r, _: r.test_index, np.int64),
        "epoch": _categories([epoch for _, epoch in parts], lengths),
        "score": joined(lambda r, epoch: r.scores.get(epoch)),
    }
    if parts and all(r.test_groups is not None for r, _ in parts):
        columns[GROUP] = joined(lambda r, _: r.test_groups, np.int64)
    for name in dict.fromkeys(name for r in records for name in r.others):
        columns[score_of(name)] = joined(partial(_other, name), np.float32)
    return pa.table(columns)


def _other(name: str, record: Record, epoch: str) -> Array | None:
    return record.others.get(name) if epoch == "last" else None


def build_predictions(records: Sequence[Record]) -> "pa.Table":
    """A row per trial, epoch and test example that can be drawn."""
    import pyarrow as pa

    parts = [(r, epoch, values) for r in records for epoch, values in r.shown.items()]
    lengths = [len(values) for *_, values in parts]
    widths = [np.full(len(values), values.shape[1]) for *_, values in parts]
    edges = np.concatenate([[0], np.cumsum(_joined(widths, np.int64))])
    flat = _joined([values.ravel() for *_, values in parts], np.float64)
    columns = {
        "trial": _categories([r.trial for r, *_ in parts], lengths),
        "example": _joined([r.test_index[: len(values)] for r, _, values in parts], np.int64),
        "epoch": _categories([epoch for _, epoch, _ in parts], lengths),
        "values": pa.ListArray.from_arrays(pa.array(edges, pa.int32()), pa.array(flat)),
    }
    return pa.table(columns)


def _categories(names: list[str], lengths: list[int]) -> "pa.DictionaryArray":
    """Each name as often as its length says, dictionary-encoded."""
    import pyarrow as pa

    encoded = pa.array(names, pa.string()).dictionary_encode()
    codes = np.repeat(encoded.indices.to_numpy(zero_copy_only=False), lengths)
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), encoded.dictionary)


def _joined(parts: list[Array], kind: type) -> Array:
    return np.concatenate([np.zeros(0, kind), *(np.asarray(part, kind) for part in parts)])


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
    with explain_errors("write", folder):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=place, prefix=".") as stream:
            stream.write(b"\0")
    for name in (TRIALS, CURVES, TEST, PREDICTIONS):
        if (folder / name).exists():
            _read(folder / name, [])  # the footer only, which a cut file lacks


def read_statuses(folder: Path) -> dict[str, str]:
    """The status of every trial on record in `folder`, by id."""
    if not (folder / TRIALS).exists():
        return {}
    rows = _read(folder / TRIALS, ["trial", "status"])
    return dict(zip(rows["trial"].to_pylist(), rows["status"].to_pylist(), strict=True))


def find_finished(folder: Path) -> set[str]:
    """Ids of the trials that need no further training: finished or diverged (others are tried again)."""
    return {trial for trial, status in read_statuses(folder).items() if status in ("finished", "diverged")}


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


def read_columns(folder: Path, name: str, wanted: Callable[[str], bool]) -> "pa.Table":
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
    with explain_errors("write", folder):
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
    withdrawal = [(TRIALS, _parquet(build_trials(kept)))] if len(kept) < len(old) else []
    return [
        *withdrawal,
        (CURVES, _parquet(_merged(folder / CURVES, ids, build_curves(fresh)))),
        (TEST, _parquet(_merged(folder / TEST, ids, build_test(fresh)))),
        *_pictures(folder, ids, fresh),
        (CONFIG, lambda stream: stream.write(text.encode())),
        (TRIALS, _parquet(build_trials(kept + [{"trial": r.trial} | r.row | {"trial": r.trial} for r in fresh]))),
    ]


def _pictures(folder: Path, kept: "pa.Array", fresh: Sequence[Record]) -> list[tuple[str, Writer]]:
    """Samples and what was predicted of them; nothing for tasks without pictures."""
    path, samples = folder / PREDICTIONS, next((r.samples for r in fresh if r.samples is not None), None)
    if samples is None and not path.exists():
        return []
    merged = _merged(path, kept if path.exists() else kept[:0], build_predictions(fresh))
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
def explain_errors(doing: str, path: Path) -> Iterator[None]:
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
