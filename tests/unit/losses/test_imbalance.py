"""Losses for classes of very different size against torch, scikit-learn and the papers."""

import inspect

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from lossbench.errors import InvalidValue
from lossbench.losses import LDAM, AUCMargin, LogitAdjusted
from lossbench.models.heads import CosineHead

C = 5


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def multiclass(n=40, spread=3.0):
    """Random logits and some that saturate."""
    logits = spread * torch.randn(n, C, generator=draw(), dtype=torch.float64)
    logits[:4] *= 100
    return logits, torch.randint(C, (n,), generator=draw(1))


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


@pytest.mark.parametrize("tau", [0, 0.5, 1.0, 2.0])
def test_logit_adjusted_against_torch(tau):
    logits, target = multiclass()
    counts = torch.tensor([[1000, 100, 10, 5, 1]])
    adjusted = logits + tau * torch.from_numpy(np.log(counts.numpy() / 1116))
    wanted = nn.functional.cross_entropy(adjusted, target, reduction="none")
    close(LogitAdjusted(tau=tau)(logits, target, class_counts=counts), wanted)


def test_logit_adjusted_by_balanced_softmax():
    # Ren et al. 2020, equation 3: n_y e^z_y / sum_c n_c e^z_c
    logits, target = multiclass(spread=1.0)
    logits[:4] /= 100
    counts = np.array([50.0, 20, 20, 9, 1])
    weighted = counts * np.exp(logits.numpy())
    wanted = -np.log(weighted[np.arange(len(target)), target] / weighted.sum(-1))
    close(LogitAdjusted()(logits, target, class_counts=torch.from_numpy(counts)), wanted)


def test_logit_adjusted_takes_counts_and_shares_alike():
    logits, target = multiclass()
    counts = torch.tensor([[70.0, 20, 10, 0, 0]], dtype=torch.float64)
    losses = LogitAdjusted()(logits, target, class_counts=counts)
    assert losses.isfinite().all()
    close(LogitAdjusted()(logits, target, class_counts=counts / 100), losses)


COUNTS = torch.tensor([[500.0, 100.0, 20.0, 4.0]], dtype=torch.float64)
N_COUNTED = COUNTS.shape[-1]


def drawn_cosines(n=24):
    cosines = 2 * torch.rand(n, N_COUNTED, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    return cosines, torch.arange(n) % N_COUNTED


def cross_entropy_in_numpy(logits, target):
    z = logits - logits.max(-1, keepdims=True)
    return np.log(np.exp(z).sum(-1)) - z[range(len(target)), target]


@pytest.mark.parametrize(("scale", "max_margin"), [(30, 0.5), (10.0, 1), (30.0, 0.0)])
def test_ldam_against_the_authors_code(scale, max_margin):
    # m = 1 / sqrt(sqrt(n)), scaled to the largest being max_m; the target's cosine less m; times s
    cosines, target = drawn_cosines()
    margins = 1 / np.sqrt(np.sqrt(COUNTS[0].numpy()))
    margins = margins * max_margin / margins.max()
    lowered = cosines.numpy() - np.eye(N_COUNTED)[target] * margins
    loss = LDAM(scale=scale, max_margin=max_margin)
    close(loss(16 * cosines, target, class_counts=COUNTS), cross_entropy_in_numpy(scale * lowered, target))
    bare = LDAM(scale=scale, max_margin=max_margin, head_scale=1)
    close(bare(cosines, target, class_counts=COUNTS / 624), cross_entropy_in_numpy(scale * lowered, target))


def test_the_shared_cosine_head_multiplies_by_what_is_divided_out():
    scale = inspect.signature(CosineHead).parameters["scale"].default
    assert scale == LDAM().head_scale
    head, features = CosineHead(6, N_COUNTED).double(), torch.randn(8, 6, dtype=torch.float64)
    target = torch.arange(8) % N_COUNTED
    cosines = torch.nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=-1)
    got = LDAM(max_margin=0.0)(head(features), target, class_counts=COUNTS)
    close(got, cross_entropy_in_numpy(30 * cosines.detach().numpy(), target), rtol=1e-6)


def test_ldam_of_classes_without_examples():
    cosines, target = drawn_cosines()
    counts = torch.tensor([[10.0, 0.0, 160.0, 0.0]], dtype=torch.float64)
    losses = LDAM(scale=1.0, head_scale=1.0)(cosines, target, class_counts=counts)
    margins = np.array([0.5, 0.5, 0.25, 0.5])  # (10 / 160)^(1/4) = 1/2
    close(losses, cross_entropy_in_numpy(cosines.numpy() - np.eye(N_COUNTED)[target] * margins, target))
    assert LDAM()(cosines, target, class_counts=0 * counts).isfinite().all()


def drawn_scores(n=30, n_labels=3):
    scores = torch.randn(n, n_labels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    signs = torch.where(torch.rand(n, n_labels, generator=torch.Generator().manual_seed(1)) > 0.7, 1.0, -1.0).double()
    return scores, signs


@pytest.mark.parametrize("margin", [0.5, 1, 3.0])
def test_auc_margin_by_brute_force(margin):
    scores, signs = drawn_scores()
    wanted = []
    for s, y in zip(scores.T.tolist(), signs.T.tolist(), strict=True):
        pairs = [(a, b) for a, i in zip(s, y, strict=True) if i > 0 for b, j in zip(s, y, strict=True) if j < 0]
        wanted.append(sum(max(0, margin - a + b) ** 2 for a, b in pairs) / len(pairs))
    assert AUCMargin(margin=margin)(scores, signs).item() == pytest.approx(sum(wanted) / 3)


def test_auc_margin_bounds_one_minus_the_area():
    scores, signs = drawn_scores(n_labels=1)
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
def test_auc_margin_of_one_class_costs_nothing_and_has_no_gradient(sign):
    scores = torch.randn(5, 1, requires_grad=True)
    loss = AUCMargin()(scores, torch.full_like(scores, sign))
    loss.backward()
    assert loss == 0
    assert (scores.grad == 0).all()


def test_auc_margin_does_not_see_a_shift():
    scores, signs = drawn_scores()
    torch.testing.assert_close(AUCMargin()(scores + 100, signs), AUCMargin()(scores, signs))


def test_auc_margins_margin_must_be_positive():
    with pytest.raises(InvalidValue, match=r"The 'margin' parameter of AUCMargin must be .* Got 0"):
        AUCMargin(margin=0)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (LogitAdjusted, {"tau": -0.1}),
        (LDAM, {"scale": 0}),
        (LDAM, {"max_margin": -0.1}),
        (LDAM, {"head_scale": 0}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
