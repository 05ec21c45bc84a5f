"""Paired differences between losses, with the variance that new seeds and new test examples would give them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from lossbench.types import Array

STANDARD_ERROR_FLOOR = 1e-3
"""The least standard error: a tenth of a percent of the metric is rounding, however alike the seeds."""
ROUNDING = 1e-6
"""Smaller differences are rounding: two ways of computing the same number."""


@dataclass(frozen=True)
class DifferenceMatrix:
    r"""The differences of each of L losses (rows) from each (columns), in harm: where positive, the row is worse.

    .. math:: \mathrm{var} = s^2_\mathrm{seed}/S + s^2_\mathrm{example}/m

    value: the differences.
    seed_variance, example_variance: the two parts of their variance, from the means per seed and per example.
    n_seeds: the number of seeds that both losses have.
    n_examples: 0 where the metric is no mean over examples, so that the second part is unknown.

    Reference: Owen, The Pigeonhole Bootstrap, 2007, https://arxiv.org/abs/0712.1111
    """

    value: Array  # [L, L], as are all others
    seed_variance: Array
    example_variance: Array
    n_seeds: Array
    n_examples: int

    @property
    def standard_error(self) -> Array:
        """The standard errors; NaN for fewer than two seeds, which say nothing about the variance over seeds."""
        error = np.sqrt(np.maximum(self.seed_variance + self.example_variance, STANDARD_ERROR_FLOOR**2))
        return np.where(self.n_seeds > 1, error, np.nan)

    @property
    def degrees_of_freedom(self) -> Array:
        """Satterthwaite's degrees of freedom."""
        # (sum of the parts)^2 / sum of (part^2 / degrees of freedom of the part)
        by_seed = self.seed_variance**2 / np.maximum(self.n_seeds - 1, 1)
        by_example = self.example_variance**2 / max(self.n_examples - 1, 1)
        parts, total = by_seed + by_example, (self.seed_variance + self.example_variance) ** 2
        return np.divide(total, parts, out=np.maximum(self.n_seeds - 1.0, 1.0), where=parts > 0)

    @property
    def is_identical(self) -> Array:
        """True where there is no difference at all: not on average, in no seed and in no test example."""
        return (
            (np.abs(self.value) < ROUNDING)
            & (self.seed_variance + self.example_variance < ROUNDING**2)
            & (self.n_seeds > 0)
        )

    def compute_limits(self, confidence: float) -> tuple[Array, Array]:
        """Return the limits of each difference's own interval, uncorrected; NaN for a single seed."""
        half = stdtrit(self.degrees_of_freedom, (1 + confidence) / 2) * self.standard_error
        return self.value - half, self.value + half

    def compute_probability_better(self) -> Array:
        """Return the probability that the row is better: P(difference < 0) by its t distribution (a flat prior)."""
        return stdtr(self.degrees_of_freedom, -self.value / self.standard_error)


def compute_differences(
    harm: Sequence[Array], seeds: Sequence[Sequence[int]], crossed: bool = True
) -> DifferenceMatrix:
    """Compute the differences of all pairs of losses, each on the seeds that both have.

    harm: ``[S, m]`` per loss, of the same m examples. seeds: the S seeds per loss.
    crossed: the m examples are a sample of their own. Otherwise m is 1, and the seeds are the only sample.
    """
    sets = [frozenset(own) for own in seeds]
    shared = [[one & other for other in sets] for one in sets]
    n = len(sets)
    value, seed_part, example_part, n_seeds = (np.full((n, n), np.nan) for _ in range(4))
    # Pairs with the same common seeds are computed together: mostly there is one such set, of all pairs.
    for common in {pair for row in shared for pair in row}:
        members = [i for i, own in enumerate(sets) if own >= common]
        block = np.ix_(members, members)  # other pairs among these may share more seeds than `common`
        is_pair = np.array([[shared[i][j] == common for j in members] for i in members])  # [k, k]
        if common:
            # 1. harm of the common seeds, in one order
            tables = np.stack([_select_common_seeds(harm[i], seeds[i], common) for i in members])  # [k, S, m]
            # 2. the difference of the grand means
            by_seed, by_example = tables.mean(axis=2), tables.mean(axis=1)  # [k, S], [k, m]
            means = by_seed.mean(axis=1)  # [k]
            # 3. the two parts of its variance, over the differences per seed and per example
            parts = (
                means[:, None] - means,
                _compute_variances(by_seed),
                _compute_variances(by_example) if crossed else np.zeros(is_pair.shape),
            )
        else:
            unknown, none = np.full(is_pair.shape, np.nan), np.zeros(is_pair.shape)
            parts = unknown, none, none
        for whole, part in zip((value, seed_part, example_part), parts, strict=True):
            whole[block] = np.where(is_pair, part, whole[block])
        n_seeds[block] = np.where(is_pair, len(common), n_seeds[block])
    return DifferenceMatrix(value, seed_part, example_part, n_seeds, harm[0].shape[1] if crossed else 0)


def compute_contrast(
    harm: Sequence[Array], seeds: Sequence[Sequence[int]], signs: Sequence[int], crossed: bool
) -> DifferenceMatrix | None:
    """Compute a sum of losses with signs (a difference of differences, say) as one difference: entry ``[0, 1]``.

    None without a seed that all have.
    """
    common = frozenset.intersection(*map(frozenset, seeds))
    if not common:
        return None
    tables = [
        _select_common_seeds(own, names, common) * sign for own, names, sign in zip(harm, seeds, signs, strict=True)
    ]
    total = np.sum(tables, axis=0)  # [S, m]
    return compute_differences([total, np.zeros_like(total)], [sorted(common)] * 2, crossed)


def _select_common_seeds(harm: Array, seeds: Sequence[int], common: frozenset[int]) -> Array:
    """Return ``[S, m]`` of the common seeds, rising."""
    place = {seed: row for row, seed in enumerate(seeds)}
    return harm[[place[seed] for seed in sorted(common)]]


def _compute_variances(means: Array) -> Array:
    """Return the variance of the mean of each difference between rows of ``[k, n]``; 0 where n is 1 (unknown)."""
    k, n = means.shape
    if n < 2:
        return np.zeros((k, k))
    # var(a - b) = var a + var b - 2 cov(a, b), for all pairs at once; centred first, so that no digits are lost
    centred = means - means.mean(axis=1, keepdims=True)
    products = centred @ centred.T  # [k, k]
    squares = np.diag(products)
    variances: Array = np.maximum(squares[:, None] + squares - 2 * products, 0) / (n - 1) / n
    return variances
