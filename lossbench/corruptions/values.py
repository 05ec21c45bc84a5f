"""Wrong real targets."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.interfaces.task import robust_scale
from lossbench.types import Array, Examples
from lossbench.validation import check_positive, check_range


def _shift_targets(targets: Array, shift: Array) -> Array:
    """Move `targets` `[N, D]` by `shift`, in robust standard deviations of each output."""
    return (targets + shift * robust_scale(targets)[1]).astype(targets.dtype)


@dataclass(frozen=True)
class SymmetricOutliers(Corruption):
    """Targets are moved up or down by `low` to `high` (uniformly) robust standard deviations."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    use_when: ClassVar[str] = "gross errors of measurement in both directions"

    low: float = 10.0
    high: float = 15.0

    def __post_init__(self) -> None:
        check_range(self, self.low, self.high)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Move every target, each output of an example by itself."""
        shape = examples.targets.shape
        signs = generator.choice([-1.0, 1.0], shape)
        return Corrupted(
            targets=_shift_targets(examples.targets, signs * generator.uniform(self.low, self.high, shape))
        )


@dataclass(frozen=True)
class OneSidedOutliers(Corruption):
    """Targets are moved up by `low` to `high` (uniformly) robust standard deviations."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    use_when: ClassVar[str] = "gross errors that all point one way: a saturated sensor, a wrong unit"

    low: float = 10.0
    high: float = 15.0

    def __post_init__(self) -> None:
        check_range(self, self.low, self.high)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Move every target up, each output of an example by itself."""
        shift = generator.uniform(self.low, self.high, examples.targets.shape)
        return Corrupted(targets=_shift_targets(examples.targets, shift))


@dataclass(frozen=True)
class HeavyTails(Corruption):
    """Student-t noise is added to targets: `scale` robust standard deviations times t with `df` degrees of freedom."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    use_when: ClassVar[str] = "noise that is mostly small and now and then enormous"

    df: float = 2.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, df=self.df, scale=self.scale)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Add noise to every target."""
        noise = self.scale * generator.standard_t(self.df, examples.targets.shape)
        return Corrupted(targets=_shift_targets(examples.targets, noise))
