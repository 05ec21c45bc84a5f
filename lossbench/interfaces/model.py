"""A model: the trunk that every loss of a comparison shares; the head is added by the engine."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn


class Model(ABC):
    """Makes a trunk. A frozen dataclass, as losses are."""

    sequence: ClassVar[bool] = False
    """Its features are one vector per time step, `[B, T, width]`, and not one per example."""
    use_when: ClassVar[str] = ""
    """One line of advice."""

    @abstractmethod
    def trunk(self, input_shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """Return a module from `[B, *input_shape]` to `[B, width]` (`[B, T, width]` if `sequence`), and that width.

        An `nn.Sequential` of well-known layers trains fastest in a stack. Initial weights are drawn under a seeded
        generator, so leave the layers as their constructors make them.
        """
