"""Subsets of a data set that keep the proportions of the classes."""

import numpy as np

from lossbench.errors import InvalidValue
from lossbench.types import Array


def draw_subset(classes: Array, n: int, random_state: int, field: str = "n") -> Array:
    """Draw the indices of `n` examples, ascending; all for `n` 0. Each class keeps its share, within one or two.

    classes: `[N]`; equal values if there are no classes. A larger subset contains every smaller one.
    Raises `InvalidValue` if there are fewer than `n`.
    """
    if n > len(classes):
        raise InvalidValue(f"data.{field}={n} asks for more examples than there are: {len(classes)}.")
    order = np.random.default_rng(random_state).permutation(len(classes))
    # shuffled once: a larger n adds examples and removes none
    rank = np.empty(len(classes))
    for c in np.unique(classes):
        members = order[classes[order] == c]
        # spread evenly over (0, 1): the first n by rank then have all classes in proportion
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(order[np.argsort(rank[order], kind="stable")][: n or None])
