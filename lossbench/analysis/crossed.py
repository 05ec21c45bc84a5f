"""Scores as tables of seeds by test rows, over the rows that all trials have."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from lossbench.types import Array

SCORED = ("mean", "root", "linear")
"""How scores per example can become the metric."""


class Scores(NamedTuple):
    """Of one trial's test examples, `[m]` each; groups are None where there are none."""

    examples: Array
    values: Array
    groups: Array | None = None


def crossed(parts: Sequence[Sequence[Scores]]) -> tuple[list[Array], Array | None]:
    """``[S, m]`` of each part's trials, of the examples that all trials have; and the examples' groups."""
    every = [scores for part in parts for scores in part]
    first = every[0]
    if not all(np.array_equal(scores.examples, first.examples) for scores in every):
        common = reduce(np.intersect1d, (scores.examples for scores in every))
        parts = [[_of(scores, common) for scores in part] for part in parts]
        first = parts[0][0]
    return [np.stack([scores.values for scores in part]) for part in parts], first.groups


def is_sample(table: Array, groups: Array | None) -> bool:
    """Whether the rows behind ``[S, m]`` can stand for others: several, or several groups of them, and all finite."""
    several = table.shape[1] > 1 and (groups is None or len(np.unique(groups)) > 1)
    return several and bool(np.isfinite(table).all())


def _of(scores: Scores, wanted: Array) -> Scores:
    order = np.argsort(scores.examples, kind="stable")
    at = order[np.searchsorted(scores.examples[order], wanted)]
    return Scores(wanted, scores.values[at], None if scores.groups is None else scores.groups[at])
