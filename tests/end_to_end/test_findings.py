"""Findings of the field that the defaults must reproduce."""

import pytest

from tests.end_to_end.conftest import trials


def means(root, metric):
    return trials(root).groupby("loss")[f"test/{metric}/last"].mean()


def test_robust_losses_are_ordered_at_20_percent_one_sided_outliers(lossbench, tmp_path):
    assert lossbench("losses=[mse,huber,mae,tukey]", "rates=[0.2]").code == 0
    mae = means(tmp_path, "mae")
    assert mae["tukey"] < mae["mae"] < mae["huber"] < mae["mse"]


def test_generalized_cross_entropy_withstands_label_noise(lossbench, tmp_path):
    """Zhang, Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, 2018."""
    command = ("task=multiclass", "losses=[cross_entropy,generalized_cross_entropy]", "rates=[0.4]")
    assert lossbench(*command).code == 0
    accuracy = means(tmp_path, "accuracy")
    assert accuracy["generalized_cross_entropy"] > accuracy["cross_entropy"] + 0.02


@pytest.mark.parametrize("seeds", ["[100,101,102]"])
def test_without_corruption_no_regression_loss_is_far_off(lossbench, tmp_path, seeds):
    assert lossbench("losses=[mse,huber,mae,tukey]", "rates=[0]", f"seeds={seeds}").code == 0
    mae = means(tmp_path, "mae")
    assert mae.max() < 1.15 * mae.min()
