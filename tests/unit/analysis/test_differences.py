"""Paired differences: against scipy and brute force, and what their intervals promise, by simulation."""

import numpy as np
import pytest
from scipy import stats

from lossbench.analysis.differences import STANDARD_ERROR_FLOOR, compute_contrast, compute_differences
from lossbench.analysis.intervals import sum_by_group
from lossbench.analysis.scale import choose_scale

SEEDS = range(6)


def drawn(generator, n_seeds, n_examples, seed_sd, example_sd, noise_sd):
    """``[S, m]``: a seed's effect, a test row's effect, and what is left."""
    a = seed_sd * generator.standard_normal((n_seeds, 1))
    b = example_sd * generator.standard_normal((1, n_examples))
    return a + b + noise_sd * generator.standard_normal((n_seeds, n_examples))


def pair(table):
    """The table as the difference between a loss and one whose harm is always 0."""
    return compute_differences([table, np.zeros_like(table)], [range(len(table))] * 2)


def test_without_an_example_part_it_is_the_paired_t_of_scipy():
    draw = np.random.default_rng(0)
    one, other = draw.normal(1.0, 0.3, 6), draw.normal(1.2, 0.3, 6)
    found = compute_differences([one[:, None], other[:, None]], [SEEDS, SEEDS], crossed=False)
    expected = stats.ttest_rel(one, other)
    assert found.value[0, 1] / found.standard_error[0, 1] == pytest.approx(expected.statistic)
    interval = expected.confidence_interval(0.95)
    assert [limit[0, 1] for limit in found.compute_limits(0.95)] == pytest.approx([interval.low, interval.high])
    assert found.compute_probability_better()[0, 1] == pytest.approx(
        stats.ttest_rel(one, other, alternative="less").pvalue * -1 + 1
    )


def test_the_two_parts_are_the_variances_of_the_row_and_of_the_column_means():
    draw = np.random.default_rng(1)
    tables = [draw.normal(size=(6, 40)) for _ in range(3)]
    found = compute_differences(tables, [SEEDS] * 3)
    difference = tables[2] - tables[0]  # by brute force, one pair
    assert found.value[2, 0] == pytest.approx(difference.mean())
    assert found.seed_variance[2, 0] == pytest.approx(difference.mean(axis=1).var(ddof=1) / 6)
    assert found.example_variance[2, 0] == pytest.approx(difference.mean(axis=0).var(ddof=1) / 40)
    parts = found.seed_variance[2, 0], found.example_variance[2, 0]
    assert found.degrees_of_freedom[2, 0] == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 5 + parts[1] ** 2 / 39))


def test_each_pair_is_on_the_seeds_that_both_have():
    draw = np.random.default_rng(2)
    tables = [draw.normal(size=(n, 10)) for n in (4, 3, 2)]
    found = compute_differences(tables, [(0, 1, 2, 3), (1, 3, 7), (8, 9)])
    assert found.n_seeds.tolist() == [[4, 2, 0], [2, 3, 0], [0, 0, 2]]
    assert found.value[0, 1] == pytest.approx(tables[0][[1, 3]].mean() - tables[1][[0, 1]].mean())
    assert found.example_variance[0, 1] == pytest.approx(
        (tables[0][[1, 3]] - tables[1][[0, 1]]).mean(axis=0).var(ddof=1) / 10
    )
    assert np.isnan(found.value[0, 2])
    assert np.isnan(found.standard_error[0, 2])


def test_a_single_seed_says_nothing_of_others():
    found = pair(np.random.default_rng(3).normal(1, 1, (1, 50)))
    assert found.value[0, 1] != 0
    assert np.isnan(found.standard_error[0, 1])
    assert np.isnan(found.compute_limits(0.95)[0][0, 1])


def test_differences_up_to_rounding_are_none():
    table = np.random.default_rng(4).normal(1, 1, (5, 50))
    assert compute_differences([table, table + 1e-9], [range(5)] * 2).is_identical.all()
    near = compute_differences([table, table + 1e-4], [range(5)] * 2)  # a hundredth of a percent, always the same way
    assert not near.is_identical[0, 1]
    assert near.standard_error[0, 1] == STANDARD_ERROR_FLOOR
    assert abs(near.value[0, 1]) < near.standard_error[0, 1]


def test_a_contrast_is_the_sum_with_signs():
    draw = np.random.default_rng(5)
    tables = [draw.normal(size=(4, 20)) for _ in range(4)]
    found = compute_contrast(tables, [range(4)] * 4, (1, -1, -1, 1), crossed=True)
    total = tables[0] - tables[1] - tables[2] + tables[3]
    assert found.value[0, 1] == pytest.approx(total.mean())
    assert found.seed_variance[0, 1] == pytest.approx(total.mean(axis=1).var(ddof=1) / 4)
    assert compute_contrast(tables, [(0, 1, 2, 3), (4, 5, 6, 7)] * 2, (1, -1, -1, 1), crossed=True) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_seeds", "sd"), [(5, (0.1, 1.0, 0.5)), (10, (0.2, 1.0, 0.5)), (20, (0.3, 0.5, 0.3)), (10, (0.3, 0.2, 0.5))]
)
def test_intervals_cover_what_they_promise(n_seeds, sd):
    """Seeds and test rows both drawn anew: 95% is 93 to 97."""
    draw = np.random.default_rng(6)
    found = [pair(drawn(draw, n_seeds, 150, *sd)).compute_limits(0.95) for _ in range(2000)]
    assert 0.93 <= np.mean([low[0, 1] <= 0 <= high[0, 1] for low, high in found]) <= 0.97


