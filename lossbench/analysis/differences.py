"""Paired differences between losses, with the variance that new seeds and new test rows would give them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from lossbench.types import Array

FLOOR = 1e-3
"""Standard errors are not taken for less: a tenth of a percent of the metric is rounding, however alike the seeds."""
SAME = 1e-6
"""Differences of less are no differences: two ways of computing the same."""


@dataclass(frozen=True)
class Differences:
    r"""Of each of L losses (rows) from each (columns), in harm: positive, the row is worse.

    .. math:: \mathrm{var} = s^2_\mathrm{seed}/S + s^2_\mathrm{example}/m

    seeds, examples: the two parts, from the variances of the row means and of the column means of the differences.
    n_seeds: that both have. n_examples: 0 where the metric is no mean over examples, and the second part is unknown.

    Reference: Owen, The Pigeonhole Bootstrap, 2007, https://arxiv.org/abs/0712.1111
    """

    value: Array  # [L, L], as are all others
    seeds: Array
    examples: Array
    n_seeds: Array
    n_examples: int

    @property
    def error(self) -> Array:
        """Standard errors; NaN where a single seed, or none, tells nothing of others."""
        error = np.sqrt(np.maximum(self.seeds + self.examples, FLOOR**2))
        return np.where(self.n_seeds > 1, error, np.nan)

    @property
    def freedom(self) -> Array:
        """Satterthwaite's degrees of freedom."""
        parts = self.seeds**2 / np.maximum(self.n_seeds - 1, 1) + self.examples**2 / max(self.n_examples - 1, 1)
        total = (self.seeds + self.examples) ** 2
        return np.divide(total, parts, out=np.maximum(self.n_seeds - 1.0, 1.0), where=parts > 0)

    @property
    def same(self) -> Array:
        """Where there is no difference at all, in no seed and no test row."""
        return (np.abs(self.value) < SAME) & (self.seeds + self.examples < SAME**2) & (self.n_seeds > 0)

    def limits(self, confidence: float) -> tuple[Array, Array]:
        """The interval of each difference by itself; NaN for a single seed."""
        half = stdtrit(self.freedom, (1 + confidence) / 2) * self.error
        return self.value - half, self.value + half

    def better(self) -> Array:
        """The probability that the row is better: of a difference below 0, by its t distribution (a flat prior)."""
        return stdtr(self.freedom, -self.value / self.error)


def differences(harm: Sequence[Array], seeds: Sequence[Sequence[int]], crossed: bool = True) -> Differences:
    """All pairs of losses, each on the seeds that both have.

    harm: per loss ``[S, m]``, of the same m examples. seeds: per loss, the rows' S seeds.
    crossed: the m examples are a sample of their own; else m is 1, and only seeds are.
    """
    sets = [frozenset(own) for own in seeds]
    shared = [[one & other for other in sets] for one in sets]
    n = len(sets)
    value, seed_part, example_part, n_seeds = (np.full((n, n), np.nan) for _ in range(4))
    for common in {pair for row in shared for pair in row}:
        at = [i for i, own in enumerate(sets) if own >= common]
        here = np.ix_(at, at)
        wanted = np.array([[shared[i][j] == common for j in at] for i in at])
        rows = np.stack([_rows(harm[i], seeds[i], common) for i in at])  # [k, S, m]
        found = _parts(rows, crossed) if common else [np.full((len(at), len(at)), x) for x in (np.nan, 0, 0)]
        for whole, part in zip((value, seed_part, example_part), found, strict=True):
            whole[here] = np.where(wanted, part, whole[here])
        n_seeds[here] = np.where(wanted, len(common), n_seeds[here])
    return Differences(value, seed_part, example_part, n_seeds, harm[0].shape[1] if crossed else 0)


def contrast(
    harm: Sequence[Array], seeds: Sequence[Sequence[int]], signs: Sequence[int], crossed: bool
) -> Differences | None:
    """A sum of losses with signs, as one difference ``[1, 1]``: of differences, say. None without a common seed."""
    common = frozenset.intersection(*map(frozenset, seeds))
    if not common:
        return None
    rows = [_rows(own, names, common) * sign for own, names, sign in zip(harm, seeds, signs, strict=True)]
    total = np.sum(rows, axis=0)
    return differences([total, np.zeros_like(total)], [sorted(common)] * 2, crossed)


def _rows(harm: Array, seeds: Sequence[int], common: frozenset[int]) -> Array:
    """``[S, m]``, of the common seeds in their order."""
    place = {seed: row for row, seed in enumerate(seeds)}
    return harm[[place[seed] for seed in sorted(common)]]


def _parts(rows: Array, crossed: bool) -> tuple[Array, Array, Array]:
    """Differences between the means of ``[k, S, m]``, and the two parts of their variances, all ``[k, k]``."""
    by_seed, by_example = rows.mean(axis=2), rows.mean(axis=1)
    means = by_seed.mean(axis=1)
    examples = _variance(by_example) if crossed else np.zeros((len(rows), len(rows)))
    return means[:, None] - means, _variance(by_seed), examples


def _variance(means: Array) -> Array:
    """Of the mean of each difference between rows of ``[k, n]``; 0 where n is 1 and it cannot be known."""
    k, n = means.shape
    if n < 2:
        return np.zeros((k, k))
    # var(a - b) = var a + var b - 2 cov(a, b): all pairs at once; centred, so that it loses no digits
    centred = means - means.mean(axis=1, keepdims=True)
    products = centred @ centred.T
    own = np.diag(products)
    squares: Array = np.maximum(own[:, None] + own - 2 * products, 0) / (n - 1) / n
    return squares
