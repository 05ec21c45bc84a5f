"""The formulas for few classes are torch's."""

import pytest
import torch

from lossbench.numerics.softmax import NARROW, argmax, log_softmax, softmax


@pytest.mark.parametrize("n_classes", [1, 2, NARROW - 1, NARROW])
@pytest.mark.parametrize("by_columns", [True, False])
def test_they_equal_torchs(n_classes, by_columns):
    scores = torch.randn(3, 50, n_classes, dtype=torch.float64)
    scores = scores.mT.contiguous().mT if by_columns else scores
    torch.testing.assert_close(log_softmax(scores), scores.log_softmax(-1))
    torch.testing.assert_close(softmax(scores), scores.softmax(-1))
    assert torch.equal(argmax(scores), scores.argmax(-1))


def test_of_equal_scores_the_first_is_the_highest():
    assert argmax(torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0]])).tolist() == [1, 0]


def test_a_nan_still_has_a_place():
    assert argmax(torch.tensor([[torch.nan, 1.0], [torch.nan, torch.nan]])).lt(2).all()
