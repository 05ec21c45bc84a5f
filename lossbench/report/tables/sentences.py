"""What a comparison comes to, in words."""

from collections.abc import Iterator, Sequence

import numpy as np

from lossbench.analysis.comparison import Comparison, Level, Row
from lossbench.analysis.verdicts import Verdict
from lossbench.report.tables.grid import format_difference, format_rope

NAMED = 4
"""How many losses one sentence names of each kind."""


def write_sentences(comparison: Comparison) -> list[str]:
    """Return one sentence per corruption rate."""
    tuning = describe_tuning(comparison)
    return [write_sentence(level) + (f" ({tuning})." if tuning else ".") for level in comparison.levels]


def write_sentence(level: Level) -> str:
    """Say which losses are recommended, which beaten and by how much, which diverged; without a full stop."""
    parts = [_recommended(level), *_beaten(level), *_diverged(level), *_identical(level)]
    return "; ".join(parts)


def describe_tuning(comparison: Comparison) -> str:
    """Return a word or two for each verdict; nothing where all losses had the same learning rates to choose from."""
    tuned = [row.tuned for level in comparison.levels for row in level.rows]
    if all(own.n_tried < 2 for own in tuned):
        return "untuned"
    if len({own.n_tried for own in tuned}) > 1:
        return "unequally tuned"
    return "" if all(own.n_seeds for own in tuned) else "tuned on the same seeds"


def join_names(names: Sequence[str], most: int = NAMED) -> str:
    """Return `a, b and c`; of many, the first and how many more."""
    if len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _recommended(level: Level) -> str:
    there = [row for row in level.rows if row.summary.trials]
    names, rope = level.recommended, format_rope(level.scale)
    if not there:
        return "no loss has a finished trial"
    if max(row.summary.last.n_seeds if row.summary.last else 0 for row in there) < 2:
        return "one seed tells nothing of others: no verdict"
    if not names:
        return "no loss is recommended: of each some trials diverged, or another beats it"
    if len(names) == 1:
        return f"{names[0]} is recommended"
    every = "all are" if len(names) == len(there) else "they are"
    if level.apart:
        return f"{join_names(names)} are recommended: none is shown to be beaten by more than {rope}"
    return f"{join_names(names)} cannot be told apart; {every} recommended"


def _beaten(level: Level) -> Iterator[str]:
    """The worst last; each against the rival that most surely beats it."""
    out = [row for row in level.rows if row.beaten]
    for row in out[:NAMED]:
        if row.beaten:
            yield f"{row.name} is worse than {row.beaten.other} by {format_difference(row.beaten, level.scale, False)}"
    if len(out) > NAMED:
        yield f"{len(out) - NAMED} more {'is' if len(out) == NAMED + 1 else 'are'} beaten, too"


def _diverged(level: Level) -> Iterator[str]:
    for row in level.rows:
        if row.summary.n_diverged:
            yield f"{row.name} diverged in {row.summary.n_diverged} of {row.summary.n_trials} trials: not recommended"


def _identical(level: Level) -> Iterator[str]:
    for names in level.identical[:NAMED]:
        yield f"{join_names(names)} are identical"


def settled_by(row: Row, level: Level) -> str:
    """Return what more would settle an inconclusive verdict, if the difference stayed as it is."""
    found = row.against
    if found is None or found.verdict is not Verdict.INCONCLUSIVE:
        return ""
    if np.isnan(found.more_seeds):
        return "seeds" if found.n_seeds < 2 else ""
    if np.isfinite(found.more_seeds):
        return f"{found.more_seeds:.0f} seed{'' if found.more_seeds == 1 else 's'}"
    return "test rows" if level.sample.n_examples else "too close"
