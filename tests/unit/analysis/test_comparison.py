"""From records to comparisons: what is paired, tuned, aimed at, and said to be missing."""

from dataclasses import replace

import numpy as np
import pytest

from lossbench.analysis import study
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.analysis.rivals import Sample
from lossbench.analysis.robustness import measure_robustness
from lossbench.analysis.verdicts import Verdict
from lossbench.errors import InvalidValue, LossbenchError
from lossbench.records import load, save
from lossbench.seeds import FIRST_TUNING_SEED


@pytest.fixture
def compared(tmp_path, made_up):
    """A function that saves made-up trials, one folder per loss, and compares them."""

    def make(*changes, where=None, metric="", **asked):
        for loss in {change["loss"] for change in changes}:
            save(tmp_path / loss, [made_up(**change) for change in changes if change["loss"] == loss], {})
        return compare(study.read_study([tmp_path], where, metric), ComparisonOptions(**asked))

    return make


def grid(losses, seeds=range(5), rates=(0.0,), **changes):
    return [{"loss": n, "seed": s, "corruption_rate": r} | changes for n in losses for r in rates for s in seeds]


def row(level, name):
    return next(r for r in level.rows if r.name == name)


def scores_of(root, loss, column="score"):
    """``[S, m]`` at the last epoch, by seed, from the files themselves."""
    held = load(root / loss)
    trials = held.trials.sort_values("seed")["trial"]
    last = held.test[held.test["epoch"] == "last"]
    return np.stack([last[last["trial"] == t].sort_values("example")[column].to_numpy() for t in trials])


def test_a_difference_by_hand(compared, tmp_path):
    ((level,),) = (c.levels for c in compared(*grid(["mae", "huber"], rates=[0.2]), baseline="mae"))
    mae, huber = (scores_of(tmp_path, loss) for loss in ("mae", "huber"))
    logs = np.log(huber.mean(axis=1)) - np.log(mae.mean(axis=1))
    found = row(level, "huber").vs_baseline
    assert found.value == pytest.approx(100 * np.expm1(logs.mean()))
    assert (found.other, found.n_seeds) == ("mae", 5)
    assert found.low < found.value < found.high
    lines = [x / x.mean(axis=1, keepdims=True) for x in (huber, mae)]  # less a constant, the logarithm to first order
    d = lines[0] - lines[1] + logs[:, None]
    variance = d.mean(axis=1).var(ddof=1) / 5 + d.mean(axis=0).var(ddof=1) / 200
    half = np.log1p(found.value / 100) - np.log1p(found.low / 100)
    assert 1.97 < half / np.sqrt(variance) < 2.78  # t(0.975) of 200 and of 4 degrees of freedom


def test_harm_is_found(compared):
    (comparison,) = compared(*grid(["mse", "huber", "mae"], rates=[0.0, 0.4]), baseline="huber")
    clean, noisy = comparison.levels
    assert noisy.recommended == ("mae",)
    assert row(noisy, "mse").vs_baseline.verdict == Verdict.WORSE
    assert row(noisy, "mse").beaten_by.other == "mae"
    assert row(noisy, "huber").vs_baseline is None
    assert clean.scale.log
    assert [r.name for r in noisy.rows] == ["mae", "huber", "mse"]


def test_clones_that_went_through_the_same_numbers_are_identical(compared):
    (comparison,) = compared(*grid(["mse", "huber"]))  # at rate 0 their made-up records are equal
    (level,) = comparison.levels
    assert level.identical == (("huber", "mse"),)
    assert row(level, "mse").vs_baseline.verdict == Verdict.IDENTICAL
    assert (row(level, "mse").vs_baseline.probability_better, level.recommended) == (0.5, ("huber", "mse"))


def test_the_default_loss_of_the_task_is_the_baseline(compared):
    (comparison,) = compared(*grid(["mse", "huber"], default_loss="mse"))
    assert comparison.levels[0].baseline == "mse"


def test_without_one_on_record_it_is_the_first(compared):
    assert compared(*grid(["mse", "huber"]))[0].levels[0].baseline == "huber"


def test_unequal_seeds_are_paired_on_those_that_both_have(compared):
    (comparison,) = compared(*grid(["mae", "huber"], rates=[0.2]), *grid(["mse"], seeds=(1, 3, 8), rates=[0.2]))
    (level,) = comparison.levels
    assert row(level, "mse").vs_baseline.n_seeds == 2
    assert row(level, "mae").vs_baseline.n_seeds == 5


