"""The pairwise AUC loss by brute force over pairs."""

import pytest
import torch
from sklearn import metrics

from lossbench.errors import InvalidValue
from lossbench.losses import AUCMargin


def drawn(n=30, n_labels=3):
    scores = torch.randn(n, n_labels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    signs = torch.where(torch.rand(n, n_labels, generator=torch.Generator().manual_seed(1)) > 0.7, 1.0, -1.0).double()
    return scores, signs


@pytest.mark.parametrize("margin", [0.5, 1, 3.0])
def test_by_brute_force(margin):
    scores, signs = drawn()
    wanted = []
    for s, y in zip(scores.T.tolist(), signs.T.tolist(), strict=True):
        pairs = [(a, b) for a, i in zip(s, y, strict=True) if i > 0 for b, j in zip(s, y, strict=True) if j < 0]
        wanted.append(sum(max(0, margin - a + b) ** 2 for a, b in pairs) / len(pairs))
    assert AUCMargin(margin=margin)(scores, signs).item() == pytest.approx(sum(wanted) / 3)


def test_it_bounds_one_minus_the_area():
    scores, signs = drawn(n_labels=1)
    lost = 1 - metrics.roc_auc_score(signs[:, 0], scores[:, 0])
    assert AUCMargin()(scores, signs) >= lost
    # far apart scores of few levels: 1 - AUC times the squared distance between a wrong pair, about
    assert AUCMargin(margin=1e-9)(scores.sign(), signs).item() == pytest.approx(
        4 * (1 - metrics.roc_auc_score(signs[:, 0], scores.sign()[:, 0]) - _ties(scores.sign(), signs) / 2)
    )


def _ties(scores, signs):
    positive, negative = scores[signs > 0], scores[signs < 0]
    return (positive[:, None] == negative[None]).double().mean().item()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_class_costs_nothing_and_has_no_gradient(sign):
    scores = torch.randn(5, 1, requires_grad=True)
    loss = AUCMargin()(scores, torch.full_like(scores, sign))
    loss.backward()
    assert loss == 0
    assert (scores.grad == 0).all()


def test_a_shift_is_not_seen():
    scores, signs = drawn()
    torch.testing.assert_close(AUCMargin()(scores + 100, signs), AUCMargin()(scores, signs))


def test_margin_must_be_positive():
    with pytest.raises(InvalidValue, match=r"The 'margin' parameter of AUCMargin must be .* Got 0"):
        AUCMargin(margin=0)
