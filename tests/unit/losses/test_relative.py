"""Percentage errors against scikit-learn and torchmetrics."""

import math

import pytest
import torch
from sklearn.metrics import mean_absolute_percentage_error
from torchmetrics.functional import symmetric_mean_absolute_percentage_error
from unit.losses.residuals import close, pair

from lossbench.losses import MAPE, SMAPE


def positive():
    prediction, target = pair()
    return prediction.exp(), target.exp()


def test_mape_against_scikit_learn():
    prediction, target = positive()
    wanted = [mean_absolute_percentage_error(y, p) for y, p in zip(target, prediction, strict=True)]
    close(MAPE()(prediction, target), wanted)


def test_smape_against_torchmetrics():
    prediction, target = positive()
    pairs = zip(prediction, target, strict=True)
    close(SMAPE()(prediction, target), torch.stack([symmetric_mean_absolute_percentage_error(p, y) for p, y in pairs]))


def test_shares_and_not_per_cent():
    prediction, target = torch.tensor([[90.0], [120.0]]).double(), torch.tensor([[100.0], [100.0]]).double()
    close(MAPE()(prediction, target), [0.1, 0.2])
    close(SMAPE()(prediction, target), [20 / 190, 40 / 220])


def test_a_target_of_0_is_infinitely_far_and_no_made_up_number():
    # keras gives 1e9 for this, as if the target were 1e-7
    assert MAPE()(torch.ones(1, 1), torch.zeros(1, 1)).item() == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smape_of_two_zeros_is_zero_with_a_gradient(dtype):
    prediction = torch.zeros(1, 2, dtype=dtype, requires_grad=True)
    losses = SMAPE()(prediction, torch.zeros(1, 2, dtype=dtype))
    losses.sum().backward()
    assert losses.tolist() == [0]
    assert prediction.grad.tolist() == [[0, 0]]


def test_smape_is_at_most_2():
    prediction = torch.tensor([[1e-30], [1e30], [5.0]], dtype=torch.float64)
    close(SMAPE()(prediction, torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)), [2.0, 2.0, 2.0])
