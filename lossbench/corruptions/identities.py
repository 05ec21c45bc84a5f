"""Examples under the wrong identity."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Examples


@dataclass(frozen=True)
class WrongIdentities(Corruption):
    """An example is filed under another class of its split, all with equal chances, never under a held-out class."""

    tasks: ClassVar[tuple[str, ...]] = ("embedding",)
    use_when: ClassVar[str] = "pictures were gathered by name, and some show someone else"

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Draw a different class for every example; with a single class no example can be corrupted."""
        classes, place = np.unique(examples.targets, return_inverse=True)
        # class c + s modulo the number of classes, s from 1 on: any class but c
        steps = generator.integers(1, max(2, len(classes)), len(place))
        targets = classes[(place + steps) % len(classes)].astype(examples.targets.dtype)
        return Corrupted(targets=targets, eligible=targets != examples.targets)
