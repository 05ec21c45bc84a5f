"""Wrong class labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Array, Examples


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
    raise make_unknown("class", name, class_names or numbers, "Classes")
