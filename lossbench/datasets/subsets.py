"""Some of the rows of a data set."""

import numpy as np

from lossbench.errors import InvalidValue
from lossbench.types import Array


def subset(classes: Array, n: int, random_state: int, field: str = "n") -> Array:
    """The numbers of `n` rows, ascending; all for `n` 0. Each class keeps its share, to within a row or two.

    classes: `[N]`; the same everywhere if rows are not to be sorted by class. More rows contain those of fewer.
    Raises `InvalidValue` if there are fewer than `n`.
    """
    if n > len(classes):
        raise InvalidValue(f"data.{field}={n} asks for more rows than there are: {len(classes)}.")
    order = np.random.default_rng(random_state).permutation(len(classes))
    place = np.empty(len(classes))
    for one in np.unique(classes):
        own = order[classes[order] == one]
        # members of each class evenly over (0, 1): any beginning then has all classes in proportion
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return np.sort(order[np.argsort(place[order], kind="stable")][: n or None])
