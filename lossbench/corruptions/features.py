"""Wrong inputs."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Array, Examples
from lossbench.validation import check_between, check_range


@dataclass(frozen=True)
class FeatureOutliers(Corruption):
    """A share of a row's features (pixels) is moved up or down by `low` to `high` of their standard deviations.

    share: of the features that vary, rounded, at least one; which ones differs from row to row. Features that never
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
        """Every row with some of its features moved."""
        flat = examples.inputs.reshape(len(examples.inputs), -1)  # [N, F]
        spread = flat.std(0, dtype=np.float64)
        signs = generator.choice([-1.0, 1.0], flat.shape)
        shift = signs * generator.uniform(self.low, self.high, flat.shape) * spread
        moved = np.where(self._picked(spread > 0, len(flat), generator), flat + shift, flat)
        return Corrupted(inputs=moved.astype(flat.dtype).reshape(examples.inputs.shape))

    def _picked(self, varies: Array, n: int, generator: np.random.Generator) -> Array:
        """Which features of each row are moved, `[N, F]`."""
        order = generator.random((n, len(varies)))
        order[:, ~varies] = np.inf  # last, so never picked
        wanted = min(max(1, round(self.share * varies.sum())), varies.sum())
        picked: Array = order.argsort(1).argsort(1) < wanted
        return picked
