"""Wrong inputs."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Examples
from lossbench.validation import check_between, check_range


@dataclass(frozen=True)
class FeatureOutliers(Corruption):
    """A share of an example's features (pixels) is moved up or down by `low` to `high` of their standard deviations.

    share: of the features that vary, rounded, at least one; the choice differs between examples. Features that never
    vary stay as they are. Pixels leave their range.
    """

    tasks: ClassVar[tuple[str, ...]] = ("*",)
    use_when: ClassVar[str] = "broken sensors or dead pixels in the inputs; the targets are right"

    share: float = 0.1
    low: float = 10.0
    high: float = 15.0

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)
        check_range(self, self.low, self.high)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Move some features of every example."""
        flat = examples.inputs.reshape(len(examples.inputs), -1)  # [N, F]
        spread = flat.std(0, dtype=np.float64)  # [F]
        # 1. draw how far each feature would move
        signs = generator.choice([-1.0, 1.0], flat.shape)
        shift = signs * generator.uniform(self.low, self.high, flat.shape) * spread
        # 2. draw a random order of each example's features, those that never vary last
        order = generator.random(flat.shape)
        order[:, spread == 0] = np.inf
        # 3. move the first ones in this order: argsort of argsort is the rank
        n_varying = (spread > 0).sum()
        n_moved = min(max(1, round(self.share * n_varying)), n_varying)
        moved = np.where(order.argsort(1).argsort(1) < n_moved, flat + shift, flat)
        return Corrupted(inputs=moved.astype(flat.dtype).reshape(examples.inputs.shape))
