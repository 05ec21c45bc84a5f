"""A model: a frozen dataclass that makes the trunk; lossbench adds the head that a loss asks for."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from lossbench import Model
from lossbench.validation import check_count


@dataclass(frozen=True)
class NormedMLP(Model):
    """`depth` hidden layers of `width` units, each with LayerNorm and SiLU, on flattened inputs."""

    use_when = "tables, and more layers than an mlp without norms bears"
    width: int = 64
    depth: int = 3

    def __post_init__(self) -> None:
        check_count(self, width=self.width, depth=self.depth)

    def trunk(self, input_shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """`[B, *input_shape]` to `[B, width]`."""
        sizes = [math.prod(input_shape)] + [self.width] * self.depth
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU()]
        return nn.Sequential(*layers), self.width
