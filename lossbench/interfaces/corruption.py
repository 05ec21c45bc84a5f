"""The interface of corruptions of training and validation examples."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from lossbench.types import Array, Examples


class Corrupted(NamedTuple):
    """The corrupted version of *every* example, which the caller takes for exactly the share of the corruption rate.

    None: that side is left as it is. `eligible`: a mask of the examples that can be corrupted, None for all.
    """

    inputs: Array | None = None
    targets: Array | None = None
    eligible: Array | None = None


class Corruption(ABC):
    """Draws a corrupted version of each example. A frozen dataclass, as losses are.

    The caller shuffles the examples once per (data, kind, seed) and takes the first ones, up to the corruption rate. So
    the realised share is exact, and a higher rate contains the examples of a lower one, with the same values.
    """

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it makes sense for."""
    use_when: ClassVar[str] = ""
    """The mistake in real data that it stands for."""

    @abstractmethod
    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Return the corrupted version of every example (one split of one seed). A label must really change."""
