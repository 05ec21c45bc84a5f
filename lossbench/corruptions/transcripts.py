"""Wrong transcripts: tokens replaced, left out, or written where there are none."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Corrupted, Corruption
from lossbench.types import PADDING, Array, Examples
from lossbench.validation import check_between


def _count_vocabulary(examples: Examples) -> int:
    return len(examples.class_names) or int(examples.targets.max(initial=1))


def _count_tokens(targets: Array) -> Array:
    lengths: Array = (targets != PADDING).sum(1)
    return lengths


def _count_wrong(share: float, lengths: Array) -> Array:
    """Return the number of wrong tokens `[N]`: the share of them, rounded, at least one."""
    counts: Array = np.maximum(1, np.round(share * lengths)).astype(int)
    return counts


def _draw_places(lengths: Array, counts: Array, width: int, generator: np.random.Generator) -> Array:
    """Draw `counts` of the first `lengths` places of each transcript with equal chances; a mask `[N, width]`."""
    order = generator.random((len(lengths), width))
    order[np.arange(width) >= lengths[:, None]] = np.inf  # padding comes last, so it is never drawn
    places: Array = order.argsort(1).argsort(1) < np.minimum(counts, lengths)[:, None]  # argsort of argsort is the rank
    return places


@dataclass(frozen=True)
class TokenSubstitutions(Corruption):
    """A share of a transcript's tokens is replaced by other ones, drawn with equal chances.

    share: of the tokens, rounded, at least one; the choice differs between transcripts. Empty transcripts cannot be
    corrupted.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    use_when: ClassVar[str] = "who typed the transcripts misread or mistyped some of it"

    share: float = 0.34

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Replace some tokens of every transcript."""
        targets, n_tokens = examples.targets, _count_vocabulary(examples)
        lengths = _count_tokens(targets)
        places = _draw_places(lengths, _count_wrong(self.share, lengths), targets.shape[1], generator)
        steps = generator.integers(1, max(2, n_tokens), targets.shape)
        # tokens are 1 to n_tokens: go on by 1 to n_tokens - 1 in a circle, to any token but this one
        others = 1 + (targets - 1 + steps) % n_tokens
        replaced = np.where(places, others, targets).astype(targets.dtype)
        return Corrupted(targets=replaced, eligible=(replaced != targets).any(1))


@dataclass(frozen=True)
class TokenDeletions(Corruption):
    """A share of a transcript's tokens is left out, and the rest moves up.

    share: of the tokens, rounded, at least one; the choice differs between transcripts. One token always stays, so
    transcripts of fewer than two cannot be corrupted: an empty one would say that there is nothing to read.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    use_when: ClassVar[str] = "transcripts skip some of what is there: hesitations, faint or doubled characters"

    share: float = 0.34

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Leave some tokens of every transcript out."""
        targets, lengths = examples.targets, _count_tokens(examples.targets)
        counts = np.minimum(_count_wrong(self.share, lengths), lengths - 1)
        gone = _draw_places(lengths, counts, targets.shape[1], generator)
        order = gone.argsort(1, kind="stable")  # the tokens that stay, in their order, then those that go
        moved = np.take_along_axis(np.where(gone, PADDING, targets), order, 1)
        return Corrupted(targets=moved.astype(targets.dtype), eligible=lengths > 1)


@dataclass(frozen=True)
class TokenInsertions(Corruption):
    """Random tokens are written into a transcript at random places.

    share: of its tokens, rounded, at least one. Targets are padded to the longest transcript that they
    can hold. So insertions stop when a transcript is full, and full transcripts cannot be corrupted.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    use_when: ClassVar[str] = "transcripts hold what is not there: notes, expanded abbreviations, doubled keystrokes"

    share: float = 0.34

    def __post_init__(self) -> None:
        check_between(self, 0, 1 + 1e-9, share=self.share)

    def __call__(self, examples: Examples, generator: np.random.Generator) -> Corrupted:
        """Write some tokens into every transcript."""
        targets, lengths = examples.targets, _count_tokens(examples.targets)
        width = targets.shape[1]
        counts = np.minimum(_count_wrong(self.share, lengths), width - lengths)
        # places of the new tokens in the longer transcript
        new = _draw_places(lengths + counts, counts, width, generator)
        # the k-th place that is not new holds the k-th token of the old transcript
        before = np.maximum((~new).cumsum(1) - 1, 0)
        written = np.where(new, generator.integers(1, _count_vocabulary(examples) + 1, targets.shape), 0)
        moved = np.where(new, written, np.take_along_axis(targets, before, 1))
        moved[np.arange(width) >= (lengths + counts)[:, None]] = PADDING
        return Corrupted(targets=moved.astype(targets.dtype), eligible=lengths < width)