def test_a_loss_that_diverged_is_not_recommended(compared):
    diverged = {"loss": "mae", "seed": 5, "corruption_rate": 0.4, "status": "diverged"}
    (comparison,) = compared(
        *grid(["mae", "mse"], rates=[0.4]), diverged, {**diverged, "loss": "mse", "status": "finished"}
    )
    (level,) = comparison.levels
    assert level.recommended == ("mse",)
    assert (level.baseline, row(level, "mse").vs_baseline.verdict) == ("mae", Verdict.INCONCLUSIVE)  # much worse, else


def test_all_diverged_or_failed_is_a_row_without_a_difference(compared):
    (comparison,) = compared(
        *grid(["mae", "mse"], rates=[0.4]),
        {"loss": "huber", "corruption_rate": 0.4, "status": "diverged"},
        {"loss": "tukey", "corruption_rate": 0.4, "status": "failed", "reason": "no memory"},
    )
    (level,) = comparison.levels
    assert row(level, "huber").vs_baseline is row(level, "tukey").vs_baseline is None
    assert not row(level, "huber").recommended
    assert level.rows[-1].summary.last is None


def test_each_loss_is_compared_at_its_best_learning_rate_by_validation(compared):
    first = grid(["mae", "mse"], rates=[0.2], lr=0.003)
    better = grid(["mse"], rates=[0.2], lr=0.03)
    (comparison,) = compared(*first, *(c | {"validation/mae/last": 0.5} for c in better))
    mse = row(comparison.levels[0], "mse")
    assert mse.summary.settings["lr"] == 0.03
    assert (mse.tuned.learning_rates, mse.tuned.at_edge) == ((0.003, 0.03), True)
    assert mse.tuned.ease_of_tuning == 1  # the same test scores at both
    assert np.isnan(row(comparison.levels[0], "mae").tuned.ease_of_tuning)


def test_weightings_interact(compared):
    changes = [c | {"weighting": w} for w in ("none", "irls") for c in grid(["mae", "mse"], rates=[0.2])]
    ((level,),) = (c.levels for c in compared(*changes, baseline="mae"))
    assert level.baseline == "mae"
    assert {r.name for r in level.rows} == {"mae", "mse", "mae + irls", "mse + irls"}
    (found,) = level.interactions
    assert (found.loss, found.weighting, found.other_loss, found.other_weighting) == ("mse", "irls", "mae", "none")
    assert found.value == pytest.approx(0, abs=1e-9)  # made-up records know nothing of weightings
    assert found.low < 0 < found.high


def test_heads_tell_apart_what_has_several(compared):
    changes = [c | {"head": h} for h in ("linear", "cosine") for c in grid(["mae"], rates=[0.2])]
    ((level,),) = (c.levels for c in compared(*changes))
    assert {r.name for r in level.rows} == {"mae, head=linear", "mae, head=cosine"}


def test_the_target_is_one_for_all_and_between_the_trivial_predictor_and_the_best(compared):
    (comparison,) = compared(*grid(["mae", "mse"], rates=[0.0, 0.4]))
    best = min(r.summary.last.value for r in comparison.levels[0].rows)
    assert comparison.baseline_predictor == pytest.approx(4.1)
    assert comparison.target == pytest.approx(4.1 + 0.9 * (best - 4.1))
    assert row(comparison.levels[0], "mae").steps.n_reached == 5
    steps = [row(comparison.levels[0], "mae").steps.median, row(comparison.levels[1], "mse").steps.median]
    assert steps[0] < steps[1] == np.inf
    assert row(comparison.levels[0], "mae").seconds == pytest.approx(3.2 * steps[0] / 500)


def test_robustness_over_rates(compared):
    (comparison,) = compared(*grid(["mae", "mse"], rates=[0.0, 0.2, 0.4]), baseline="mse")
    mae, mse = measure_robustness(comparison)
    assert (mae.name, mse.name) == ("mae", "mse")
    assert 0 < mae.mean_degradation < mse.mean_degradation
    assert mae.breakdown_rate == np.inf
    values = mse.values
    at = 0.2 + 0.2 * (4.1 - values[0.2]) / (values[0.4] - values[0.2])  # 4.1: the baseline predictor
    assert mse.breakdown_rate == pytest.approx(at)
    assert mae.clean_difference.other == "mse"
    assert mse.clean_difference is None