@pytest.mark.slow
def test_equal_learners_on_one_fixed_split_are_not_told_apart():
    """A paired t over seeds alone takes the luck of the test rows, which all seeds share, for skill."""
    draw = np.random.default_rng(7)
    tables = [drawn(draw, 20, 150, 0.02, 0.5, 0.5) for _ in range(1000)]
    wrong = [not low[0, 1] <= 0 <= high[0, 1] for low, high in (pair(table).compute_limits(0.95) for table in tables)]
    naive = [stats.ttest_1samp(table.mean(axis=1), 0).pvalue < 0.05 for table in tables]
    assert np.mean(wrong) <= 0.05
    assert np.mean(naive) > 0.4


@pytest.mark.parametrize("transform", ["mean", "root"])
def test_harm_of_scores_has_the_metric_for_its_row_means(transform):
    scores = np.random.default_rng(8).exponential(size=(5, 60))
    metric = scores.mean(axis=1) if transform == "mean" else np.sqrt(scores.mean(axis=1))
    for up, perfect in ((False, 0.0), (True, 1.0)):
        measured = choose_scale(metric, up, perfect)
        harm = measured.compute_harm_per_example(scores, transform)
        assert harm.mean(axis=1) == pytest.approx(measured.compute_harm(metric))
    assert choose_scale(metric, False, 0.0).compute_harm(metric) == pytest.approx(np.log(metric))


def test_the_logarithm_is_linearised_as_by_a_small_step():
    scores = np.random.default_rng(9).exponential(size=(3, 40))
    measured, step = choose_scale([1.0], False, 0.0), 1e-6
    moved = scores.copy()
    moved[1, 7] += step  # one example's part in the logarithm of the root of the mean
    change = (np.log(np.sqrt(moved.mean(axis=1))) - np.log(np.sqrt(scores.mean(axis=1))))[1] / step
    row = scores[1]
    harm = measured.compute_harm_per_example(scores, "root")[1]
    influence = (harm - np.log(np.sqrt(row.mean()))) / (row - row.mean())
    assert influence == pytest.approx(change * 40)


def test_scales():
    error, share, zero = (
        choose_scale([1.0, 2.0], False, 0.0),
        choose_scale([0.9], True, 1.0),
        choose_scale([0.0, 2.0], False, 0.0),
    )
    assert (error.log, error.unit, error.to_display(error.rope)) == (True, "%", pytest.approx(2))
    assert (share.log, share.unit, share.to_display(0.05)) == (False, " points", -5)
    assert (zero.log, zero.reference, zero.to_display(0.5)) == (False, 1.0, 50)  # zero has no logarithm
    assert error.to_display(np.log(1.2)) == pytest.approx(20)
    assert choose_scale([1.0], False, 0.0, rope=5).to_display(
        choose_scale([1.0], False, 0.0, rope=5).rope
    ) == pytest.approx(5)


def test_a_group_stands_for_its_rows_in_proportion_to_their_number():
    table = np.random.default_rng(0).normal(size=(3, 5))
    grouped = sum_by_group(table, np.array([7, 2, 7, 7, 2]))
    assert grouped.mean(axis=1) == pytest.approx(table.mean(axis=1))
    by_hand = table.mean(axis=1) + 2 / 5 * (table[:, [1, 4]] - table.mean(axis=1, keepdims=True)).sum(axis=1)
    assert grouped[:, 0] == pytest.approx(by_hand)


def test_groups_of_one_row_each_are_the_rows():
    table = np.random.default_rng(0).normal(size=(3, 5))
    assert sum_by_group(table, np.arange(5)) == pytest.approx(table)


@pytest.mark.slow
def test_intervals_cover_where_rows_come_in_groups():
    """Groups of 2 to 30 rows that share an effect; taking the rows for independent fails."""
    draw, covered = np.random.default_rng(4), []
    for _ in range(600):
        sizes = draw.integers(2, 31, 25)
        groups = np.repeat(np.arange(25), sizes)
        table = drawn(draw, 8, len(groups), 0.05, 0.5, 0.5) + 0.5 * draw.standard_normal(25)[groups]
        found = pair(sum_by_group(table, groups)), pair(table)
        covered.append([f.compute_limits(0.95)[0][0, 1] <= 0 <= f.compute_limits(0.95)[1][0, 1] for f in found])
    by_groups, by_rows = np.mean(covered, axis=0)
    assert 0.92 <= by_groups <= 0.975
    assert by_rows < 0.8
