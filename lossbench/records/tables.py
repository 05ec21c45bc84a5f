"""Records as Arrow tables, with the columns that files have."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.records.values import Record
from lossbench.types import Array

if TYPE_CHECKING:  # it takes longer to import than a command line may take to answer
    import pyarrow as pa

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
