"""What may be said: against statsmodels on known cases, and how often it is right, by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from lossbench.analysis.differences import compute_differences
from lossbench.analysis.verdicts import Verdict, adjust_p_values, estimate_more_seeds, judge_pairs

ROPE, ALPHA = 0.02, 0.05


def judged(found, bad=None, same=None, alpha=ALPHA):
    n = len(found.value)
    return judge_pairs(
        found,
        ROPE,
        alpha,
        np.zeros(n, bool) if bad is None else np.array(bad),
        found.is_identical if same is None else same,
    )


def over_seeds(*losses):
    """Differences of losses given by seed, test rows being no sample."""
    return compute_differences([np.array(own)[:, None] for own in losses], [range(len(losses[0]))] * len(losses), False)


def spread(centre, size, n=8):
    """`n` values of that mean and standard deviation."""
    values = np.random.default_rng(int(1e4 * abs(centre)) + n).normal(size=n)
    return centre + size * (values - values.mean()) / values.std(ddof=1)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1, 2, 10])
def test_holm_is_that_of_statsmodels(n):
    p = np.random.default_rng(n).uniform(0, 0.1, n)
    assert adjust_p_values(p) == pytest.approx(multipletests(p, method="holm")[1] if n else p)


@pytest.mark.parametrize("centre", [0.0, 0.006, 0.01, 0.015, 0.03])
def test_equivalent_is_what_two_one_sided_tests_of_statsmodels_say(centre):
    one, other = spread(centre, 0.008), np.zeros(8)
    p = ttost_paired(one, other, -ROPE, ROPE)[0]
    assert (judged(over_seeds(one, other)).verdicts[0, 1] == Verdict.EQUIVALENT) == (p < ALPHA)
    below, above = judged(over_seeds(one, other), alpha=p * 0.99), judged(over_seeds(one, other), alpha=p * 1.01)
    assert (below.verdicts[0, 1] == Verdict.EQUIVALENT, above.verdicts[0, 1] == Verdict.EQUIVALENT) == (False, True)


def test_better_and_worse_mirror_each_other():
    verdicts = judged(over_seeds(spread(1.2, 0.02), spread(1.0, 0.02))).verdicts
    assert (verdicts[0, 1], verdicts[1, 0]) == (Verdict.WORSE, Verdict.BETTER)
    assert verdicts[0, 0] == Verdict.IDENTICAL


def test_noise_is_inconclusive():
    assert judged(over_seeds(spread(1.05, 0.2), spread(1.0, 0.2))).verdicts[0, 1] == Verdict.INCONCLUSIVE


def test_more_pairs_need_more():
    """p = 0.03 is enough for one pair and not for the first of three."""
    one, zero = spread(1, 1), np.zeros(8)
    one *= stats.t.isf(0.015, 7) / np.sqrt(8) / one.mean()
    one = one.mean() + (one - one.mean()) / one.std(ddof=1)
    assert stats.ttest_1samp(one, 0).pvalue == pytest.approx(0.03)
    assert judged(over_seeds(one, zero)).verdicts[0, 1] == Verdict.WORSE
    assert judged(over_seeds(one, zero, spread(0.4, 1))).verdicts[0, 1] == Verdict.INCONCLUSIVE


def test_identical_pairs_are_called_so_and_are_no_tests():
    one, zero = spread(1, 1), np.zeros(8)
    one = stats.t.isf(0.015, 7) / np.sqrt(8) + (one - one.mean()) / one.std(ddof=1)
    found = judged(over_seeds(one, zero, zero))
    assert found.verdicts[1, 2] == Verdict.IDENTICAL
    assert found.verdicts[0, 1] == Verdict.INCONCLUSIVE  # 2 * 0.03, the third pair not being counted
    assert judged(over_seeds(one, zero, zero), alpha=0.061).verdicts[0, 1] == Verdict.WORSE


def test_what_diverged_is_flattered_and_neither_recommended_nor_a_rival():
    found = over_seeds(spread(1.0, 0.02), spread(1.2, 0.02))
    assert judged(found).recommended.tolist() == [True, False]
    flattered = judged(found, bad=[True, False])
    assert flattered.verdicts[0, 1] == flattered.verdicts[1, 0] == Verdict.INCONCLUSIVE
    assert flattered.recommended.tolist() == [False, True]
    worse = judged(found, bad=[False, True])
    assert (worse.verdicts[1, 0], worse.recommended.tolist()) == (Verdict.WORSE, [True, False])


def test_a_loss_is_out_only_when_beaten_by_more_than_the_rope():
    one, other = spread(0.03, 0.01, 12), np.zeros(12)
    t = (0.03 - ROPE) / (0.01 / np.sqrt(12))
    p = stats.t.sf(t, 11)  # one-sided, one rival
    assert judged(over_seeds(one, other), alpha=p * 1.01).recommended.tolist() == [False, True]
    assert judged(over_seeds(one, other), alpha=p * 0.99).recommended.tolist() == [True, True]


def test_one_seed_excludes_nothing():
    found = compute_differences([np.full((1, 30), 5.0), np.zeros((1, 30))], [[0], [0]])
    assert judged(found).recommended.all()
    assert judged(found).verdicts[0, 1] == Verdict.INCONCLUSIVE
    assert np.isnan(estimate_more_seeds(found, (0, 1), ROPE, ALPHA))


def test_as_many_more_seeds_as_asked_for_settle_it():
    found = over_seeds(spread(0.1, 0.2), np.zeros(8))
    more = int(estimate_more_seeds(found, (0, 1), ROPE, ALPHA))
    for n, verdict in ((8 + more, Verdict.WORSE), (8 + more // 2, Verdict.INCONCLUSIVE)):
        assert judged(over_seeds(spread(0.1, 0.2, n), np.zeros(n))).verdicts[0, 1] == verdict


def test_no_number_of_seeds_helps_where_the_test_rows_alone_leave_the_doubt():
    rows = np.random.default_rng(0).normal(0, 1, 40)
    table = 0.1 + np.tile(rows - rows.mean(), (5, 1)) + spread(0, 0.01, 5)[:, None]
    found = compute_differences([table, np.zeros_like(table)], [range(5)] * 2)
    assert judged(found).verdicts[0, 1] == Verdict.INCONCLUSIVE
    assert estimate_more_seeds(found, (0, 1), ROPE, ALPHA) == np.inf


def simulated(draw, harms, n_seeds=20, n_examples=120):
    """``[S, m]`` per loss: shared difficulty of rows and seeds, and each loss's own."""
    shared = 0.5 * draw.standard_normal((1, n_examples)) + 0.1 * draw.standard_normal((n_seeds, 1))
    return [
        harm
        + shared
        + 0.2 * draw.standard_normal((1, n_examples))
        + 0.05 * draw.standard_normal((n_seeds, 1))
        + 0.2 * draw.standard_normal((n_seeds, n_examples))
        for harm in harms
    ]


def test_the_right_loss_is_recommended_and_wrong_ones_are_not():
    draw = np.random.default_rng(1)
    harms = [0.0, 0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4]
    sets = [judged(compute_differences(simulated(draw, harms), [range(20)] * 8)).recommended for _ in range(400)]
    assert np.mean([s[0] for s in sets]) >= 0.95
    assert np.mean([s[:2].all() for s in sets]) >= 0.95
    assert not any(s[6:].any() for s in sets)


def test_clones_are_seldom_called_different():
    """Eight losses that are one: at most 5% of the families have any pair that is called better or worse."""
    draw = np.random.default_rng(2)
    families = [judged(compute_differences(simulated(draw, [0.0] * 8), [range(20)] * 8)) for _ in range(400)]
    wrong = [np.isin(f.verdicts.astype(str), ["better", "worse"]).any() for f in families]
    assert np.mean(wrong) <= 0.05
    assert np.mean([f.recommended for f in families], axis=0).min() >= 0.95
