"""Some of the rows of a data set."""

import numpy as np
import pytest

from lossbench.datasets.subsets import draw_subset


@pytest.mark.parametrize("n", [1, 7, 50, 99, 100])
def test_a_subset_has_every_class_in_its_share(n):
    classes = np.repeat([0, 1, 2], [60, 30, 10])
    rows = draw_subset(classes, n, 0)
    assert len(rows) == n
    np.testing.assert_array_equal(rows, np.unique(rows))
    assert np.abs(np.bincount(classes[rows], minlength=3) - n * np.array([0.6, 0.3, 0.1])).max() <= 1


def test_a_larger_subset_contains_the_smaller():
    classes = np.random.default_rng(0).integers(5, size=200)
    assert (
        set(draw_subset(classes, 40, 3))
        < set(draw_subset(classes, 90, 3))
        < set(draw_subset(classes, 0, 3))
        == set(range(200))
    )


def test_subsets_differ_with_the_random_state_alone():
    alike = np.zeros(100)
    np.testing.assert_array_equal(draw_subset(alike, 20, 1), draw_subset(alike, 20, 1))
    assert set(draw_subset(alike, 20, 1)) != set(draw_subset(alike, 20, 2))
