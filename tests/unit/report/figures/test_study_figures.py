"""Figures of a study: what is drawn are the numbers of its summaries, and words say how to read them."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.errors import InvalidValue
from lossbench.records import save
from lossbench.report.figures.differences import MAX_LOSSES, plot_differences
from lossbench.report.figures.learning_curves import plot_curves
from lossbench.report.figures.robustness import plot_robustness
from lossbench.report.figures.style import N_STYLES, OTHERS, assign_styles, render_figure, style_losses
from lossbench.report.figures.tuning import plot_tuning
from lossbench.report.tables.grid import format_difference
from lossbench.seeds import FIRST_TUNING_SEED

LOSSES = ("huber", "mae", "mse")
TWELVE = [f"loss_{n}" for n in range(12)]


def compared(found, **asked):
    (comparison,) = compare(found, ComparisonOptions(**asked))
    return comparison


def texts(axes):
    return [text.get_text() for text in axes.texts]


def caption(figure):
    return " ".join(figure.get_supxlabel().split())


def named(figure):
    """The lines of the legend, by name."""
    (legend,) = figure.legends
    words = [text.get_text().replace("\n ", "") for text in legend.get_texts()]
    return dict(zip(words, legend.get_lines(), strict=True))


def line_of(axes, colour):
    (found,) = [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) > 2]
    return found


class TestStyles:
    @pytest.mark.slow
    def test_a_loss_has_one_look_in_all_figures(self, make_study):
        found = make_study(*LOSSES)
        comparison = compared(found)
        styles = style_losses(comparison)
        assert len({(s.colour, s.dash) for s in styles.values()}) == 3
        keys = named(plot_curves(comparison, found.measurements))
        labels = plot_robustness(comparison).axes[1].get_yticklabels()
        forest = plot_differences(comparison).axes[0]
        for name in LOSSES:
            assert keys[name].get_color() == styles[name].colour
            assert [to_hex(t.get_color()).upper() for t in labels if t.get_text() == name] == [styles[name].colour]
            if name != comparison.levels[0].baseline:
                assert styles[name].colour in {line.get_color() for line in forest.lines}

    def test_the_order_of_names_and_the_baseline_change_no_colour(self, make_study):
        found = make_study(*LOSSES)
        assert style_losses(compared(found, baseline="mse")) == style_losses(compared(found, baseline="mae"))
        assert assign_styles(reversed(LOSSES)) == assign_styles(LOSSES)

    @pytest.mark.slow
    def test_of_many_losses_the_best_are_told_apart(self, make_study):
        names = [f"loss_{n:02d}" for n in range(18)]
        comparison = compared(make_study("mae", "mse", *names, seeds=[0, 1]))  # mae is best under corruption, mse worst
        styles = style_losses(comparison)
        strong = {name: style for name, style in styles.items() if style.is_distinct}
        assert (len(styles), len(strong)) == (20, N_STYLES)
        assert len({(s.colour, s.marker) for s in strong.values()}) == N_STYLES
        assert styles["mae"].is_distinct
        assert styles["mse"].colour == OTHERS


class TestCurves:
    def test_lines_are_means_over_seeds(self, make_study):
        found = make_study(*LOSSES)
        comparison = compared(found)
        figure = plot_curves(comparison, found.measurements)
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["corruption rate 0", "corruption rate 0.4"]
        for axes, level in zip(figure.axes, comparison.levels, strict=True):
            for row in level.rows:
                curves = [found.measurements.curves[trial] for trial in row.summary.trials]
                drawn = line_of(axes, style_losses(comparison)[row.name].colour)
                np.testing.assert_array_equal(drawn.get_xdata(), curves[0][0])
                np.testing.assert_allclose(drawn.get_ydata(), np.mean([values for _, values in curves], axis=0))
            assert len(axes.collections) == 3  # intervals

    def test_the_baseline_predictor_is_dotted(self, make_study):
        found = make_study(*LOSSES)
        figure = plot_curves(compared(found), found.measurements)
        for axes in figure.axes:
            (dotted,) = [line for line in axes.lines if line.get_linestyle() == ":"]
            assert set(dotted.get_ydata()) == {4.1}
        assert list(named(figure)) == ["mae", "huber", "mse", "baseline predictor"]  # as the last panel's lines end

    def test_words_say_what_is_drawn(self, make_study):
        found = make_study(*LOSSES)
        figure = plot_curves(compared(found), found.measurements)
        assert figure.axes[0].get_ylabel() == "test mae (lower is better)"
        assert {axes.get_xlabel() for axes in figure.axes} == {"training step"}
        assert figure.get_suptitle() == "Learning curves · regression · friedman1 · mlp · corruption outliers"
        told = caption(figure)
        assert "mean over 4 seeds" in told
        assert "95% CI of that mean for new seeds" in told
        assert "Of equal lines, one has gaps" in told  # made-up records are equal at rate 0

    def test_a_single_seed_has_no_interval(self, make_study):
        found = make_study("huber", "mse", seeds=[0])
        figure = plot_curves(compared(found), found.measurements)
        assert caption(figure).startswith("Line: mean over 1 seed.")
        assert "Shaded" not in caption(figure)

    def test_a_single_loss_can_be_drawn_from_its_summaries(self, make_study):
        found = make_study("huber", metric="accuracy", higher_is_better=True)
        figure = plot_curves(found.summarise(), found.measurements, 0.8)
        assert list(named(figure)) == ["huber", "baseline predictor"]
        assert figure.axes[0].get_ylabel() == "test accuracy (higher is better)"
        assert "80% CI" in caption(figure)

    def test_trials_that_diverged_are_told(self, tmp_path, make_study, made_up):
        save(tmp_path / "mae", [made_up(loss="mae", seed=9, status="diverged")], {})
        found = make_study("huber", "mae")
        assert "Trials that diverged are left out: 1 of 5 of mae at 0." in caption(
            plot_curves(compared(found), found.measurements)
        )

    def test_nothing_to_draw_is_told(self, make_study):
        found = make_study("huber", status="failed", reason="out of memory")
        with pytest.raises(InvalidValue, match="There are no learning curves on record"):
            plot_curves(found.summarise(), found.measurements)
        with pytest.raises(InvalidValue, match="There are no learning curves on record"):
            plot_curves([], found.measurements)


class TestRobustness:
    def test_lines_and_intervals_are_those_of_the_summaries(self, make_study):
        comparison = compared(make_study(*LOSSES, rates=(0.0, 0.2, 0.4)))
        lines, numbers = plot_robustness(comparison).axes
        assert len(lines.containers) == 3
        for bars in lines.containers:
            line, _, (interval,) = bars.lines
            (name,) = [n for n, style in style_losses(comparison).items() if style.colour == line.get_color()]
            rows = [row for level in comparison.levels for row in level.rows if row.name == name]
            np.testing.assert_allclose(line.get_ydata(), [row.summary.last.value for row in rows])
            ends = [segment[:, 1] for segment in interval.get_segments()]
            np.testing.assert_allclose(ends, [[row.summary.last.low, row.summary.last.high] for row in rows])
            np.testing.assert_allclose(line.get_xdata(), [0, 0.2, 0.4], atol=0.02)  # moved apart a little
        assert [label.get_text() for label in numbers.get_yticklabels()] == ["mae", "huber", "mse"]
        assert [label.get_text() for label in numbers.get_xticklabels()] == ["0", "0.2", "0.4"]
        assert len(texts(numbers)) == 9

    def test_words_say_what_is_drawn(self, make_study):
        figure = plot_robustness(compared(make_study(*LOSSES)))
        assert figure.axes[0].get_ylabel() == "test mae (lower is better)"
        assert "share of training examples with outliers" in figure.axes[0].get_xlabel()
        assert "95% CI over seeds and test examples" in caption(figure)

    def test_a_single_rate_is_refused(self, make_study):
        with pytest.raises(InvalidValue, match=r"use rates=\[0,0\.2,0\.4\]"):
            plot_robustness(compared(make_study(*LOSSES, rates=(0.0,))))


class TestDifferences:
    def test_each_loss_has_its_difference_and_its_verdict(self, make_study):
        comparison = compared(make_study(*LOSSES), baseline="huber")
        figure = plot_differences(comparison)
        assert [axes.get_title(loc="left") for axes in figure.axes] == [
            f"corruption rate {r}, against huber" for r in ("0", "0.4")
        ]
        axes, level = figure.axes[1], comparison.levels[1]
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mae", "mse"]
        rows = {row.name: row for row in level.rows}
        expected = [rows[name].vs_baseline for name in ("mae", "mse")]
        assert texts(axes) == [f"{one.verdict}  {format_difference(one, level.scale)}" for one in expected]
        assert [text.split()[0] for text in texts(axes)] == ["better", "worse"]
        low, high = axes.get_xlim()
        for place, one in enumerate(expected):
            (line,) = [line for line in axes.lines if list(line.get_ydata()) == [place, place]]
            np.testing.assert_allclose(line.get_xdata(), np.clip([one.low, one.high], low, high))
            points = [line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [place]]
            assert one.value in points

    def test_the_region_of_equivalence_is_shaded(self, make_study):
        (axes,) = plot_differences(compared(make_study(*LOSSES, rates=(0.4,)), rope=5.0)).axes
        (region,) = axes.patches
        assert (region.get_x(), region.get_x() + region.get_width()) == pytest.approx((100 / 1.05 - 100, 5.0))

    @pytest.mark.parametrize(("higher", "label"), [(False, "[%]; left is better"), (True, "[points]; right is better")])
    def test_the_direction_is_told_in_words(self, make_study, higher, label):
        found = make_study(
            *LOSSES, metric="accuracy" if higher else "mae", higher_is_better=higher, perfect=float(higher)
        )
        figure = plot_differences(compared(found))
        assert figure.axes[0].get_xlabel().endswith(label)
        assert f"within {'1 point' if higher else '2%'}." in caption(figure)

    def test_what_has_no_difference_is_told(self, tmp_path, make_study, made_up):
        save(tmp_path / "tukey", [made_up(loss="tukey", seed=s, status="diverged") for s in range(4)], {})
        figure = plot_differences(compared(make_study(*LOSSES), baseline="huber"))
        assert [texts(axes)[-1] for axes in figure.axes] == ["diverged", "not on record"]

    def test_a_single_seed_has_points_only(self, make_study):
        figure = plot_differences(compared(make_study("huber", "mse", seeds=[0])))
        assert "there is no interval" in caption(figure)

    @pytest.mark.slow
    def test_twelve_losses_have_lines_that_do_not_touch(self, make_study):
        figure = plot_differences(compared(make_study(*TWELVE)))
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert len(boxes) == 11
        tops = [(box.y0, box.y1) for box in boxes]
        assert all(upper[0] > lower[1] for upper, lower in pairwise(tops))
        assert max(box.x1 for box in boxes) < figure.axes[1].get_window_extent().x0

    @pytest.mark.slow
    def test_of_very_many_losses_the_best_are_shown(self, make_study):
        names = [f"loss_{n:02d}" for n in range(MAX_LOSSES + 4)]
        figure = plot_differences(compared(make_study(*names, seeds=[0, 1], rates=(0.4,))))
        assert len(figure.axes[0].get_yticklabels()) == MAX_LOSSES
        assert "3 more losses are not shown." in caption(figure)


@pytest.fixture
def tuned(tmp_path, made_up, make_study):
    """Two losses at three learning rates on seeds for tuning, reported at the best."""

    def make(clean=False, **changes):
        best = {"huber": 0.01, "mse": 0.001}
        for loss, lr in best.items():
            for own in (0.001, 0.01, 0.1):
                some = [
                    made_up(loss=loss, lr=own, corruption_rate=r, seed=FIRST_TUNING_SEED + s)
                    for r in ((0.0,) if clean else (0.0, 0.4))
                    for s in range(2)
                ]
                # validation decides: the best is set a little below what was made up
                for record in some:
                    record.row["validation/mae/last"] = 1.0 + abs(np.log10(own / lr)) + record.row["corruption_rate"]
                save(tmp_path / f"{loss}-{own}", some, {})
            reported = [made_up(loss=loss, lr=lr, corruption_rate=r, seed=s) for r in (0.0, 0.4) for s in range(3)]
            save(tmp_path / f"{loss}-{lr}", reported, {})
        return compared(make_study(), **changes)

    return make


class TestTuning:
    def test_lines_go_over_learning_rates_and_the_chosen_is_marked(self, tuned):
        figure = plot_tuning(tuned())
        assert [axes.get_title(loc="left") for axes in figure.axes] == [
            "tuned at corruption rate 0",
            "tuned at corruption rate 0.4",
        ]
        axes = figure.axes[0]
        assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "learning rate")
        assert axes.get_ylabel() == "validation mae (lower is better)"
        for name, expected, chosen in (("huber", [2, 1, 2], 0.01), ("mse", [1, 2, 3], 0.001)):
            colour = assign_styles(["huber", "mse"])[name].colour
            (line,) = [one for one in axes.lines if one.get_color() == colour and one.get_linestyle() != "None"][:1]
            np.testing.assert_allclose(line.get_xdata(), [0.001, 0.01, 0.1])
            np.testing.assert_allclose(line.get_ydata(), expected)
            (ring,) = [one for one in axes.lines if one.get_color() == colour and one.get_fillstyle() == "none"]
            assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (chosen, 1.0)
        assert set(named(figure)) == {"huber", "mse", "selected"}
        assert "over 2 seeds that are used for tuning only" in caption(figure)

    def test_what_was_tuned_at_rate_0_has_one_panel(self, tuned):
        figure = plot_tuning(tuned(clean=True))
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["tuned at corruption rate 0"]
        assert "The settings selected at corruption rate 0 are used at all corruption rates." in caption(figure)

    def test_where_fields_are_tuned_all_settings_are_marked_and_the_best_are_joined(
        self, tmp_path, made_up, make_study
    ):
        values = {(0.001, 1.0): 3.0, (0.001, 2.0): 2.0, (0.01, 1.0): 1.0, (0.01, 2.0): 1.5}
        for (lr, delta), value in values.items():
            label = f"huber(delta={delta})"
            tuning = [made_up(loss=label, contender="huber", lr=lr, seed=FIRST_TUNING_SEED + s) for s in range(2)]
            for record in tuning:
                record.row["validation/mae/last"] = value
            save(tmp_path / f"{lr}-{delta}", tuning, {})
        reported = [made_up(loss="huber(delta=1.0)", contender="huber", lr=0.01, seed=s) for s in range(2)]
        save(tmp_path / "reported", [*reported, *(made_up(loss="mse", lr=0.01, seed=s) for s in range(2))], {})
        figure = plot_tuning(compared(make_study()))
        (axes,) = figure.axes
        colour = assign_styles(["huber", "mse"])["huber"].colour
        own = [line for line in axes.lines if line.get_color() == colour]
        assert (list(own[0].get_xdata()), list(own[0].get_ydata())) == ([0.001, 0.01], [2.0, 1.0])
        points = [pair for line in own for pair in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        assert {(lr, value) for (lr, _), value in values.items()} <= set(points)
        assert "pale marks are all settings" in caption(figure)

    def test_without_tuning_there_is_one_clear_sentence(self, make_study):
        with pytest.raises(InvalidValue) as error:
            plot_tuning(compared(make_study(*LOSSES)))
        assert str(error.value) == (
            "Each loss was trained at one learning rate only; use protocol=tuned to try several."
        )


@pytest.mark.slow
@pytest.mark.parametrize("names", [LOSSES[:2], TWELVE], ids=len)
def test_they_are_rendered_without_pyplot_and_equal_bytes_come_of_equal_figures(make_study, names):
    found = make_study(*names)
    comparison = compared(found)
    for plot in (lambda: plot_curves(comparison, found.measurements), lambda: plot_differences(comparison)):
        first, second = (render_figure(plot(), "svg") for _ in range(2))
        assert first == second
        assert all(f">{name}<".encode() in first for name in names[1:])


@pytest.mark.slow
def test_drawing_needs_neither_pyplot_nor_torch(make_study, tmp_path):
    make_study(*LOSSES)
    code = (
        "import sys; from pathlib import Path\n"
        "from lossbench.analysis.study import read_study\n"
        "from lossbench.analysis.comparison import ComparisonOptions, compare\n"
        "from lossbench.report.figures import differences, learning_curves, robustness, style, tuning\n"
        "study = read_study([Path(sys.argv[1])]); (one,) = compare(study, ComparisonOptions())\n"
        "made = [learning_curves.plot_curves(one, study.measurements), robustness.plot_robustness(one)]\n"
        "made += [differences.plot_differences(one)]\n"
        "assert all(style.render_figure(figure, 'png', 50)[:4] == b'\\x89PNG' for figure in made)\n"
        "sys.exit(sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
