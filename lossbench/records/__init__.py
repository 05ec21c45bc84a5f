"""What a trial leaves on disk: written whole or not at all, safe against kills and concurrent processes.

A folder (one experiment) holds ``curves.parquet``, ``test.parquet``, ``config.yaml`` and ``trials.parquet``, and where
its examples can be drawn ``predictions.parquet`` and ``samples.npz``. ``trials.parquet`` is replaced last: a trial
exists only if it is there, and rows of other trials in the other files are nobody's.
"""

from lossbench.records.files import (
    CONFIG,
    CURVES,
    PREDICTIONS,
    SAMPLES,
    TEST,
    TRIALS,
    UNTRAINED,
    RecordError,
    check_writable,
    columns,
    find,
    finished,
    load,
    load_config,
    save,
    statuses,
    telling,
    writing,
)
from lossbench.records.record import GROUP, Record, Results, Samples, score_of

__all__ = [
    "CONFIG",
    "CURVES",
    "GROUP",
    "PREDICTIONS",
    "SAMPLES",
    "TEST",
    "TRIALS",
    "UNTRAINED",
    "Record",
    "RecordError",
    "Results",
    "Samples",
    "check_writable",
    "columns",
    "find",
    "finished",
    "load",
    "load_config",
    "save",
    "score_of",
    "statuses",
    "telling",
    "writing",
]
