"""Corruptions: what goes wrong with training and validation examples. Drawn for every row at once.

The values depend on the rows and the generator only, never on the rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from lossbench import registry
from lossbench.errors import InvalidValue, unknown
from lossbench.interfaces import Corrupted, Corruption
from lossbench.interfaces.task import robust_scale
from lossbench.types import Array, Examples
from lossbench.validation import check_between, check_nonnegative, check_positive


def get(name: str, **fields: Any) -> Corruption:
    """The corruption called `name` with its fields set; raises `UnknownName` with the nearest name and all of them."""
    return registry.corruptions.get(name, **fields)


def names(task: str | None = None) -> list[str]:
    """The names of all corruptions, or of those that fit `task`."""
    return registry.corruptions.names(task)


@dataclass(frozen=True)
class NoCorruption(Corruption):
    """Leaves everything as it is."""

    name: ClassVar[str] = "none"
    tasks: ClassVar[tuple[str, ...]] = ("*",)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Nothing is changed, and no row can be."""
        return Corrupted(eligible=np.zeros(len(examples.targets), dtype=bool))


def _n_classes(examples: Examples) -> int:
    return len(examples.class_names) or max(2, int(examples.targets.max(initial=0)) + 1)


@dataclass(frozen=True)
class SymmetricFlips(Corruption):
    """Labels are replaced by another class, every other one being as likely."""

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    use_when: ClassVar[str] = "annotators slip, without a pattern"

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """A different class for every row."""
        n_classes = _n_classes(examples)
        steps = generator.integers(1, n_classes, len(examples.targets))
        return Corrupted(targets=((examples.targets + steps) % n_classes).astype(examples.targets.dtype))


@dataclass(frozen=True)
class AsymmetricFlips(Corruption):
    """Each class is mistaken for one other: class c for c + 1, the last for the first.

    With two classes only positives (class 1) become negatives. pairs: what is mistaken for what instead, by class name
    or number (`{"7": "1", "3": "8"}`); then only rows of the classes named can be corrupted.
    Raises `InvalidValue` for a class that is mistaken for itself, `UnknownName` for an unknown class.
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    use_when: ClassVar[str] = "annotators confuse classes that look alike, or miss positives"

    pairs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for wrong in (name for name, other in self.pairs.items() if str(name) == str(other)):
            raise InvalidValue(f"AsymmetricFlips cannot mistake class {wrong!r} for itself.")

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """The class that each row is mistaken for."""
        mistaken = self._mistaken(_n_classes(examples), examples.class_names)
        targets: Array = mistaken[examples.targets].astype(examples.targets.dtype)
        return Corrupted(targets=targets, eligible=targets != examples.targets)

    def _mistaken(self, n_classes: int, class_names: Sequence[str]) -> Array:
        """What each class is mistaken for, `[C]`; itself where it is not mistaken."""
        classes: Array = np.arange(n_classes)
        if not self.pairs:
            classes = np.roll(classes, -1) if n_classes > 2 else np.zeros_like(classes)
        for name, other in self.pairs.items():
            classes[_place(name, n_classes, class_names)] = _place(other, n_classes, class_names)
        return classes


def _place(name: object, n_classes: int, class_names: Sequence[str]) -> int:
    numbers = [str(i) for i in range(n_classes)]
    for known in (list(class_names), numbers):
        if str(name) in known:
            return known.index(str(name))
    raise unknown("class", name, class_names or numbers, "Classes")


def _check_range(corruption: "SymmetricOutliers | OneSidedOutliers | FeatureOutliers") -> None:
    check_nonnegative(corruption, low=corruption.low)
    check_positive(corruption, high=corruption.high)
    if corruption.low > corruption.high:
        raise InvalidValue(
            f"The 'low' parameter of {type(corruption).__name__} must not be above 'high'. "
            f"Got {corruption.low!r} and {corruption.high!r} instead."
        )


def _shifted(targets: Array, shift: Array) -> Array:
    """`targets` moved by `shift`, in robust standard deviations of each output."""
    return (targets + shift * robust_scale(targets)[1]).astype(targets.dtype)


@dataclass(frozen=True)
class SymmetricOutliers(Corruption):
    """Targets are moved up or down by `low` to `high` (uniformly) robust standard deviations."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    use_when: ClassVar[str] = "gross errors of measurement in both directions"

    low: float = 10.0
    high: float = 15.0

    def __post_init__(self) -> None:
        _check_range(self)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Every target moved, each output of an example by itself."""
        shape = examples.targets.shape
        signs = generator.choice([-1.0, 1.0], shape)
        return Corrupted(targets=_shifted(examples.targets, signs * generator.uniform(self.low, self.high, shape)))


@dataclass(frozen=True)
class OneSidedOutliers(Corruption):
    """Targets are moved up by `low` to `high` (uniformly) robust standard deviations."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    use_when: ClassVar[str] = "gross errors that all point one way: a saturated sensor, a wrong unit"

    low: float = 10.0
    high: float = 15.0

    def __post_init__(self) -> None:
        _check_range(self)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Every target moved up, each output of an example by itself."""
        shift = generator.uniform(self.low, self.high, examples.targets.shape)
        return Corrupted(targets=_shifted(examples.targets, shift))


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
        """Every target with its noise."""
        noise = self.scale * generator.standard_t(self.df, examples.targets.shape)
        return Corrupted(targets=_shifted(examples.targets, noise))


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
        _check_range(self)

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
