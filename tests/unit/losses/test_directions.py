"""The cosine loss against scikit-learn and torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import paired_cosine_distances
from torch import nn
from unit.losses.residuals import close, pair

from lossbench.errors import Incompatible
from lossbench.losses import CosineSimilarity
from lossbench.types import Problem


def test_against_scikit_learn():
    prediction, target = pair(d=5)
    # a prediction of the target's length lowers the cosine by 5e-9
    close(CosineSimilarity()(prediction, target), paired_cosine_distances(prediction, target) - 1, rtol=0, atol=1e-6)


def test_against_torch():
    prediction, target = pair(d=5)
    wanted = nn.functional.cosine_embedding_loss(prediction, target, torch.ones(50), reduction="none") - 1
    close(CosineSimilarity()(1e3 * prediction, target), wanted, rtol=0, atol=1e-11)


def test_from_minus_one_to_one():
    target = torch.tensor([[3.0, 4.0]] * 3, dtype=torch.float64)
    prediction = torch.tensor([[6.0, 8.0], [-30.0, -40.0], [-4.0, 3.0]], dtype=torch.float64)
    close(CosineSimilarity()(prediction, target), [-1.0, 1.0, 0.0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(unit):
    prediction, target = pair()
    close(CosineSimilarity()(unit * prediction, unit * target), CosineSimilarity()(prediction, target), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_vectors_have_no_direction_and_finite_gradients(dtype):
    # F.normalize's gradient at a zero vector is 1e12
    prediction = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], dtype=dtype, requires_grad=True)
    losses = CosineSimilarity()(prediction, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]], dtype=dtype))
    losses.sum().backward()
    assert losses.tolist() == [0, 0, 0]
    assert prediction.grad.abs().max() <= 1.01e4


def test_a_zero_prediction_is_pulled_towards_the_target():
    prediction = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    CosineSimilarity()(prediction, torch.tensor([[0.6, 0.8]], dtype=torch.float64)).sum().backward()
    close(-prediction.grad / prediction.grad.norm(), [[0.6, 0.8]])


def test_one_number_has_a_sign_and_nothing_to_learn():
    prediction = torch.tensor([[2.0], [0.3], [-1.0]], dtype=torch.float64, requires_grad=True)
    losses = CosineSimilarity()(prediction, torch.tensor([[5.0], [5.0], [5.0]], dtype=torch.float64))
    losses.sum().backward()
    close(losses.detach(), [-1.0, -1.0, 1.0], rtol=0, atol=1e-5)
    assert prediction.grad.abs().max() < 1e-4


def test_a_single_target_is_refused():
    problem = Problem(input_shape=(3,), n_outputs=1, n_examples=2)
    with pytest.raises(Incompatible, match=r"at least two numbers, which have a direction\. Got targets of one"):
        CosineSimilarity().check(np.ones((2, 1)), problem)
    CosineSimilarity().check(np.ones((2, 2)), replace(problem, n_outputs=2))
