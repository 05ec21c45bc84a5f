"""Analysis: intervals that cover what they promise, numbers read off curves, and what is missing."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from counting import count_calls
from scipy import stats

from lossbench.analysis import summarise
from lossbench.analysis.intervals import estimate_interval, estimate_over_seeds
from lossbench.analysis.summary import (
    area_under_curve,
    measure_degradation,
    steps_to_target,
    summarise_steps,
)
from lossbench.records import load, save


def crossed(generator, n, n_seeds, n_examples, seed_sd, example_sd, noise_sd):
    """``[n, S, m]``: a seed's effect, a test row's effect, and what is left."""
    a = seed_sd * generator.standard_normal((n, n_seeds, 1))
    b = example_sd * generator.standard_normal((n, 1, n_examples))
    return a + b + noise_sd * generator.standard_normal((n, n_seeds, n_examples))


def covered(scores, truth, **settings):
    estimates = [estimate_interval(s, **settings) for s in scores]
    return np.mean([e.low <= truth <= e.high for e in estimates])


@pytest.mark.parametrize(
    ("n_seeds", "seed_sd", "example_sd", "noise_sd"),
    [(5, 0.1, 1.0, 0.5), (5, 0.3, 1.0, 0.5), (3, 0.2, 0.5, 1.0), (20, 0.1, 1.0, 0.3), (5, 0.0, 1.0, 0.0)],
)
def test_intervals_cover_new_seeds_and_new_rows(n_seeds, seed_sd, example_sd, noise_sd):
    generator = np.random.default_rng(0)
    scores = 5 + crossed(generator, 1500, n_seeds, 100, seed_sd, example_sd, noise_sd)
    assert 0.935 <= covered(scores, 5, higher_is_better=True) <= 0.985
    assert 0.935 <= covered(np.abs(scores), 5) <= 0.985  # on the scale of the logarithm


def test_a_t_over_seeds_alone_would_not():
    """The largest error of comparisons on one fixed test split."""
    generator = np.random.default_rng(0)
    scores = 5 + crossed(generator, 1000, 5, 100, 0.1, 1.0, 0.5)
    estimates = [estimate_over_seeds(s.mean(axis=1)) for s in scores]
    assert np.mean([e.low <= 5 <= e.high for e in estimates]) < 0.9


@pytest.mark.parametrize("n_seeds", [1, 5])
def test_intervals_of_a_root_cover_the_mean_over_seeds_of_the_root(n_seeds):
    generator = np.random.default_rng(1)
    sd = (0.2 if n_seeds > 1 else 0.0, 0.6, 0.3)
    scores = np.exp(crossed(generator, 1500, n_seeds, 200, *sd))
    # E over seeds of sqrt(E over rows of exp(a + b + e)), for normal a, b, e
    truth = np.exp(sd[0] ** 2 / 8 + (sd[1] ** 2 + sd[2] ** 2) / 4)
    assert 0.925 <= covered(scores, truth, transform="root") <= 0.985


def test_with_one_seed_it_is_the_interval_over_rows():
    scores = np.random.default_rng(2).uniform(size=(1, 50))
    estimate = estimate_interval(scores, higher_is_better=True)
    low, high = stats.t.interval(0.95, 49, scores.mean(), stats.sem(scores[0]))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert (estimate.n_seeds, estimate.n_examples) == (1, 50)
    assert estimate.seed_share == 0


def test_without_spread_over_rows_it_is_the_interval_over_seeds():
    values = np.array([0.8, 0.9, 0.7])
    estimate = estimate_interval(np.repeat(values[:, None], 40, axis=1), higher_is_better=True)
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert (estimate.n_seeds, estimate.n_examples) == (3, 40)
    assert estimate.seed_share == 1


def test_satterthwaite_freedom():
    rows = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 7.0]])
    seed, example = 2.0 / 2, np.var([2, 2, 5], ddof=1) / 3
    freedom = (seed + example) ** 2 / (seed**2 / 1 + example**2 / 2)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(seed + example)
    estimate = estimate_interval(rows, higher_is_better=True)
    assert (estimate.low, estimate.high) == pytest.approx((0, 3 + half))  # the scores are not negative
    estimate = estimate_interval(rows - 10, higher_is_better=True)
    assert (estimate.low, estimate.high) == pytest.approx((-7 - half, -7 + half))
    estimate = estimate_interval(rows)
    assert (estimate.low, estimate.high) == pytest.approx((3 * np.exp(-half / 3), 3 * np.exp(half / 3)))


@pytest.mark.parametrize("transform", ["mean", "root"])
def test_the_value_is_what_averaging_over_seeds_gives(transform):
    scores = np.random.default_rng(3).exponential(size=(4, 30))
    each = scores.mean(axis=1)
    assert estimate_interval(scores, transform).value == pytest.approx(
        (np.sqrt(each) if transform == "root" else each).mean()
    )


def test_diverged_rows_are_left_out():
    scores = np.random.default_rng(4).exponential(size=(4, 30))
    bad = np.vstack([scores, np.full((1, 30), np.nan), np.full((1, 30), np.inf)])
    assert estimate_interval(bad) == estimate_interval(scores)
    assert np.isnan(estimate_interval(bad[4:]).value)
    assert np.isnan(estimate_interval(bad[4:]).low)
    assert estimate_over_seeds(np.array([1.0, 2.0, np.nan])) == estimate_over_seeds(np.array([1.0, 2.0]))
    assert np.isnan(estimate_over_seeds(np.array([np.nan])).value)


def test_no_limit_passes_a_perfect_value():
    scores = np.ones((3, 20))
    scores[0, :2] = 0
    assert estimate_interval(scores, higher_is_better=True).high > 1
    assert estimate_interval(scores, higher_is_better=True, perfect=1.0).high == 1
    assert estimate_interval(scores, higher_is_better=True, perfect=float("inf")).high > 1


def test_degenerate_scores():
    assert estimate_interval(np.zeros((3, 10))).low == 0
    assert estimate_interval(np.zeros((3, 10)), "root").high == 0
    assert np.isnan(estimate_interval(np.ones((1, 1))).low)
    negative = estimate_interval(np.random.default_rng(5).normal(-2, 1, (3, 20)))  # a log-likelihood has no logarithm
    assert negative.low < negative.value < negative.high < 0


def test_without_scores_the_interval_is_over_seeds_only():
    estimate = estimate_over_seeds(np.array([0.8, 0.9, 0.7]), higher_is_better=True)
    assert (estimate.n_seeds, estimate.n_examples) == (3, 0)
    assert (estimate.low, estimate.high) == pytest.approx(stats.t.interval(0.95, 2, 0.8, 0.1 / np.sqrt(3)))
    assert np.isnan(estimate_over_seeds(np.array([0.8])).low)


def test_steps_to_target():
    steps = np.array([0, 10, 20, 30])
    assert steps_to_target(steps, [5, 3, 1, 2], 2, False) == 20
    assert steps_to_target(steps, [0.1, 0.9, 0.5, 0.9], 0.9, True) == 10
    assert steps_to_target(steps, [5, np.nan, np.inf, 3], 2, False) == np.inf
    assert steps_to_target(steps, [0, -np.inf, np.inf, 3], 5, True) == np.inf  # infinity is no success


def test_reach_counts_the_censored():
    assert summarise_steps([30, np.inf, 10]) == summarise_steps([10, 30, np.inf])
    assert summarise_steps([30, np.inf, 10]).median == 30
    assert summarise_steps([10, np.inf]).median == np.inf
    assert (summarise_steps([10, np.inf]).n_reached, summarise_steps([10, np.inf]).n_trials) == (1, 2)
    assert summarise_steps([np.inf, np.inf]).median == np.inf
    assert summarise_steps([10, 20]).median == 15


def test_area():
    assert area_under_curve([0, 10, 30], [4, 2, 0]) == pytest.approx((30 + 20) / 30)
    assert area_under_curve([7], [3]) == 3
    assert np.isnan(area_under_curve([0, 1], [1, np.nan]))
    assert np.isnan(area_under_curve([], []))


def test_degradation_is_paired_and_positive_when_worse():
    cost = measure_degradation({0: 2.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0, 3: 1.0}, False, 0.0)
    assert (cost.value, cost.unit, cost.n_pairs) == (pytest.approx(100), "%", 2)
    cost = measure_degradation({0: 0.7}, {0: 0.9}, True, 1.0)
    assert (cost.value, cost.unit) == (pytest.approx(20), "points")
    assert measure_degradation({0: 70.0}, {0: 90.0}, True, 100.0).value == pytest.approx(20)
    assert measure_degradation({0: 1.0}, {1: 1.0}, False, 0.0) is None
    assert measure_degradation({0: np.nan}, {0: 1.0}, False, 0.0) is None
    assert measure_degradation({0: 1.0}, {0: 0.0}, False, 0.0) is None


@pytest.fixture
def summaries(tmp_path, made_up):
    """A function that saves made-up trials in one folder and summarises it."""

    def make(*changes):
        save(tmp_path, [made_up(**change) for change in changes], {})
        return summarise([load(tmp_path)])

    return make


def test_one_summary_per_cell_in_a_stable_order(tmp_path, made_up):
    for loss in ("mse", "huber"):
        save(tmp_path / loss, [made_up(loss=loss, corruption_rate=r, seed=s) for r in (0.2, 0.0) for s in (1, 0)], {})
    results = [load(tmp_path / loss) for loss in ("huber", "mse")]
    found = summarise(results)
    assert [(s.loss, s.corruption_rate, s.seeds) for s in found] == [
        ("huber", 0.0, (0, 1)), ("huber", 0.2, (0, 1)), ("mse", 0.0, (0, 1)), ("mse", 0.2, (0, 1)),
    ]  # fmt: skip
    assert summarise(results[::-1]) == found
    assert summarise([*results, results[0]]) == found  # a trial counts once
    assert summarise([]) == []


def test_a_summary_says_what_the_records_say(summaries):
    clean, noisy = summaries(*({"corruption_rate": r, "seed": s} for r in (0.0, 0.4) for s in range(3)))
    assert clean.degradation is None
    assert noisy.degradation.n_pairs == 3
    assert 40 < noisy.degradation.value < 120
    assert clean.last.value == pytest.approx(np.mean(list(clean.values.values())))
    assert clean.last.n_examples == 200
    assert clean.best.value == pytest.approx(0.97 * clean.last.value)
    assert clean.overfitting_gap == pytest.approx(0.03 * clean.last.value)
    assert clean.steps.n_trials == clean.steps.n_reached == 3
    assert clean.steps.median < noisy.steps.median
    assert clean.aulc < noisy.aulc
    assert (clean.target, clean.baseline_predictor, clean.realised_rate) == (2.0, 4.1, 0.0)
    assert clean.settings["lr"] == 0.003


def test_gap_is_positive_when_training_on_made_it_worse(summaries):
    (summary,) = summaries({"metric": "accuracy", "higher_is_better": True, "perfect": 1.0})
    assert summary.best.value < summary.last.value
    assert summary.overfitting_gap == pytest.approx(summary.best.value - summary.last.value)


def test_diverged_and_failed_trials_are_counted_and_left_out(summaries):
    (summary,) = summaries(
        *({"seed": s} for s in range(3)), {"seed": 3, "status": "diverged"},
        {"seed": 4, "status": "failed", "reason": "no memory"},
    )  # fmt: skip
    assert (summary.n_trials, summary.n_diverged, summary.n_failed) == (5, 1, 1)
    assert summary.reasons == ("no memory",)
    assert summary.last.n_seeds == 3
    assert (summary.steps.n_reached, summary.steps.n_trials) == (3, 4)
    assert set(summary.values) == {0, 1, 2}


def test_cells_of_diverged_or_failed_trials_only(summaries):
    bad, worse = summaries({"status": "diverged"}, {"status": "failed", "loss": "mae", "higher_is_better": None})
    assert (bad.last, bad.n_diverged, bad.steps.median, bad.steps.n_reached) == (None, 1, np.inf, 0)
    assert (worse.last, worse.n_failed, worse.steps) == (None, 1, None)
    assert np.isnan(bad.aulc)


def test_without_rate_zero_there_is_no_degradation(summaries):
    assert [s.degradation for s in summaries({"corruption_rate": 0.1}, {"corruption_rate": 0.2})] == [None, None]


def test_rate_zero_may_be_recorded_as_no_corruption(summaries):
    first, second = summaries({"corruption": "none"}, {"corruption_rate": 0.2})
    assert (first.degradation, second.degradation.n_pairs) == (None, 1)


def test_missing_seeds_are_said(summaries):
    huber, mae = summaries({"seed": 0}, {"seed": 1}, {"seed": 2}, {"loss": "mae", "seed": 1})
    assert huber.notes == ()
    assert mae.notes == ("seeds that other rows have are missing: 0, 2",)


def test_other_settings_are_never_averaged(summaries):
    assert [s.settings["lr"] for s in summaries({"lr": 0.1}, {"lr": 0.01})] == [0.01, 0.1]


def test_a_repeated_seed_is_said(tmp_path, made_up):
    save(tmp_path, [made_up(), made_up(seed=1)], {})
    results = load(tmp_path)
    results.trials["seed"] = 0  # as after a change of versions, which changes the id alone
    (summary,) = summarise([results])
    assert summary.seeds == (0,)
    assert "repeat a seed" in summary.notes[0]


def test_intervals_of_metrics_that_are_no_mean_are_over_seeds_only(summaries):
    changes = {"metric": "auroc", "transform": "none", "higher_is_better": True}
    (summary,) = summaries(*(changes | {"seed": s} for s in range(3)))
    assert (summary.last.n_seeds, summary.last.n_examples) == (3, 0)
    assert summary.last.value == pytest.approx(np.mean(list(summary.values.values())))


def test_root_metrics_agree_with_the_column(summaries):
    (summary,) = summaries(*({"transform": "root", "metric": "rmse", "seed": s} for s in range(3)))
    assert summary.last.n_examples == 200
    assert summary.last.value == pytest.approx(np.mean(list(summary.values.values())))


def test_records_without_optional_columns(tmp_path, made_up):
    save(tmp_path, [made_up(), made_up(seed=1)], {})
    results = load(tmp_path)
    optional = [
        "weighting",
        "corruption",
        "corruption_rate",
        "realised_rate",
        "target",
        "baseline_predictor",
        "perfect",
        "reason",
        "lr",
    ]
    results.trials = results.trials.drop(columns=optional)
    (summary,) = summarise([results])
    assert (summary.weighting, summary.corruption, summary.corruption_rate, summary.steps) == (
        "none",
        "none",
        0.0,
        None,
    )
    assert summary.last.n_seeds == 2


def test_no_limit_of_a_share_lies_below_zero():
    """Two seeds give one degree of freedom, and a t interval that reaches far below."""
    scores = np.array([[0, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]], float)
    found = estimate_interval(scores, higher_is_better=True, perfect=1.0)
    assert (found.low, found.high) == (0.0, 1.0)


def test_trials_with_other_test_rows_are_compared_on_those_that_all_have(tmp_path, made_up):
    first, second = made_up(), made_up(seed=1)
    shifted = replace(second, test_index=second.test_index + 50)
    save(tmp_path, [first, shifted], {})
    (summary,) = summarise([load(tmp_path)])
    assert (summary.last.n_examples, summary.last.n_seeds) == (150, 2)
    assert summary.last.value == pytest.approx(
        (first.scores["last"][50:].mean() + second.scores["last"][:150].mean()) / 2
    )


@pytest.mark.slow
def test_four_times_the_trials_are_four_times_the_work(tmp_path, made_up):
    """Comparing each cell with each, and a data frame for each, took minutes for a thousand trials."""
    for lr in range(1, 9):
        save(
            tmp_path / str(lr),
            [made_up(lr=lr, corruption_rate=r, seed=s) for r in (0, 0.1, 0.2, 0.3) for s in range(3)],
            {},
        )
    results = [load(tmp_path / str(lr)) for lr in range(1, 9)]
    assert len(summarise(results)) == 32  # also what is only made once
    few, many = (count_calls(partial(summarise, results[:n])) for n in (2, 8))
    assert many < 4.2 * few
    assert many < 32 * 6000  # 4200 for each cell, those of data frames included
