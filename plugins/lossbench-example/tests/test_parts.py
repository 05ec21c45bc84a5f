"""The other parts, each against what its docstring says."""

import numpy as np
import pytest
import torch
from lossbench_example.datasets import PoissonCounts
from lossbench_example.tasks import Counts
from scipy.special import softmax

from lossbench import corruptions, datasets, metrics, models, weightings
from lossbench.errors import InvalidValue
from lossbench.types import Problem


def test_tilted_weights_are_a_softmax_of_the_losses_in_each_row():
    losses = torch.rand(3, 8, dtype=torch.float64)
    found = weightings.get("tilted", tilt=2.0)(losses, None, None)
    np.testing.assert_allclose(found, 8 * softmax(2.0 * losses.numpy(), -1))


def test_each_count_above_zero_loses_an_event_and_the_rest_at_random():
    examples = PoissonCounts().load()
    drawn = corruptions.get("underreporting", missed=0.25)(examples, np.random.default_rng(0))
    counts, lost = examples.targets, examples.targets - drawn.targets
    np.testing.assert_array_equal(drawn.eligible, (counts > 0)[:, 0])
    assert (lost[counts > 0] >= 1).all()
    assert (lost <= counts).all()
    others = counts[counts > 0] - 1  # binomial with a share of 1/4; its mean is within 4 standard errors
    off = (lost[counts > 0] - 1).sum() - others.sum() / 4
    assert abs(off) < 4 * np.sqrt(others.sum() * 0.25 * 0.75)


def test_counts_have_the_rate_that_the_formula_says():
    examples = PoissonCounts(n=20_000).load()
    x = examples.inputs.astype(float)
    rate = np.exp(2 * x[:, 0] - x[:, 1] + np.sin(np.pi * x[:, 2]))
    scaled = (examples.targets[:, 0] - rate) / np.sqrt(rate)  # mean 0, variance 1
    assert abs(scaled.mean()) < 4 / np.sqrt(20_000)
    np.testing.assert_array_equal(examples.targets, PoissonCounts(n=20_000).load().targets)


def test_within_one_counts_examples_and_gives_a_broken_row_nan():
    target = torch.tensor([[[3.0], [0.0], [7.0], [2.0]]])
    right = torch.tensor([[[3.4], [1.0], [5.9], [9.0]]])
    found = metrics.get("within_one")(torch.cat([right, torch.full_like(right, torch.nan)]), target)
    assert found[0] == 0.5
    assert found[1].isnan()


def test_the_trunk_is_a_sequential_of_its_width():
    trunk, width = models.get("normed_mlp", width=6, depth=2).trunk((2, 4))
    assert isinstance(trunk, torch.nn.Sequential)
    assert trunk(torch.randn(5, 2, 4)).shape == (5, width)


def test_counts_take_what_is_made_for_regression_and_guess_the_mean():
    assert {"mse", "poisson_nll"} <= set(Counts().shortlist)
    targets = np.array([[0.0], [1.0], [5.0]])
    np.testing.assert_array_equal(Counts().predict_baseline(targets, 2, Problem((5,), 1, 3)), [[2.0], [2.0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: weightings.get("tilted", tilt=float("nan")), "'tilt' parameter of Tilted must be"),
        (lambda: corruptions.get("underreporting", missed=1.5), "'missed' parameter of Underreporting must be"),
        (lambda: datasets.get("poisson_counts", n=0), "'n' parameter of PoissonCounts must be"),
        (lambda: models.get("normed_mlp", depth=0), "'depth' parameter of NormedMLP must be"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(InvalidValue, match=message):
        make()
