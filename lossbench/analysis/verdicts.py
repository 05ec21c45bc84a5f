"""What differences allow to be said: better, equivalent, worse, or not yet known and what would tell."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import stdtr, stdtrit

from lossbench.analysis.differences import FLOOR, Differences
from lossbench.types import Array

MANY_SEEDS = 1000
"""Nobody trains more to settle one difference."""


class Verdict(StrEnum):
    """Of one loss against another."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    IDENTICAL = "identical"


@dataclass(frozen=True)
class Judgement:
    """Of each of L losses (rows) against each (columns).

    verdicts: ``[L, L]`` of Verdict. beaten: ``[L, L]``, how surely the row is worse than the column by more than the
        ROPE: the t of that where it is significant, else 0.
    recommended: ``[L]``, the losses that no other is shown to beat by more than the ROPE.
    flattered: ``[L, L]``, pairs of which no verdict is given as one of them diverged: more seeds would not help.
    """

    verdicts: Array
    beaten: Array
    recommended: Array
    flattered: Array


def judge(found: Differences, rope: float, alpha: float, bad: Array, same: Array) -> Judgement:
    r"""Verdicts on all pairs, with Holm's correction over them, and the recommended set.

    *Equivalent*: both one-sided tests place the difference within :math:`\pm` `rope`. *Better* and *worse*: it is not
    0, and not equivalent. The recommended set is Gupta's subset: A stays unless some B beats it by more than the ROPE
    in a one-sided paired t at :math:`\alpha / (L - 1)`.

    bad: ``[L]``, losses with trials that diverged. What is left of their seeds flatters them, so they are called worse
        or nothing, are not recommended, and beat nobody.
    same: ``[L, L]``, pairs that are identical; they are no tests, and not counted among them.

    Reference: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979, https://www.jstor.org/stable/4615733;
    Schuirmann, A Comparison of the Two One-Sided Tests Procedure, 1987, https://doi.org/10.1007/BF01068419;
    Gupta, On Some Multiple Decision (Selection and Ranking) Rules, 1965, https://doi.org/10.1080/00401706.1965.10490251
    """
    n = len(found.value)
    verdicts = np.full((n, n), Verdict.INCONCLUSIVE, object)
    different, within = (_holm(p, same) < alpha for p in (_two_sided(found), _within(found, rope)))
    verdicts[different & (found.value < 0)] = Verdict.BETTER
    verdicts[different & (found.value > 0)] = Verdict.WORSE
    verdicts[within] = Verdict.EQUIVALENT
    verdicts[same] = Verdict.IDENTICAL
    flattered = (bad[:, None] & (verdicts == Verdict.BETTER)) | (bad & (verdicts == Verdict.WORSE))
    flattered |= (bad[:, None] | bad) & (verdicts == Verdict.EQUIVALENT)
    verdicts[flattered] = Verdict.INCONCLUSIVE
    t = (found.value - rope) / found.error
    significant = stdtr(found.freedom, -t) < alpha / max(n - 1, 1)
    beaten = np.where(significant & ~bad, t, 0.0)
    return Judgement(verdicts, beaten, ~beaten.any(axis=1) & ~bad, flattered)


def _two_sided(found: Differences) -> Array:
    return 2 * stdtr(found.freedom, -np.abs(found.value) / found.error)


def _within(found: Differences, rope: float) -> Array:
    """The larger p of two one-sided tests, against -rope and against +rope."""
    return stdtr(found.freedom, (np.abs(found.value) - rope) / found.error)


def _holm(p: Array, same: Array) -> Array:
    """Adjusted over all pairs that were tested; 1 for the others."""
    adjusted = np.ones_like(p)
    above = np.triu(np.isfinite(p) & ~same, 1)
    adjusted[above] = holm(p[above])
    return np.minimum(adjusted, adjusted.T)


def holm(p: Array) -> Array:
    """P-values adjusted by Holm's step-down procedure."""
    # not that of statsmodels, which collects Python's garbage with each call: 60 ms
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def more_seeds(found: Differences, at: tuple[int, int], rope: float, alpha: float) -> float:
    """How many more seeds would settle a verdict if the difference stayed as it is: infinite where no number would.

    From the two parts of the variance, of which the first falls with the number of seeds, and the second does not. The
    level is Bonferroni's for all pairs, a little stricter than Holm's. NaN for a single seed, which tells nothing.
    """
    n, n_losses = found.n_seeds[at], len(found.value)
    if not n > 1:
        return np.nan
    level = alpha / max(n_losses * (n_losses - 1) / 2, 1)
    seeds = np.unique(np.geomspace(n + 1, n + MANY_SEEDS, 300).astype(int))
    parts = found.seeds[at] * n / seeds, np.full(len(seeds), found.examples[at])
    error = np.sqrt(np.maximum(parts[0] + parts[1], FLOOR**2))
    freedom = error**4 / np.maximum(parts[0] ** 2 / (seeds - 1) + parts[1] ** 2 / max(found.n_examples - 1, 1), 1e-300)
    size = abs(found.value[at])
    settled = size / error > -stdtrit(freedom, level / 2)
    settled |= (rope - size) / error > -stdtrit(freedom, level)
    return float(seeds[settled.argmax()] - n) if settled.any() else np.inf
