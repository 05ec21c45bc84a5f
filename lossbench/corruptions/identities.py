"""Examples under the wrong identity."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Examples


@dataclass(frozen=True)
class WrongIdentities(Corruption):
    """An example is filed under another class of its split, each being as likely: never under one that is held out."""

    tasks: ClassVar[tuple[str, ...]] = ("embedding",)
    use_when: ClassVar[str] = "pictures were gathered by name, and some show someone else"

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """A different class for every row; none can be corrupted where there is one class only."""
        classes, place = np.unique(examples.targets, return_inverse=True)
        steps = generator.integers(1, max(2, len(classes)), len(place))
        targets = classes[(place + steps) % len(classes)].astype(examples.targets.dtype)
        return Corrupted(targets=targets, eligible=targets != examples.targets)