def test_a_loss_is_useless_from_the_rate_at_which_all_its_trials_diverge(compared):
    changes = [*grid(["mae", "mse"]), *grid(["mse"], rates=[0.4]), *grid(["mae"], rates=[0.4], status="diverged")]
    (comparison,) = compared(*changes)
    found = {r.name: r for r in measure_robustness(comparison)}
    assert found["mae"].breakdown_rate == 0.4
    assert np.isnan(found["mae"].mean_degradation)
    assert set(found["mae"].values) == {0.0}


def test_the_interval_of_a_linearised_metric_is_over_test_examples_too(compared):
    ((level,),) = (c.levels for c in compared(*grid(["mae", "mse"], rates=[0.4], transform="linear")))
    assert level.sample == Sample(200)
    assert row(level, "mae").summary.last.n_examples == 200


def test_rows_of_one_group_count_as_one(compared):
    wide, narrow = (compared(*grid(["mae", "mse"], rates=[0.4], n_groups=n))[0].levels[0] for n in (8, None))
    assert (wide.sample, narrow.sample) == (Sample(200, 8), Sample(200))
    assert row(wide, "mse").vs_baseline.value == pytest.approx(row(narrow, "mse").vs_baseline.value)
    assert (row(wide, "mae").summary.last.n_examples, row(wide, "mae").summary.last.grouped) == (8, True)


def test_a_single_group_of_test_rows_is_no_sample(compared):
    (level,) = compared(*grid(["mae", "mse"], rates=[0.4], n_groups=1))[0].levels
    assert level.sample == Sample()
    assert row(level, "mae").summary.last.n_examples == 0


def test_the_interval_of_a_metric_without_scores_is_over_seeds_only(compared):
    changes = grid(["mae", "mse"], rates=[0.4], metric="auroc", transform="none", higher_is_better=True, perfect=1.0)
    ((level,),) = (c.levels for c in compared(*changes))
    assert level.sample.n_examples == 0
    assert row(level, "mae").summary.last.n_examples == 0
    assert level.scale.unit == " points"


def test_another_metric_than_the_primary_one_has_scores_of_its_own(compared, tmp_path):
    (comparison,) = compared(*grid(["mae", "mse"], rates=[0.4], others=["rmse"]), metric="rmse")
    (level,) = comparison.levels
    assert (comparison.first.metric, level.sample) == ("rmse", Sample(200))
    one, other = (scores_of(tmp_path, loss, "score/rmse") for loss in ("mae", "mse"))
    assert row(level, "mse").vs_baseline.value == pytest.approx(
        100 * np.expm1(np.log(other.mean(axis=1) / one.mean(axis=1)).mean())
    )


def test_another_metric_without_scores(compared):
    (comparison,) = compared(*grid(["mae", "mse"], rates=[0.4]), metric="rmse")
    assert (comparison.first.metric, comparison.levels[0].sample.n_examples) == ("rmse", 0)
    assert not comparison.first.higher_is_better
    assert row(comparison.levels[0], "mae").summary.aulc > 0


def test_settings_are_never_averaged(compared):
    found = compared(*grid(["mae", "mse"], model="mlp"), *grid(["mae", "mse"], model="linear"))
    assert [c.settings["model"] for c in found] == ["linear", "mlp"]


def test_other_test_rows_are_compared_on_those_that_all_have(tmp_path, made_up):
    for loss, shift in (("mae", 0), ("mse", 50)):
        own = [made_up(loss=loss, seed=s, corruption_rate=0.2) for s in range(3)]
        save(tmp_path / loss, [replace(r, test_index=r.test_index + shift) for r in own], {})
    (comparison,) = compare(study.read_study([tmp_path]), ComparisonOptions())
    assert comparison.levels[0].sample.n_examples == 150
    one, other = scores_of(tmp_path, "mae")[:, 50:], scores_of(tmp_path, "mse")[:, :150]
    expected = np.log(other.mean(axis=1) / one.mean(axis=1)).mean()
    assert row(comparison.levels[0], "mse").vs_baseline.value == pytest.approx(100 * np.expm1(expected))


