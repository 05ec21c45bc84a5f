"""No corruption at all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Examples


@dataclass(frozen=True)
class NoCorruption(Corruption):
    """Leaves everything as it is."""

    name: ClassVar[str] = "none"
    tasks: ClassVar[tuple[str, ...]] = ("*",)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Change nothing: no example is eligible."""
        return Corrupted(eligible=np.zeros(len(examples.targets), dtype=bool))
