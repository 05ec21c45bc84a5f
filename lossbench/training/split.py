"""Which rows are for training, validation and test: whole groups where there are any, else stratified by class."""

import logging
from functools import lru_cache

import numpy as np

from lossbench.errors import Incompatible
from lossbench.types import Array

log = logging.getLogger("lossbench")

N_DRAWS = 100
"""Draws of groups from which it is told how many rows either side can have with any seed."""
NOTABLE = 0.05
"""A larger share of unused rows is told."""


def divide(rows: Array, share: float, seed: int, classes: Array | None, groups: Array | None) -> tuple[Array, Array]:
    """Rows kept and rows taken, both in order. classes, groups: of the rows. Raises `Incompatible` for too few rows."""
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    if groups is not None:
        return _divide_groups(rows, share, seed, groups)
    # what train_test_split does, without its checks of the arguments: they take as long again
    kind = ShuffleSplit if classes is None else StratifiedShuffleSplit
    try:
        kept, taken = next(kind(1, test_size=share, random_state=seed % 2**32).split(rows, classes))
    except ValueError as error:
        raise Incompatible(f"{len(rows)} rows cannot be split with a share of {share:g}: {error}") from error
    return np.sort(rows[kept]), np.sort(rows[taken])


def divide_evenly(
    rows: Array, share: float, seed: int, classes: Array | None, groups: Array | None
) -> tuple[Array, Array]:
    """As `divide`, with as many rows on either side whatever the seed, as a stack must: some may be left out."""
    if groups is None:
        return divide(rows, share, seed, classes, None)
    codes = np.unique(groups, return_inverse=True)[1]  # names may be of any type
    least = _least(share, codes.tobytes(), codes.dtype.str)
    generator = np.random.default_rng(seed)
    while True:  # one draw in a hundred, or fewer, falls short
        sides = _divide_groups(rows, share, int(generator.integers(2**63)), groups)
        if all(len(side) >= n for side, n in zip(sides, least, strict=True)):
            kept, taken = (np.sort(generator.permutation(side)[:n]) for side, n in zip(sides, least, strict=True))
            return kept, taken


def check_apart(test: Array, groups: Array | None) -> None:
    """Raise `Incompatible` if a data set's own test split shares a group with the rest."""
    if groups is None:
        return
    is_test = np.isin(np.arange(len(groups)), test)
    if shared := set(groups[is_test].tolist()) & set(groups[~is_test].tolist()):
        raise Incompatible(
            f"The data set's own test split shares {len(shared)} groups with the rest, {min(shared)!r} for one: the "
            "rows of a group must lie on one side."
        )


def _divide_groups(rows: Array, share: float, seed: int, groups: Array) -> tuple[Array, Array]:
    """Whole groups to either side; the side taken is as near to its share of the rows as groups in random order get."""
    names, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    wanted, taken, total = share * len(rows), np.zeros(len(names), dtype=bool), 0
    for i in np.random.default_rng(seed).permutation(len(names)):
        if abs(total + sizes[i] - wanted) < abs(total - wanted):
            taken[i], total = True, total + int(sizes[i])
    if not 0 < total < len(rows):
        raise Incompatible(f"{len(names)} groups cannot be split with a share of {share:g}: one side would be empty.")
    return rows[~taken[group]], rows[taken[group]]


@lru_cache(maxsize=8)
def _least(share: float, groups: bytes, dtype: str) -> tuple[int, int]:
    """How many rows either side can have: the least of many draws. Tells if that leaves many unused."""
    names = np.frombuffer(groups, dtype)
    rows = np.arange(len(names))
    sides = [_divide_groups(rows, share, seed, names) for seed in range(N_DRAWS)]
    kept, taken = (min(map(len, side)) for side in zip(*sides, strict=True))
    unused = 1 - (kept + taken) / len(rows)
    if unused > NOTABLE:
        log.warning(
            "%.0f%% of the rows are left out of training and validation: the groups differ in size.", 100 * unused
        )
    return kept, taken
