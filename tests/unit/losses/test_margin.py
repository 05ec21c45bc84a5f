"""Margin losses against torch and scikit-learn."""

import pytest
import torch
from sklearn import metrics
from torch import nn

from lossbench.errors import InvalidValue
from lossbench.losses import Hinge, MultiMargin


def close(got, wanted):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-14)


def drawn(*shape):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_hinge_against_scikit_learn():
    score = drawn(60, 1)
    target = torch.where(torch.arange(60) % 3 == 0, 1.0, -1.0)[:, None].double()
    close(Hinge()(score, target).mean(), metrics.hinge_loss(target[:, 0], score[:, 0]))


def test_hinge_of_labels_by_hand():
    # (max(0, 1 - 0.3) + max(0, 1 + 2) + max(0, 1 - 5)) / 3
    score, target = torch.tensor([[[0.3, 2.0, 5.0]], [[1.0, -1.0, 1.0]]], dtype=torch.float64)
    close(Hinge()(score, target), [(0.7 + 3) / 3])


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [0.5, 1, 3.0])
def test_multi_margin_against_torch(p, margin):
    scores, target = drawn(40, 6), torch.arange(40) % 6
    scores[:3] *= 1e4
    close(
        MultiMargin(p=p, margin=margin)(scores, target),
        nn.MultiMarginLoss(p=p, margin=float(margin), reduction="none")(scores, target),
    )


@pytest.mark.parametrize("fields", [{"p": 3}, {"p": 0}, {"p": 1.5}, {"margin": 0}])
def test_fields_out_of_range(fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of MultiMargin must be .* Got "):
        MultiMargin(**fields)
