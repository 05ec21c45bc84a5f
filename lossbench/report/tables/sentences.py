"""The verdict of a comparison in sentences."""

from collections.abc import Sequence

import numpy as np

from lossbench.analysis.comparison import Comparison, RateComparison, Row
from lossbench.analysis.verdicts import Verdict
from lossbench.report.tables.grid import format_difference, format_rope

NAMED = 4
"""The number of losses of each kind that one sentence names."""


def write_sentences(comparison: Comparison) -> list[str]:
    """Return one sentence per corruption rate."""
    tuning = describe_tuning(comparison)
    return [write_sentence(level) + (f" ({tuning})." if tuning else ".") for level in comparison.levels]


def write_sentence(level: RateComparison) -> str:
    """Say which losses are recommended, which are worse and by how much, which diverged; without a full stop."""
    parts = [_recommend(level)]
    # each loss that is not recommended against the rival that most surely beats it; the worst loss last
    worse = [(row.name, row.beaten_by) for row in level.rows if row.beaten_by]
    for name, beaten in worse[:NAMED]:
        parts.append(f"{name} is worse than {beaten.other} by {format_difference(beaten, level.scale, False)}")
    if len(worse) > NAMED:
        parts.append(f"{len(worse) - NAMED} more {'is' if len(worse) == NAMED + 1 else 'are'} worse than another, too")
    for row in level.rows:
        if row.summary.n_diverged:
            trials = f"{row.summary.n_diverged} of {row.summary.n_trials} trials"
            parts.append(f"{row.name} diverged in {trials}: not recommended")
    parts += [f"{join_names(names)} are identical" for names in level.identical[:NAMED]]
    return "; ".join(parts)


def _recommend(level: RateComparison) -> str:
    trained = [row for row in level.rows if row.summary.trials]
    names = level.recommended
    if not trained:
        return "no loss has a finished trial"
    if max(row.summary.last.n_seeds if row.summary.last else 0 for row in trained) < 2:
        return "no verdict: a single seed does not tell how much seeds differ"
    if not names:
        return "no loss is recommended: each has diverged trials or is worse than another"
    if len(names) == 1:
        return f"{names[0]} is recommended"
    if level.recommended_differ:
        rope = format_rope(level.scale)
        return f"{join_names(names)} are recommended: none is shown to be worse than another by more than {rope}"
    every = "all are" if len(names) == len(trained) else "they are"
    return f"{join_names(names)} cannot be told apart; {every} recommended"


def describe_tuning(comparison: Comparison) -> str:
    """Return a word or two for each verdict; nothing where all losses had the same learning rates to choose from."""
    tunings = [row.tuned for level in comparison.levels for row in level.rows]
    if all(tuned.n_settings < 2 for tuned in tunings):
        return "untuned"
    if len({tuned.n_settings for tuned in tunings}) > 1:
        return "unequally tuned"
    return "" if all(tuned.n_seeds for tuned in tunings) else "tuned on the same seeds"


def join_names(names: Sequence[str], most: int = NAMED) -> str:
    """Return `a, b and c`; of many, the first and how many more."""
    if len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def describe_still_needed(row: Row, level: RateComparison) -> str:
    """Return what more would settle an inconclusive verdict, if the difference stayed as it is."""
    difference = row.vs_baseline
    if difference is None or difference.verdict is not Verdict.INCONCLUSIVE:
        return ""
    if np.isnan(difference.more_seeds):
        return "seeds" if difference.n_seeds < 2 else ""
    if np.isfinite(difference.more_seeds):
        return f"{difference.more_seeds:.0f} seed{'' if difference.more_seeds == 1 else 's'}"
    return "examples" if level.sample.n_examples else "too close"
