"""Predictions to be drawn: kept for the first test examples at the last and the best epoch.

On handwritten digits, whose task is made to have pictures.
"""

import numpy as np
import pytest

from lossbench import registry
from lossbench.report.figures.gallery import NOTHING, draw_gallery, render_png
from lossbench.tasks import Multiclass
from lossbench.training import evaluation
from lossbench.training.run import run_stack
from lossbench.types import Picture, Stack

TASK = ("task=multiclass", "rates=[0]", "seeds=1", "precision=64")


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setattr(Multiclass, "picture", Picture.LABELS)


def test_shown_are_the_predictions_that_are_scored(make_trials, drawn):
    (record,) = run_stack(Stack(make_trials(*TASK, "loss=cross_entropy", "epochs=3")))
    digits, samples = registry.datasets.get("digits").load(), record.samples
    rows = record.test_index[:12]
    np.testing.assert_array_equal(samples.inputs, digits.inputs[rows])
    np.testing.assert_array_equal(samples.targets, digits.targets[rows])
    assert (samples.kind, samples.class_names) == ("labels", tuple("0123456789"))
    for epoch in ("last", "best"):
        assert record.predictions[epoch].shape == (12, 10)
        right = record.predictions[epoch].argmax(1) == samples.targets
        np.testing.assert_array_equal(right, record.scores[epoch][:12])


def test_metrics_without_scores_have_the_same_pictures(make_trials, drawn, monkeypatch):
    """Only the first test examples are predicted then."""
    trials = make_trials(*TASK, "loss=cross_entropy", "epochs=2")
    (one,) = run_stack(Stack(trials))
    monkeypatch.setattr(evaluation, "ScoredMetric", type("Unscored", (), {}))
    (other,) = run_stack(Stack(trials))
    assert other.scores == {}
    np.testing.assert_allclose(one.predictions["last"], other.predictions["last"], rtol=1e-12)
    assert other.predictions["best"].shape == (12, 10)


def test_a_row_that_diverged_shows_nothing(make_trials, drawn):
    bad, good = run_stack(Stack(make_trials(*TASK, "loss=cross_entropy", "epochs=2", "lr=[1e150,0.003]")))
    assert bad.row["status"] == "diverged"
    assert np.isnan(bad.predictions["last"]).all()
    assert np.isfinite(good.predictions["last"]).all()


@pytest.mark.slow
def test_tasks_and_inputs_without_pictures_keep_nothing(make_trials, monkeypatch):
    (record,) = run_stack(Stack(make_trials(*TASK, "loss=cross_entropy", "epochs=1")))
    assert (record.samples, record.predictions) == (None, {})
    monkeypatch.setattr(Multiclass, "picture", Picture.LABELS)
    (record,) = run_stack(Stack(make_trials(*TASK, "loss=cross_entropy", "epochs=1", "data=breast_cancer")))
    assert (record.samples, record.predictions) == (None, {})


@pytest.mark.slow
@pytest.mark.parametrize(("task", "kind"), [("boxes", "box"), ("multilabel", "labels"), ("ctc", "text")])
def test_tasks_on_images_have_pictures(make_trials, task, kind):
    (record,) = run_stack(Stack(make_trials(f"task={task}", "data.n=200", "rates=[0]", "seeds=1", "epochs=1")))
    samples = record.samples
    assert samples.kind == kind
    for shown in record.predictions.values():
        drawn = draw_gallery(Picture(kind), samples.inputs, samples.targets, shown, samples.class_names)
        assert render_png(drawn).startswith(b"\x89PNG")
        assert not any(text.get_text() == NOTHING for axes in drawn.axes for text in axes.texts)
