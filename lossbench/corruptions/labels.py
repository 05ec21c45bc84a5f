"""Wrong class labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import Array, Examples


def _count_classes(examples: Examples) -> int:
    return len(examples.class_names) or max(2, int(examples.targets.max(initial=0)) + 1)


@dataclass(frozen=True)
class SymmetricFlips(Corruption):
    """Labels are replaced by another class, all others with equal chances."""

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    use_when: ClassVar[str] = "annotators slip, without a pattern"

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Draw a different class for every example."""
        n_classes = _count_classes(examples)
        # class c + s modulo C, s from 1 to C - 1: any class but c
        steps = generator.integers(1, n_classes, len(examples.targets))
        return Corrupted(targets=((examples.targets + steps) % n_classes).astype(examples.targets.dtype))


@dataclass(frozen=True)
class AsymmetricFlips(Corruption):
    """Each class is mistaken for one other: class c for c + 1, the last for the first.

    With two classes only positives (class 1) become negatives. pairs: which class is mistaken for which instead, by
    name or number (`{"7": "1", "3": "8"}`); then only examples of the classes named can be corrupted.
    Raises `InvalidValue` for a class that is mistaken for itself, `UnknownName` for an unknown class.
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    use_when: ClassVar[str] = "annotators confuse classes that look alike, or miss positives"

    pairs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for wrong in (name for name, other in self.pairs.items() if str(name) == str(other)):
            raise InvalidValue(f"AsymmetricFlips cannot mistake class {wrong!r} for itself.")

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Return the class that each example is mistaken for."""
        n_classes = _count_classes(examples)
        # [C], the class that each class is mistaken for; itself where it never is
        mistaken: Array = np.arange(n_classes)
        if not self.pairs:
            mistaken = np.roll(mistaken, -1) if n_classes > 2 else np.zeros_like(mistaken)
        for name, other in self.pairs.items():
            wrong = _find_class(other, n_classes, examples.class_names)
            mistaken[_find_class(name, n_classes, examples.class_names)] = wrong
        targets: Array = mistaken[examples.targets].astype(examples.targets.dtype)
        return Corrupted(targets=targets, eligible=targets != examples.targets)


def _find_class(name: object, n_classes: int, class_names: Sequence[str]) -> int:
    # a name wins over a number: digits may be called by another digit
    numbers = [str(i) for i in range(n_classes)]
    for known in (list(class_names), numbers):
        if str(name) in known:
            return known.index(str(name))
    raise make_unknown("class", name, class_names or numbers, "Classes")
