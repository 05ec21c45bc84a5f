"""The printed table: readable at 80 to 120 columns without a terminal, and saying what it does not know."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from lossbench.analysis import Estimate, StepsToTarget, summarise
from lossbench.records import load, save
from lossbench.report.tables.grid import format_estimates, format_number, format_steps_to_target
from lossbench.report.tables.summaries import render_summaries

ACCURACY = {
    "task": "multiclass", "data": "digits", "metric": "accuracy", "corruption": "flip", "higher_is_better": True,
    "perfect": 1.0, "target": 0.8, "baseline_predictor": 0.1,
}  # fmt: skip
DIVERGED = {"status": "diverged"}


@pytest.fixture
def summaries(tmp_path, made_up):
    """A function that saves made-up trials in one folder and summarises it."""

    def make(*changes):
        save(tmp_path, [made_up(**change) for change in changes], {})
        return summarise([load(tmp_path)])

    return make


@pytest.fixture
def study(summaries):
    losses = ("huber(delta=2.0)", "mae")
    return summaries(
        *({"loss": loss, "corruption_rate": r, "seed": s} for loss in losses for r in (0, 0.1) for s in range(5)),
        *({"loss": "mse", "corruption_rate": 0, "seed": s} for s in range(5)),
        *({"loss": "mse", "corruption_rate": 0.3, "seed": s} | (DIVERGED if s < 2 else {}) for s in range(5)),
        {"loss": "mse", "corruption_rate": 0.3, "seed": 5, "status": "failed", "reason": "out of memory\nTraceback"},
    )  # fmt: skip


def printed(summaries, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(render_summaries(summaries))
    return console.file.getvalue()


def line_with(text, *parts):
    return next(line for line in text.splitlines() if all(part in line for part in parts))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_it_fits(study, width):
    text = printed(study, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "\x1b" not in text


def test_one_row_per_loss_and_rate(study):
    text = printed(study)
    assert line_with(text, "mae", "0.1", "[").split()[:2] == ["mae", "0.1"]
    assert sum("[" in line and "–" in line for line in text.splitlines()) == 6 + 1  # rows and the footer's first line
    assert text.splitlines()[0] == "regression · friedman1 · mlp · corruption outliers"
    assert text.splitlines()[1] == "test mae ↓, lower is better; 6 seeds, 31 trials, 2 diverged"


def test_a_row_shows_what_the_summary_says(study):
    row = next(s for s in study if s.name == "mae" and s.corruption_rate == 0.1)
    line = line_with(printed(study), "mae", "0.1", "[")
    assert f"{row.last.value:.2f} [{row.last.low:.2f}–{row.last.high:.2f}]" in line
    assert f"{row.best.value:.2f} [{row.best.low:.2f}–{row.best.high:.2f}]" in line
    assert f"{row.steps.median:.0f}" in line
    assert f"{row.degradation.value:+.1f}%" in line


def test_the_footer_says_it_in_words(study):
    text = " ".join(printed(study).split())
    for part in (
        "95% CI over seeds and test examples",
        "Overlap is no verdict",
        "Best epoch: by validation data, which are corrupted like the training data.",
        "target ≤ 2; baseline predictor 4.1",
        "2 of 31 trials diverged and are left out of the means",
        "1 of 6 failed, mse at corruption rate 0.3: out of memory",
        "no results of huber(delta=2.0) at corruption rate 0.3, mae at corruption rate 0.3, mse at corruption",
        "5 of 6 rows: seeds that other rows have are missing: 5",
    ):
        assert part in text
    assert "Traceback" not in text


def test_nothing_wrong_is_said_too(summaries):
    text = printed(summaries(*({"seed": s} for s in range(3))))
    assert "3 trials, none diverged" in text
    assert "Overlap" not in text
    assert "clean" not in text
    assert "diverged" not in text.splitlines()[3]


def test_scores_point_up_and_lose_points(summaries):
    text = printed(summaries(*(ACCURACY | {"corruption_rate": r, "seed": s} for r in (0.0, 0.4) for s in range(3))))
    assert "test accuracy ↑, higher is better" in text
    assert "last epoch ↑" in text
    assert " pt" in line_with(text, "0.4", "[")
    assert "target ≥ 0.8" in text


def test_a_clean_validation_is_called_an_oracle(summaries):
    assert "(an oracle)" in printed(summaries({"corruption_rate": 0.1, "validation": "clean"}))


def test_one_seed_and_no_mean_says_nothing_about_spread(summaries):
    text = printed(summaries(ACCURACY | {"transform": "none", "metric": "auroc"}))
    assert "No intervals: a single seed" in text
    assert "[" not in text


def test_tables_are_apart_by_corruption_and_metric(summaries):
    text = printed(summaries({"corruption_rate": 0.1}, {"corruption_rate": 0.1, "corruption": "jitter"}, ACCURACY))
    titles = [line for line in text.splitlines() if " · " in line]
    assert titles == [
        "multiclass · digits · mlp · corruption flip",
        "regression · friedman1 · mlp · corruption jitter",
        "regression · friedman1 · mlp · corruption outliers",
    ]
    assert "no results at corruption rate 0" in text


def test_numbers_that_differ_have_columns(summaries):
    text = printed(summaries({"lr": 0.1}, {"lr": 0.01}, {"weighting": "class_balanced", "lr": 0.1}))
    assert line_with(text, "loss ", "rate").split()[:3] == ["loss", "rate", "rate"]
    assert line_with(text, "huber ", " 0.01 ").split()[:3] == ["huber", "0.01", "0"]
    assert line_with(text, "huber + class_balanced").split()[3:5] == ["0.1", "0"]
    assert "lr (0.01, 0.1)" not in text


def test_words_that_differ_are_part_of_the_name(summaries):
    text = printed(summaries({"model": "mlp"}, {"model": "linear"}, {"loss": "mae", "model": "mlp"}))
    assert "huber model=linear " in text
    assert "huber model=mlp " in text
    assert line_with(text, "mae ", "[").split()[:2] == ["mae", "0"]
    assert "not the same in all rows: model (linear, mlp)." in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_big_table_shows_the_best_of_each_rate_and_where_the_rest_is(summaries, width):
    rows = summaries(
        *({"lr": n / 1000, "corruption_rate": r, "seed": s} for n in range(1, 25) for r in (0, 0.3) for s in range(2)),
        {"loss": "mse", "corruption_rate": 0.3, "status": "diverged"},
    )  # fmt: skip
    text = printed(rows, width)
    shown = [line.split()[:3] for line in text.splitlines() if line.startswith("huber ")]
    assert len(shown) == 40
    best = sorted((s for s in rows if s.corruption_rate == 0.3 and s.last), key=lambda s: s.last.value)[:20]
    assert shown[20:] == [["huber", f"{s.settings['lr']:g}", "0.3"] for s in best]
    assert "9 of 49 rows (the best 40 by last epoch are shown" in text
    assert "--json" in text
    assert "1 of 97 trials diverged" in text  # the footer is about all rows
    assert max(map(len, text.splitlines())) <= width


def test_where_higher_is_better_the_best_are_the_highest(summaries):
    text = printed(summaries(*(ACCURACY | {"lr": lr / 1000} for lr in range(1, 46))))
    values = [float(line.split()[3]) for line in text.splitlines() if line.startswith("huber ")]
    assert len(values) == 40
    assert values == sorted(values, reverse=True)


def test_narrow_terminals_lose_columns_and_no_digits(study):
    text = printed([replace(s, settings=s.settings | {"lr": 0.001 * i}) for i, s in enumerate(study)], 72)
    assert "diverged" not in line_with(text, "loss ", "rate")
    assert max(map(len, text.splitlines())) <= 72
    assert "…" not in text
    assert "trials diverged and are left out" in " ".join(text.split())


def test_failures_and_skips_are_told_by_reason(summaries):
    losses = [f"loss{i}" for i in range(5)]
    failed = {"status": "failed", "reason": "out of memory"}
    text = " ".join(printed(summaries(
        {"loss": "mae"}, {"loss": "mae", "corruption_rate": 0.1},
        *({"loss": loss, "corruption_rate": rate, **failed} for loss in losses for rate in (0, 0.1)),
        {"loss": "msle", "corruption_rate": 0.1, "status": "skipped", "reason": "negative targets"},
    )).split())  # fmt: skip
    assert "10 of 10 failed, 5 losses (loss0, loss1, loss2, ...): out of memory" in text
    assert "1 of 1 skipped, msle at corruption rate 0.1: negative targets" in text


def test_many_gaps_are_counted(summaries):
    text = printed(summaries({"corruption_rate": 0.1}, *({"loss": f"loss{i}"} for i in range(6))))
    text = " ".join(text.split())
    assert text.count("at corruption rate 0") == 3
    assert "and 4 more losses" in text


def test_names_are_never_taken_for_markup(summaries):
    assert "huber (weights=[a, b])" in printed(summaries({"loss": "huber(weights=[a, b])"}), 120)


def test_nothing_is_an_empty_table():
    assert printed([]).strip() == ""


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (1.0523, 1.012, 1.0931, "1.05 [1.01–1.09]"),
        (1.0523, 1.0311, 1.0733, "1.052 [1.031–1.073]"),
        (72.12, 65.3, 79.1, "72 [65–79]"),
        (0.94411, 0.9312, 0.9570, "0.944 [0.931–0.957]"),
        (123456.0, 120000.0, 126000.0, "1.23e+05 [1.2e+05–1.26e+05]"),
        (0.0, 0.0, 0.0, "0 [0–0]"),
        (0.5, np.nan, np.nan, "0.500"),
        (np.nan, np.nan, np.nan, "–"),
    ],
)
def test_digits_follow_the_interval(value, low, high, text):
    assert format_estimates([Estimate(value, low, high, 5, 100, 0.5)]) == [text]


def test_a_column_has_digits_alike_unless_an_interval_is_much_narrower():
    wide, narrow = Estimate(3.6, 3.0, 4.2, 5, 9, 0.5), Estimate(1.0, 0.999, 1.001, 5, 9, 0.5)
    usual = Estimate(1.05, 1.01, 1.09, 5, 9, 0.5)
    assert format_estimates([wide, usual, narrow, None]) == [
        "3.60 [3.00–4.20]", "1.05 [1.01–1.09]", "1.000 [0.999–1.001]", "–",
    ]  # fmt: skip


def test_numbers_and_steps():
    assert [format_number(x) for x in (1.5245, 100.0, 0.1, 1e-7, np.inf)] == ["1.52", "100", "0.100", "1e-07", "–"]
    reached = [
        StepsToTarget(250, 5, 5),
        StepsToTarget(250, 4, 5),
        StepsToTarget(np.inf, 2, 5),
        StepsToTarget(np.inf, 0, 5),
        None,
    ]
    assert [format_steps_to_target(reach) for reach in reached] == ["250", "250 4/5", "– 2/5", "–", "–"]


def test_targets_that_differ_are_a_range(study):
    changed = [replace(summary, target=2 + 0.1 * i) for i, summary in enumerate(study)]
    assert "target ≤ 2 to 2.5;" in " ".join(printed(changed).split())
