"""Several data sets and rates together: against scipy, and what a few data sets cannot show."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lossbench.analysis import study
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.analysis.rankings import compute_profiles, rank_losses
from lossbench.records import save


@pytest.fixture
def compared(tmp_path, made_up):
    """A function that saves made-up trials, one folder per data set, and compares them."""

    def make(*changes):
        for data in {change["data"] for change in changes}:
            save(tmp_path / data, [made_up(**change) for change in changes if change["data"] == data], {})
        return compare(study.read_study([tmp_path]), ComparisonOptions())

    return make


def grid(n_data, losses=("mae", "huber", "mse"), rates=(0.2,), **changes):
    names = [f"data{i}" for i in range(n_data)]
    return [
        {"data": d, "loss": n, "seed": s, "corruption_rate": r} | changes
        for d in names
        for n in losses
        for r in rates
        for s in range(3)
    ]


def test_one_data_set_has_no_ranks(compared):
    assert rank_losses(compared(*grid(1, rates=(0.0, 0.2)))) == []


def test_the_best_on_every_data_set_has_rank_one_and_two_data_sets_show_nothing(compared):
    (found,) = rank_losses(compared(*grid(2)))
    assert (found.names, found.ranks) == (("mae", "huber", "mse"), (1.0, 2.0, 3.0))
    assert (found.data, found.significant_pairs) == (("data0", "data1"), ())
    assert found.least_p == 1.0  # 0.5 by Wilcoxon's test, for three pairs
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare([1, 1], [2, 2], [3, 3]).pvalue)


def test_with_as_many_data_sets_as_it_takes_the_order_is_shown(compared):
    (found,) = rank_losses(compared(*grid(8)))
    assert found.least_p == pytest.approx(3 * stats.wilcoxon(np.arange(1.0, 9)).pvalue)
    assert [pair[:2] for pair in found.significant_pairs] == [("mae", "huber"), ("mae", "mse"), ("huber", "mse")]
    assert all(p == pytest.approx(found.least_p) for *_, p in found.significant_pairs)


def test_a_loss_that_diverged_is_last_and_one_that_is_missing_is_left_out(compared):
    bad = [c | {"status": "diverged"} for c in grid(1, losses=["mae"])]
    rest = [c for c in grid(2) if not (c["loss"] == "mae" and c["data"] == "data0")]
    (found,) = rank_losses(compared(*bad, *rest, *grid(1, losses=["tukey"])))
    assert dict(zip(found.names, found.ranks, strict=True)) == {"mae": 2.0, "huber": 1.5, "mse": 2.5}
    assert found.incomplete == ("tukey",)


def test_equal_losses_tie(compared):
    (found,) = rank_losses(compared(*grid(3, rates=(0.0,))))  # at rate 0 their made-up records are equal
    assert set(found.ranks) == {2.0}
    assert np.isnan(found.friedman_p)
    assert found.significant_pairs == ()


def test_a_profile_by_hand(compared):
    comparisons = compared(*grid(2, losses=("mae", "huber"), rates=(0.0, 0.2)))
    steps = {(0, 0.0): (100, 100), (0, 0.2): (100, 150), (1, 0.0): (200, 399), (1, 0.2): (np.inf, np.inf)}

    def at(i, level):
        pair = dict(zip(("mae", "huber"), steps[i, level.corruption_rate], strict=True))
        rows = [replace(row, steps=replace(row.steps, median=float(pair[row.name]))) for row in level.rows]
        return replace(level, rows=tuple(rows))

    changed = [replace(c, levels=tuple(at(i, level) for level in c.levels)) for i, c in enumerate(comparisons)]
    (found,) = compute_profiles(changed)
    assert found.n_subjects == 3  # on the fourth no loss arrives
    shares = dict(zip(found.names, found.shares, strict=True))
    assert shares == {"mae": (1, 1, 1, 1), "huber": pytest.approx((1 / 3, 2 / 3, 1, 1))}


def test_a_single_subject_has_no_profile(compared):
    assert compute_profiles(compared(*grid(1))) == []
