"""What the verdicts of a comparison rest on: whom they speak for, what would narrow them, what was taken as right."""

from collections.abc import Iterator

import numpy as np

from lossbench.analysis.comparison import Comparison, Level

MOST, LITTLE = 0.5, 0.25
"""Shares of a variance that seeds must have for more seeds to narrow an interval most, and to narrow it at all."""


def describe_scope(comparison: Comparison) -> list[str]:
    """Return the sentences that belong to the verdicts of all rates."""
    return [*_speaks(comparison), *_oracle(comparison), *_truth(comparison)]


def speaks_for(level: Level) -> str:
    """Return what the differences would hold for, beside this very data."""
    if not any(row.against and np.isfinite(row.against.low) for row in level.rows):
        return "nothing"
    return f"new seeds and {_rows(level)}" if level.sample.n_examples else "new seeds on these very test rows only"


def narrowed_by(level: Level) -> str:
    """Return what would narrow the intervals of the differences from the baseline; "" where it is not known."""
    shares = [row.against.seed_share for row in level.rows if row.against and np.isfinite(row.against.seed_share)]
    if not (shares and level.sample.n_examples):
        return ""
    share = float(np.median(shares))
    if share > MOST:
        return "above all more seeds"
    rows = _rows(level).removeprefix("new ")
    return f"only more {rows}" if share < LITTLE else f"more seeds and more {rows}"


def _rows(level: Level) -> str:
    return "new groups of test rows" if level.sample.n_groups else "new test rows"


def _speaks(comparison: Comparison) -> Iterator[str]:
    """One sentence for each group of rates that have the same to say."""
    found: dict[tuple[str, str], list[str]] = {}
    for level in comparison.levels:
        if (speaks := speaks_for(level)) != "nothing":
            found.setdefault((speaks, narrowed_by(level)), []).append(f"{level.corruption_rate:g}")
    for (speaks, narrowed), rates in found.items():
        where = f"At rate {', '.join(rates)} verdicts" if len(found) > 1 else "Verdicts"
        much = " much" if narrowed.startswith("only") else ""
        yield f"{where} speak for {speaks}" + (f"; {narrowed} would narrow them{much}." if narrowed else ".")


def _oracle(comparison: Comparison) -> Iterator[str]:
    if comparison.settings.get("validation") == "clean" and any(level.corruption_rate for level in comparison.levels):
        yield "Validation data were clean, an oracle: with wrong targets of your own you would choose by wrong ones."


def _truth(comparison: Comparison) -> Iterator[str]:
    if not any(level.corruption_rate for level in comparison.levels):
        yield "No targets were corrupted, and those of the test rows are taken as right: wrong ones count as they are."
