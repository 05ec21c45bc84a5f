"""Dice against scikit-learn and by hand."""

import pytest
import torch
from sklearn import metrics

from lossbench.errors import InvalidValue
from lossbench.losses import Dice


def test_dice_of_decisions_is_one_minus_f1():
    hot = (torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0)) > 0.6).double()
    wanted = 1 - metrics.f1_score(hot[1].numpy(), hot[0].numpy(), average="macro")
    assert Dice(smooth=1e-12)(hot[0], hot[1]).item() == pytest.approx(wanted, abs=1e-12)


def test_dice_of_probabilities_by_hand():
    # 1 - (2 (0.9 + 0.4) + 1) / (0.9 + 0.4 + 0.2 + 2 + 1) = 1 - 3.6 / 4.5
    p, y = torch.tensor([[0.9], [0.4], [0.2]]).double(), torch.tensor([[1.0], [1.0], [0.0]]).double()
    assert Dice()(p, y).item() == pytest.approx(0.2)


def test_dice_without_positives_is_defined():
    nothing = torch.zeros(4, 2, dtype=torch.float64)
    assert Dice()(nothing, nothing).item() == 0
    # 1 - (0 + 1) / (4 + 0 + 1)
    assert Dice()(nothing + 1, nothing).item() == pytest.approx(0.8)


def test_smooth_must_be_positive():
    with pytest.raises(InvalidValue, match="The 'smooth' parameter of Dice"):
        Dice(smooth=0)
