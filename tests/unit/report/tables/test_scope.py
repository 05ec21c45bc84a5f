"""What verdicts rest on is said with them."""

import pytest

from lossbench.analysis import study
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.records import save
from lossbench.report.tables.rankings import convert_rankings, render_rankings
from lossbench.report.tables.scope import describe_narrowing, describe_samples, describe_scope


@pytest.fixture
def told(tmp_path, made_up):
    """A function that saves made-up trials of mae and mse and compares them."""

    def make(rates=(0.2,), seeds=range(5), data=("friedman1",), **changes):
        for name in data:
            rows = [(n, r, s) for n in ("mae", "mse") for r in rates for s in seeds]
            trials = [made_up(loss=n, corruption_rate=r, seed=s, data=name, **changes) for n, r, s in rows]
            save(tmp_path / name, trials, {})
        return compare(study.read_study([tmp_path]), ComparisonOptions())

    return make


def test_what_intervals_are_over_and_what_would_narrow_them(told):
    (comparison,) = told()
    (said,) = describe_scope(comparison)
    assert said.startswith("[low, high] is a 95% CI over seeds and test examples; ")
    assert said.endswith(" would narrow it.")
    assert describe_narrowing(comparison.levels[0]) in ("above all more seeds", "more seeds and more test examples")


def test_groups_are_named(told):
    assert describe_samples(told(n_groups=6)[0].levels[0]) == "seeds and groups of test examples"


def test_without_scores_verdicts_are_for_these_rows_only(told):
    (comparison,) = told(transform="none")
    (sentence,) = describe_scope(comparison)
    assert sentence.startswith("[low, high] is a 95% CI over seeds only; other test examples may give another order")


def test_one_seed_has_no_interval(told):
    assert describe_scope(told(seeds=[0])[0]) == []


def test_clean_validation_is_called_an_oracle_where_targets_were_corrupted(told):
    assert "an oracle" in describe_scope(told(validation="clean")[0])[1]


def test_nothing_corrupted_is_no_proof_that_the_test_rows_are_right(told):
    assert "are taken as correct" in describe_scope(told(rates=[0.0])[0])[-1]


def test_few_data_sets_are_told_that_they_show_nothing(told):
    comparisons = told(data=("a", "b", "c"))
    text = " ".join(str(part) for part in render_rankings(comparisons))
    assert "3 data sets cannot show that one loss is better" in text
    assert "is 0.25." in text
    assert convert_rankings(comparisons)["rankings"][0]["ranks"] == [1.0, 2.0]
