"""Wrong transcripts: tokens replaced, left out, or written where there are none."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import PADDING, Array, Examples
from lossbench.validation import check_between


def _n_tokens(examples: Examples) -> int:
    return len(examples.class_names) or int(examples.targets.max(initial=1))


def _lengths(targets: Array) -> Array:
    lengths: Array = (targets != PADDING).sum(1)
    return lengths


def _wanted(share: float, lengths: Array) -> Array:
    """How many tokens are wrong: the share of them, rounded, at least one."""
    wanted: Array = np.maximum(1, np.round(share * lengths)).astype(int)
    return wanted


def _drawn(lengths: Array, counts: Array, width: int, generator: np.random.Generator) -> Array:
    """`counts` of the first `lengths` places of each row, every choice of them being as likely: `[N, width]`."""
    order = generator.random((len(lengths), width))
    order[np.arange(width) >= lengths[:, None]] = np.inf  # last, so never drawn
    drawn: Array = order.argsort(1).argsort(1) < np.minimum(counts, lengths)[:, None]
    return drawn


@dataclass(frozen=True)
class TokenSubstitutions(Corruption):
    """A share of a transcript's tokens is replaced by other ones, every other one being as likely.

    share: of the tokens, rounded, at least one; which ones differs from row to row. Empty transcripts cannot be
    corrupted.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    use_when: ClassVar[str] = "who typed the transcripts misread or mistyped some of it"

    share: float = 0.34

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Every transcript with some of its tokens replaced."""
        targets, n_tokens = examples.targets, _n_tokens(examples)
        lengths = _lengths(targets)
        drawn = _drawn(lengths, _wanted(self.share, lengths), targets.shape[1], generator)
        steps = generator.integers(1, max(2, n_tokens), targets.shape)
        others = 1 + (targets - 1 + steps) % n_tokens
        replaced = np.where(drawn, others, targets).astype(targets.dtype)
        return Corrupted(targets=replaced, eligible=(replaced != targets).any(1))


@dataclass(frozen=True)
class TokenDeletions(Corruption):
    """A share of a transcript's tokens is left out, and the rest moves up.

    share: of the tokens, rounded, at least one; which ones differs from row to row. One token always stays, so
    transcripts of fewer than two cannot be corrupted: an empty one would say that there is nothing to read.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    use_when: ClassVar[str] = "transcripts skip some of what is there: hesitations, faint or doubled characters"

    share: float = 0.34

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Every transcript without some of its tokens."""
        targets, lengths = examples.targets, _lengths(examples.targets)
        counts = np.minimum(_wanted(self.share, lengths), lengths - 1)
        gone = _drawn(lengths, counts, targets.shape[1], generator)
        order = gone.argsort(1, kind="stable")  # what stays, in its order, then what goes
        moved = np.take_along_axis(np.where(gone, PADDING, targets), order, 1)
        return Corrupted(targets=moved.astype(targets.dtype), eligible=lengths > 1)


@dataclass(frozen=True)
class TokenInsertions(Corruption):
    """Random tokens are written into a transcript at random places.

    share: how many, of its tokens, rounded, at least one. The table of targets is as wide as its longest transcript
    may be, so no more are written than there is room for, and transcripts that fill their row cannot be corrupted.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    use_when: ClassVar[str] = "transcripts hold what is not there: notes, expanded abbreviations, doubled keystrokes"

    share: float = 0.34

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Every transcript with some tokens more."""
        targets, lengths = examples.targets, _lengths(examples.targets)
        width = targets.shape[1]
        counts = np.minimum(_wanted(self.share, lengths), width - lengths)
        new = _drawn(lengths + counts, counts, width, generator)
        before = np.maximum((~new).cumsum(1) - 1, 0)  # where the tokens of the old transcript go, in their order
        written = np.where(new, generator.integers(1, _n_tokens(examples) + 1, targets.shape), 0)
        moved = np.where(new, written, np.take_along_axis(targets, before, 1))
        moved[np.arange(width) >= (lengths + counts)[:, None]] = PADDING
        return Corrupted(targets=moved.astype(targets.dtype), eligible=lengths < width)
