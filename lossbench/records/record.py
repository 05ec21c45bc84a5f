"""What one trial leaves, what a folder of trials holds, and both as Arrow tables with the columns that files have."""

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


def trials_table(rows: list[dict[str, Any]]) -> "pa.Table":
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


def curves_table(records: Sequence[Record]) -> "pa.Table":
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


def test_table(records: Sequence[Record]) -> "pa.Table":
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


def predictions_table(records: Sequence[Record]) -> "pa.Table":
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
