"""A corruption: what goes wrong with training and validation examples."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from lossbench.types import Array, Examples


class Corrupted(NamedTuple):
    """The corrupted version of *every* row; the caller takes it for exactly the asked share of rows.

    None: that side is left as it is. `eligible`: rows that can be corrupted, None for all.
    """

    inputs: Array | None = None
    targets: Array | None = None
    eligible: Array | None = None


class Corruption(ABC):
    """Draws what each row would be if it were corrupted. A frozen dataclass, as losses are.

    The caller shuffles the rows once per (data, kind, seed) and takes the first `rate` of them. So the realised share
    is exact and a higher rate contains the rows of a lower one, with the same values.
    """

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it makes sense for."""
    use_when: ClassVar[str] = ""
    """What mishap it stands for."""

    @abstractmethod
    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """The corrupted version of every row of `examples` (one split of one seed). A label must really change."""
