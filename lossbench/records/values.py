"""What one trial leaves, and what a folder of trials holds, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lossbench.errors import InvalidValue
from lossbench.types import Array

if TYPE_CHECKING:  # it takes longer to import than a command line may take to answer
    import pandas as pd


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
