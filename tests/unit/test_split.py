"""Splits by groups: whole, near their share, of equal size for all seeds, and nothing lost without a word."""

import logging

import numpy as np
import pytest

from lossbench.errors import Incompatible
from lossbench.training.data import check_groups_apart, split_examples, split_examples_evenly

SIZES = np.random.default_rng(0).geometric(0.02, 50)
GROUPS = np.repeat(np.array([f"patient {i}" for i in range(50)]), SIZES)
ROWS = np.arange(len(GROUPS)) + 7


@pytest.mark.parametrize("seed", range(5))
def test_no_group_lies_on_two_sides_and_all_rows_on_one(seed):
    kept, taken = split_examples(ROWS, 0.2, seed, None, GROUPS)
    assert not set(GROUPS[kept - 7]) & set(GROUPS[taken - 7])
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, taken])), ROWS)
    assert abs(len(taken) - 0.2 * len(ROWS)) < SIZES.max() / 2


def test_sizes_are_the_same_for_all_seeds_and_few_rows_are_lost():
    sides = [split_examples_evenly(ROWS, 0.25, seed, None, GROUPS) for seed in range(20)]
    assert len({(len(kept), len(taken)) for kept, taken in sides}) == 1
    assert sum(map(len, sides[0])) > 0.9 * len(ROWS)
    assert len({taken.tobytes() for _, taken in sides}) == 20
    for kept, taken in sides:
        assert not set(GROUPS[kept - 7]) & set(GROUPS[taken - 7])


def test_groups_of_equal_size_lose_nothing():
    kept, taken = split_examples_evenly(np.arange(400), 0.25, 3, None, np.arange(400) % 20)
    assert (len(kept), len(taken)) == (300, 100)


def test_a_giant_stays_on_the_larger_side():
    groups = np.concatenate([np.zeros(700, int), np.repeat(np.arange(1, 11), 30)])
    kept, taken = split_examples_evenly(np.arange(1000), 0.25, 0, None, groups)
    assert (len(kept), len(taken)) == (760, 240)


def test_many_unused_rows_are_told(caplog):
    """Either 200 or 300 of 1000 rows come nearest to a quarter, so 100 are left out."""
    groups = np.repeat(np.arange(4), [300, 300, 200, 200])
    with caplog.at_level(logging.WARNING, "lossbench"):
        kept, taken = split_examples_evenly(np.arange(1000), 0.25, 0, None, groups)
    assert (len(kept), len(taken)) == (700, 200)
    assert "10% of the examples are left out of training and validation" in caplog.text


def test_one_group_cannot_be_split():
    with pytest.raises(Incompatible, match=r"1 groups cannot be split with a share of 0\.2"):
        split_examples(np.arange(5), 0.2, 0, None, np.zeros(5))


def test_a_test_split_of_its_own_must_not_share_groups():
    groups = np.array(["a", "a", "b", "c"])
    check_groups_apart(np.array([2, 3]), groups)
    with pytest.raises(Incompatible, match="shares 1 groups with the rest, 'a' for one"):
        check_groups_apart(np.array([1, 2]), groups)
