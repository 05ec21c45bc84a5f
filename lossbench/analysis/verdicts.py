"""Verdicts on pairs of losses (better, equivalent, worse, inconclusive), and the recommended set."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import stdtr, stdtrit

from lossbench.analysis.differences import STANDARD_ERROR_FLOOR, DifferenceMatrix
from lossbench.types import Array

MANY_SEEDS = 1000
"""More seeds than these are nothing to advise for one difference."""


class Verdict(StrEnum):
    """The verdict on one loss against another."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    IDENTICAL = "identical"


@dataclass(frozen=True)
class VerdictTable:
    """The verdicts on each of L losses (rows) against each (columns).

    verdicts: ``[L, L]`` of Verdict.
    defeat_t: ``[L, L]``, the t of "the row is worse than the column by more than the ROPE" where that is significant,
        else 0.
    recommended: ``[L]``, the losses that no other is shown to beat by more than the ROPE.
    withheld: ``[L, L]``, pairs whose verdict is withheld since one of them diverged: more seeds would not help.
    """

    verdicts: Array
    defeat_t: Array
    recommended: Array
    withheld: Array


def judge_pairs(
    differences: DifferenceMatrix, rope: float, alpha: float, diverged: Array, identical: Array
) -> VerdictTable:
    r"""Judge all pairs, with Holm's correction over them, and find the recommended set.

    *Equivalent*: both one-sided tests place the difference within :math:`\pm` `rope`. *Better* and *worse*: it is not
    0, and not equivalent. The recommended set is Gupta's subset: A stays unless some B beats it by more than the ROPE
    in a one-sided paired t at :math:`\alpha / (L - 1)`.

    diverged: ``[L]``, losses with trials that diverged. The seeds that are left flatter them: they are called worse or
        get no verdict, are not recommended, and beat nobody.
    identical: ``[L, L]``, identical pairs, which are not tested and not counted in the correction.

    Reference: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979, https://www.jstor.org/stable/4615733;
    Schuirmann, A Comparison of the Two One-Sided Tests Procedure, 1987, https://doi.org/10.1007/BF01068419;
    Gupta, On Some Multiple Decision (Selection and Ranking) Rules, 1965, https://doi.org/10.1080/00401706.1965.10490251
    """
    n, value = len(differences.value), differences.value  # [L, L], as are all below
    error, freedom = differences.standard_error, differences.degrees_of_freedom
    # 1. both tests of every pair, corrected by Holm
    two_sided = 2 * stdtr(freedom, -np.abs(value) / error)  # H0: no difference
    two_one_sided = stdtr(freedom, (np.abs(value) - rope) / error)  # H0: beyond the ROPE; the larger p of both sides
    different, within = (_adjust_p_values_of_pairs(p, identical) < alpha for p in (two_sided, two_one_sided))
    # 2. the verdicts; a later line overrules an earlier one
    verdicts = np.full((n, n), Verdict.INCONCLUSIVE, object)
    verdicts[different & (value < 0)] = Verdict.BETTER
    verdicts[different & (value > 0)] = Verdict.WORSE
    verdicts[within] = Verdict.EQUIVALENT
    verdicts[identical] = Verdict.IDENTICAL
    # 3. the seeds that are left when some diverged flatter a loss: no verdict in its favour
    withheld = diverged[:, None] & (verdicts == Verdict.BETTER)
    withheld |= diverged & (verdicts == Verdict.WORSE)
    withheld |= (diverged[:, None] | diverged) & (verdicts == Verdict.EQUIVALENT)
    verdicts[withheld] = Verdict.INCONCLUSIVE
    # 4. Gupta's subset: one-sided, beyond the ROPE, at alpha / (L - 1)
    t = (value - rope) / error
    significant = stdtr(freedom, -t) < alpha / max(n - 1, 1)
    defeat_t = np.where(significant & ~diverged, t, 0.0)
    return VerdictTable(verdicts, defeat_t, ~defeat_t.any(axis=1) & ~diverged, withheld)


def _adjust_p_values_of_pairs(p: Array, identical: Array) -> Array:
    """Adjust ``[L, L]`` p-values over all pairs that were tested; 1 for the others."""
    adjusted = np.ones_like(p)
    tested = np.triu(np.isfinite(p) & ~identical, 1)  # each pair once
    adjusted[tested] = adjust_p_values(p[tested])
    return np.minimum(adjusted, adjusted.T)


def adjust_p_values(p: Array) -> Array:
    """Adjust p-values by Holm's step-down procedure: the largest of (n - i) p_(i) up to each, i from 0."""
    # not that of statsmodels, which collects Python's garbage with each call: 60 ms
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def estimate_more_seeds(differences: DifferenceMatrix, pair: tuple[int, int], rope: float, alpha: float) -> float:
    """Estimate how many more seeds would settle a verdict if the difference stayed as it is.

    The seeds' part of the variance falls with their number, the examples' part does not. The level is Bonferroni's for
    all pairs, a little stricter than Holm's.

    pair: row and column. Returns infinity where no number would settle it, and NaN for a single seed.
    """
    n, n_losses = differences.n_seeds[pair], len(differences.value)
    if not n > 1:
        return np.nan
    level = alpha / max(n_losses * (n_losses - 1) / 2, 1)
    # 1. candidate numbers of seeds, dense at the small end
    seeds = np.unique(np.geomspace(n + 1, n + MANY_SEEDS, 300).astype(int))  # [K]
    # 2. the standard error and its degrees of freedom (Satterthwaite) that each would give
    seed_part = differences.seed_variance[pair] * n / seeds
    example_part = np.full(len(seeds), differences.example_variance[pair])
    error = np.sqrt(np.maximum(seed_part + example_part, STANDARD_ERROR_FLOOR**2))
    parts = seed_part**2 / (seeds - 1) + example_part**2 / max(differences.n_examples - 1, 1)
    freedom = error**4 / np.maximum(parts, 1e-300)
    # 3. the first at which the two-sided test, or both one-sided tests, would be significant
    size = abs(differences.value[pair])
    settled = size / error > -stdtrit(freedom, level / 2)
    settled |= (rope - size) / error > -stdtrit(freedom, level)
    return float(seeds[settled.argmax()] - n) if settled.any() else np.inf
