"""The scope of a comparison's verdicts: over what intervals are, what would narrow them, what is taken as correct."""

from collections.abc import Iterator

import numpy as np

from lossbench.analysis.comparison import Comparison, RateComparison

MOST, LITTLE = 0.5, 0.25
"""Shares of a variance that seeds must have for more seeds to narrow an interval most, and to narrow it at all."""


def describe_scope(comparison: Comparison) -> list[str]:
    """Return the sentences that belong to the verdicts of all corruption rates."""
    sentences = [*_describe_intervals(comparison)]
    if not any(level.corruption_rate for level in comparison.levels):
        sentences.append("No corruption: the targets of the test examples are taken as correct.")
    elif comparison.settings.get("validation") == "clean":
        sentences.append("Validation data were clean (an oracle): in practice they are corrupted like training data.")
    return sentences


def name_samples(seeds: bool, examples: bool, grouped: bool) -> str:
    """Return what an interval is over: `seeds and test examples`; `nothing` where there is no interval.

    seeds, examples: whether it is over them. grouped: whether examples come in groups, which are then the sample.
    """
    names = ["seeds"] if seeds else []
    if examples:
        names.append("groups of test examples" if grouped else "test examples")
    return " and ".join(names) or "nothing"


def describe_samples(level: RateComparison) -> str:
    """Return what the intervals of the differences at one corruption rate are over."""
    known = any(row.vs_baseline and np.isfinite(row.vs_baseline.low) for row in level.rows)
    return name_samples(known, known and level.sample.n_examples > 0, level.sample.n_groups > 0)


def describe_narrowing(level: RateComparison) -> str:
    """Return what would narrow the intervals of the differences from the baseline; "" where it is not known."""
    shares = [
        row.vs_baseline.seed_share for row in level.rows if row.vs_baseline and np.isfinite(row.vs_baseline.seed_share)
    ]
    if not (shares and level.sample.n_examples):
        return ""
    share, examples = float(np.median(shares)), name_samples(False, True, level.sample.n_groups > 0)
    if share > MOST:
        return "above all more seeds"
    return f"only more {examples}" if share < LITTLE else f"more seeds and more {examples}"


def _describe_intervals(comparison: Comparison) -> Iterator[str]:
    """Yield one sentence for each group of corruption rates whose intervals are over the same."""
    groups: dict[str, dict[str, list[str]]] = {}  # corruption rates, by samples and by what would narrow the interval
    for level in comparison.levels:
        if (samples := describe_samples(level)) != "nothing":
            rates = groups.setdefault(samples, {}).setdefault(describe_narrowing(level), [])
            rates.append(f"{level.corruption_rate:g}")
    for samples, by_remedy in groups.items():
        every = ", ".join(rate for rates in by_remedy.values() for rate in rates)
        where = f"At corruption rate {every}: " if len(groups) > 1 else ""
        only = " only" if samples == "seeds" else ""
        parts = [f"{where}[low, high] is a {100 * comparison.confidence:g}% CI over {samples}{only}"]
        for remedy, rates in by_remedy.items():
            at = f"at corruption rate {', '.join(rates)} " if len(by_remedy) > 1 else ""
            if remedy:
                parts.append(f"{at}{remedy} would narrow it{' much' if remedy.startswith('only') else ''}")
        if samples == "seeds":
            parts.append("other test examples may give another order, and equal losses are called different too often")
        yield "; ".join(parts) + "."
