"""A corruption: a frozen dataclass that says what each row would be if it were wrong."""

from dataclasses import dataclass

import numpy as np

from lossbench import Corruption
from lossbench.interfaces import Corrupted
from lossbench.types import Examples
from lossbench.validation import check_share


@dataclass(frozen=True)
class Underreporting(Corruption):
    """Of each count one event is missed, and each other one with probability `missed`. Counts of 0 stay."""

    tasks = ("counts",)
    use_when = "some of those who count do it carelessly, and what they miss leaves no trace"
    missed: float = 0.5

    def __post_init__(self) -> None:
        check_share(self, missed=self.missed)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Every row as it would be reported; lossbench takes this for the share of rows that `rates` asks for."""
        counts = examples.targets.astype(np.int64)
        some = counts > 0
        missed = some + generator.binomial(np.maximum(counts - 1, 0), self.missed)
        reported = (counts - missed).astype(examples.targets.dtype)
        return Corrupted(targets=reported, eligible=some.any(1))