def test_where_keeps_what_is_asked_for(compared):
    changes = grid(["mae", "mse", "huber"], rates=[0.0, 0.2, 0.4])
    (comparison,) = compared(*changes, where={"corruption_rate": ["0.2", "0.40"], "loss": ["mae", "mse"]})
    assert [level.corruption_rate for level in comparison.levels] == [0.2, 0.4]
    assert {r.name for level in comparison.levels for r in level.rows} == {"mae", "mse"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"baseline": "maee"}, "Unknown baseline 'maee'. Did you mean 'mae'?"),
        ({"metric": "rsme"}, "Unknown metric 'rsme'. Did you mean 'rmse'?"),
        ({"where": {"corruption_rat": ["0"]}}, "Unknown setting 'corruption_rat'. Did you mean 'corruption_rate'?"),
        ({"where": {"corruption_rate": ["0.3"]}}, "No trial has corruption_rate=0.3. On record: 0.0."),
        ({"where": {"loss": ["mae"]}}, "There is one loss only, mae"),
    ],
)
def test_what_is_not_there_is_said(compared, asked, message):
    with pytest.raises(LossbenchError, match=message.replace("?", r"\?")):
        compared(*grid(["mae", "mse"], seeds=[0]), **asked)


def test_losses_that_share_no_setting_are_told_why(compared):
    with pytest.raises(LossbenchError, match=r"they differ in epochs \(30.0, 50.0\)"):
        compared({"loss": "mae", "epochs": 30.0}, {"loss": "mse", "epochs": 50.0})


def test_folders_that_are_not_there_or_empty(tmp_path):
    (tmp_path / "results").mkdir()
    with pytest.raises(LossbenchError, match=r"There is no folder '.*resluts'. Did you mean '.*results'\?"):
        study.read_study([tmp_path / "resluts"])
    with pytest.raises(LossbenchError, match="There are no records at or below"):
        study.read_study([tmp_path / "results"])


def test_a_damaged_file_is_named(tmp_path, made_up):
    save(tmp_path / "mae", [made_up()], {})
    (tmp_path / "mae" / "test.parquet").write_bytes(b"cut")
    with pytest.raises(LossbenchError, match=r"test\.parquet is damaged"):
        study.read_study([tmp_path])


def test_columns_of_numbers_here_and_of_text_there(tmp_path, made_up):
    save(tmp_path / "mae", [made_up(loss="mae", clip=1.0)], {})
    save(tmp_path / "mse", [made_up(loss="mse", clip="x")], {})
    assert set(study.read_study([tmp_path]).trials["loss"]) == {"mae", "mse"}


def test_a_folder_given_twice_counts_once(tmp_path, made_up):
    save(tmp_path / "mae", [made_up()], {})
    assert len(study.read_study([tmp_path, tmp_path / "mae"]).trials) == 1


def test_trials_of_tuning_choose_and_are_not_reported(made_up, tmp_path):
    worse = [made_up(loss=n, seed=s, lr=0.03) for n in ("mae", "mse") for s in range(3)]
    both = [made_up(loss=n, seed=s, lr=0.003) for n in ("mae", "mse") for s in range(3)]
    first = FIRST_TUNING_SEED
    chosen_by = [made_up(loss=n, seed=first + s, lr=lr) for n in ("mae", "mse") for lr in (0.003, 0.03) for s in (0, 1)]
    for record in chosen_by:
        record.row["validation/mae/last"] = {0.003: 1.0, 0.03: 2.0}[record.row["lr"]]
    save(tmp_path, [*worse, *both, *chosen_by], {})
    (comparison,) = compare(study.read_study([tmp_path]), ComparisonOptions())
    for one in comparison.levels[0].rows:
        assert one.summary.settings["lr"] == 0.003
        assert one.summary.seeds == (0, 1, 2)
        assert (one.tuned.learning_rates, one.tuned.n_seeds, one.tuned.n_settings) == ((0.003, 0.03), 2, 2)


def test_a_study_of_tuning_alone_has_nothing_to_report(made_up, tmp_path):
    save(tmp_path, [made_up(loss=n, seed=FIRST_TUNING_SEED) for n in ("mae", "mse")], {})
    with pytest.raises(InvalidValue, match="only trials of tuning"):
        compare(study.read_study([tmp_path]), ComparisonOptions())
