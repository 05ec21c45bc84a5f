"""Wrong sets of labels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.errors import Incompatible
from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Array, Examples
from lossbench.validation import check_between, check_count

ROUNDING = 1e-9
"""A product may exceed a whole number by this much without being rounded up: 0.56 of 25 is 14.000000000000002."""


def _pick_labels(candidates: Array, n_picked: Array | int, generator: np.random.Generator) -> Array:
    """Pick `n_picked` of each example's candidates with equal chances; a mask `[N, L]`."""
    keys = np.where(candidates, generator.random(candidates.shape), np.inf)  # labels that are no candidates come last
    picked: Array = keys.argsort(1).argsort(1) < np.reshape(n_picked, (-1, 1))  # argsort of argsort is the rank
    return picked


@dataclass(frozen=True)
class MissingPositives(Corruption):
    """An example loses some of its positive labels; no label is added.

    share: of its positives, rounded up, so at least one; the choice differs between examples. Examples without
    positives cannot be corrupted.
    """

    tasks: ClassVar[tuple[str, ...]] = ("multilabel",)
    use_when: ClassVar[str] = "annotators mark some of what is there and overlook the rest"

    share: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Remove positives from every example."""
        positive = examples.targets == 1
        n_lost = np.ceil(self.share * positive.sum(1) - ROUNDING)
        targets = np.where(_pick_labels(positive, n_lost, generator), 0, examples.targets)
        return Corrupted(targets=targets.astype(examples.targets.dtype), eligible=positive.any(1))


@dataclass(frozen=True)
class LabelFlips(Corruption):
    """Some of an example's labels are flipped: 0 becomes 1, and 1 becomes 0.

    count: the number of labels, drawn for each example with equal chances. Raises `Incompatible` if there are fewer
    labels.
    """

    tasks: ClassVar[tuple[str, ...]] = ("multilabel",)
    use_when: ClassVar[str] = "annotators slip, without a pattern: mostly a label too many, as most labels are absent"

    count: int = 1

    def __post_init__(self) -> None:
        check_count(self, count=self.count)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Flip `count` labels of every example."""
        n_labels = examples.targets.shape[1]
        if self.count > n_labels:
            raise Incompatible(f"corruption=label_flips cannot flip {self.count} of {n_labels} labels.")
        flipped = _pick_labels(np.ones_like(examples.targets, dtype=bool), self.count, generator)
        return Corrupted(targets=np.where(flipped, 1 - examples.targets, examples.targets))
