"""A comparison in words and tables: what is said first, and that nothing is passed over in silence."""

import io

import numpy as np
import pytest
from rich.console import Console

from lossbench.analysis import study
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.analysis.pairwise import Difference
from lossbench.analysis.scale import Scale, choose_scale
from lossbench.analysis.verdicts import Verdict
from lossbench.records import save
from lossbench.report.tables import comparison as comparison_tables
from lossbench.report.tables import markup, rows
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.grid import format_difference
from lossbench.report.tables.sentences import join_names, write_sentences
from lossbench.seeds import FIRST_TUNING_SEED

ERROR, SHARE = choose_scale([1.0], False, 0.0), Scale(False, True, 1.0, 0.01)


@pytest.fixture
def told(tmp_path, made_up):
    """A function that saves made-up trials and compares them."""

    def make(*changes, **asked):
        for loss in {change["loss"] for change in changes}:
            save(tmp_path / loss, [made_up(**change) for change in changes if change["loss"] == loss], {})
        return compare(study.read_study([tmp_path]), ComparisonOptions(**asked))

    return make


def grid(losses, seeds=range(5), rates=(0.2,), **changes):
    return [{"loss": n, "seed": s, "corruption_rate": r} | changes for n in losses for r in rates for s in seeds]


def printed(comparisons, width=120, sort="metric"):
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_tables.render_comparisons(comparisons, sort))
    return console.file.getvalue()


def difference(value, low, high, verdict=Verdict.WORSE):
    return Difference("mse", value, low, high, verdict, 0.01, np.nan, 5)


@pytest.mark.parametrize(
    ("found", "measured", "signed", "unsigned"),
    [
        (difference(20.3, 12.2, 28.9), ERROR, "+20.3% [12.2,28.9]", "20.3% [12.2%, 28.9%]"),
        (difference(103.9, 75.5, 136.9), ERROR, "+104% [76,137]", "104% [76%, 137%]"),
        (difference(-5.64, -10.57, -0.72), SHARE, "-5.6 pt [-10.6,-0.7]", "5.6 points [0.7, 10.6]"),
        (difference(-0.001, -0.3, 0.2), ERROR, "+0.00% [-0.30,0.20]", "0.00% [-0.30%, 0.20%]"),
        (difference(3.0, np.nan, np.nan), ERROR, "+3.0%", "3.0%"),
        (difference(0.0, -0.3, 0.3, Verdict.IDENTICAL), ERROR, "0", "0"),
    ],
)
def test_differences_as_text(found, measured, signed, unsigned):
    assert format_difference(found, measured) == signed
    assert format_difference(found, measured, signed=False) == unsigned


def test_lists_of_names():
    assert join_names(["a"]) == "a"
    assert join_names(["a", "b", "c"]) == "a, b and c"
    assert join_names(list("abcdefg")) == "a, b, c, d and 3 more"


def test_the_verdict_names_what_is_recommended_and_what_is_beaten(told):
    (said,) = write_sentences(told(*grid(["mae", "huber", "mse"]))[0])
    assert said.startswith("mae is recommended; huber is worse than mae by 2")
    assert said.endswith("(untuned).")


def test_losses_with_learning_rates_to_choose_from_are_not_untuned(told):
    both = [c | {"lr": lr} for lr in (0.001, 0.003) for c in grid(["mae", "mse"])]
    assert write_sentences(told(*both)[0])[0].endswith("(tuned on the same seeds).")
    fresh = [c | {"seed": c["seed"] + FIRST_TUNING_SEED} for c in both]
    assert "tuned" not in write_sentences(told(*grid(["mae", "mse"]), *fresh)[0])[0]
    assert write_sentences(told(*grid(["tukey"]))[0])[0].endswith("(unequally tuned).")


def test_identical_losses_are_told_once(told):
    (said,) = write_sentences(told(*grid(["mae", "mse", "huber"], rates=[0.0]))[0])
    assert said.startswith("huber, mae and mse cannot be told apart; all are recommended; huber, mae and mse are ident")


def test_one_seed_is_no_verdict(told):
    (comparison,) = told(*grid(["mae", "mse"], seeds=[0]))
    assert write_sentences(comparison)[0] == "no verdict: a single seed does not tell how much seeds differ (untuned)."
    assert "inconclusive" in printed([comparison])


def test_what_diverged_failed_or_is_missing_is_said(told):
    (comparison,) = told(
        *grid(["mse"], rates=[0.0, 0.2]),
        *grid(["mae"], rates=[0.0]),
        *grid(["mae"], seeds=range(4)),
        {"loss": "mae", "seed": 4, "corruption_rate": 0.2, "status": "diverged"},
        *grid(["huber"], status="diverged"),
        *grid(["tukey"], status="failed", reason="no memory"),
        baseline="mse",
    )
    text = " ".join(printed([comparison]).split())
    for words in (
        "mae diverged in 1 of 5 trials: not recommended",
        "huber diverged in 5 of 5 trials: not recommended",
        "inconclusive, 1 diverged",
        "mae at corruption rate 0.2 has no result of seed 4, and is compared on the others",
        "5 of 5 failed, tukey at corruption rate 0.2: no memory",
        "no results of huber at corruption rate 0, tukey at corruption rate 0.",
    ):
        assert words in text
    level = comparison.levels[1]
    assert np.isnan(next(r for r in level.rows if r.name == "mae").vs_baseline.more_seeds)  # no seed mends a divergence


@pytest.mark.slow
def test_a_large_table_is_cut_and_says_so(told):
    (comparison,) = told(*grid([f"loss_{n:02}" for n in range(45)], seeds=range(2)), baseline="loss_44")
    text = printed([comparison])
    assert "41 of 45 rows" in text
    assert "loss_44" in text.split("41 of 45")[0]
    assert len(rows.flatten([comparison])) == 45


@pytest.mark.parametrize("sort", comparison_tables.SORTS)
def test_rows_can_be_sorted(told, sort):
    (comparison,) = told(*grid(["mse", "mae", "huber"]), baseline="huber")
    (level,) = comparison.levels
    names = [row.name for row in comparison_tables.sort_rows(level, sort)]
    expected = ["huber", "mae", "mse"] if sort in ("loss", "seconds") else ["mae", "huber", "mse"]
    assert names == expected


def test_scores_that_are_no_mean_are_told_to_speak_for_seeds_only(told):
    changes = grid(["mae", "mse"], metric="auroc", transform="none", higher_is_better=True, perfect=1.0)
    assert "95% CI over seeds only; other test examples" in printed(told(*changes))


def test_interactions_are_told(told):
    changes = [c | {"weighting": w} for w in ("none", "irls") for c in grid(["mae", "mse"])]
    text = printed(told(*changes, baseline="mae"))
    assert "effect on the loss of a weighting instead of none, less its effect on mae; - helps it more" in text


def test_a_latex_table_escapes_what_latex_would_take_for_its_own():
    assert r"a\_b & 50\%" in markup.format_latex([{"name": "a_b", "x": "50%"}])
    assert markup.format_markdown([{"a": 1.23456, "b": None, "c": float("nan")}]).splitlines()[2] == "| 1.235 |  |  |"


@pytest.mark.parametrize(("size", "warned"), [(0.05, True), (0.6, False), (8.0, True), (np.nan, False)])
def test_residuals_of_another_size_than_the_scale_are_told(told, size, warned):
    said = [
        line
        for line in explain_comparison(told(*grid(["mae", "mse"], residual_scale=size))[0])
        if "robust scale" in line
    ]
    assert bool(said) is warned
    assert not warned or f"{size:.2g} at corruption rate 0.2" in said[0]
