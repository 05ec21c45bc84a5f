"""Classification losses against torch, torchvision, scikit-learn and numpy."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from lossbench.errors import InvalidValue
from lossbench.losses import BCE, ELR, Brier, CrossEntropy, Focal, GeneralizedCrossEntropy, LogitAdjusted
from lossbench.types import Problem

C = 5


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def multiclass(n=40, spread=3.0):
    """Random logits and some that saturate."""
    logits = spread * torch.randn(n, C, generator=draw(), dtype=torch.float64)
    logits[:4] *= 100
    return logits, torch.randint(C, (n,), generator=draw(1))


def multilabel(n=40, n_labels=3, spread=3.0):
    logits = spread * torch.randn(n, n_labels, generator=draw(), dtype=torch.float64)
    return logits, torch.randint(2, (n, n_labels), generator=draw(1)).double()


def softmax(logits):
    z = logits.numpy()
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def test_bce_against_scikit_learn():
    logits, target = multilabel()
    probability = 1 / (1 + np.exp(-logits.numpy()))
    wanted = np.mean([metrics.log_loss(target[:, k], probability[:, k], labels=[0, 1]) for k in range(3)])
    close(BCE()(logits, target).mean(), wanted)


def test_bce_of_saturated_logits():
    # -log sigmoid(-z) = z + log(1 + e^-z), which is z itself from 40 on
    z = torch.tensor([[100.0], [-100.0], [1e4]], dtype=torch.float64)
    close(BCE()(z, torch.tensor([[0.0], [1.0], [0.0]]).double()), [100, 100, 1e4])
    assert BCE()(z, torch.tensor([[1.0], [0.0], [1.0]]).double()).max() < 1e-40


@pytest.mark.parametrize("smoothing", [0, 0.1, 1.0])
def test_cross_entropy_against_torch(smoothing):
    logits, target = multiclass()
    target[::7] = -100
    oracle = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    close(CrossEntropy(label_smoothing=smoothing)(logits, target), oracle(logits, target))


def test_cross_entropy_against_scikit_learn():
    logits, target = multiclass(spread=1.0)
    wanted = metrics.log_loss(target[4:], softmax(logits[4:]), labels=range(C))
    close(CrossEntropy()(logits[4:], target[4:]).mean(), wanted)


def test_cross_entropy_ignores():
    logits, target = multiclass()
    logits.requires_grad_()
    losses = CrossEntropy(label_smoothing=0.1, ignore_index=2)(logits, target)
    losses.sum().backward()
    ignored = target == 2
    assert ignored.any()
    assert (losses[ignored] == 0).all()
    assert (logits.grad[ignored] == 0).all()
    assert (losses[~ignored] > 0).all()
    # all ignored is 0, not NaN
    assert CrossEntropy()(logits, torch.full_like(target, -100)).sum() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_of_distributions_against_torch(smoothing):
    logits, target = multiclass()
    soft = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=logits.dtype).softmax(-1)
    ours = CrossEntropy(label_smoothing=smoothing)
    for given in (soft, nn.functional.one_hot(target, logits.shape[-1]).to(logits.dtype)):
        wanted = nn.functional.cross_entropy(logits, given, reduction="none", label_smoothing=smoothing)
        torch.testing.assert_close(ours(logits, given), wanted)
        # leading axes are free
        torch.testing.assert_close(ours(logits[None], given[None]), wanted[None])
    torch.testing.assert_close(ours(logits, given), ours(logits, target))


def test_cross_entropy_of_distributions_against_optax():
    # computed using optax.losses.softmax_cross_entropy v0.2.8, the second with optax.smooth_labels(labels, 0.1)
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -500.0]])
    labels = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.75, 0.0]])
    torch.testing.assert_close(CrossEntropy()(logits, labels), torch.tensor([0.9913113, 0.7985873]))
    smoothed = CrossEntropy(label_smoothing=0.1)(logits, labels)
    torch.testing.assert_close(smoothed, torch.tensor([1.0663114, 17.590256]))


def test_cross_entropy_of_a_masked_class_without_a_share():
    logits = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    found = CrossEntropy()(logits, torch.tensor([[0.5, 0.5, 0.0]]))
    # log(1 + e) - 1/2 for logits 0 and 1
    torch.testing.assert_close(found.detach(), torch.tensor([0.8132617]))
    found.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("q", [1e-3, 0.3, 0.7, 1])
def test_generalized_cross_entropy_against_the_paper(q):
    # equation 6 of Zhang and Sabuncu 2018: (1 - p^q) / q, which needs a p that does not underflow
    logits, target = multiclass(spread=1.0)
    p = softmax(logits)[np.arange(len(target)), target]
    close(GeneralizedCrossEntropy(q=q)(logits, target), (1 - p**q) / q, rtol=1e-9)


def test_generalized_cross_entropy_where_the_probability_underflows():
    logits = torch.tensor([[2000.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = GeneralizedCrossEntropy(q=0.5)(logits, torch.tensor([1]))
    loss.sum().backward()
    assert loss.item() == 2  # 1/q
    assert logits.grad.isfinite().all()


def test_brier_against_scikit_learn():
    logits, target = multilabel(n_labels=1)
    p = logits.sigmoid()
    wanted = metrics.brier_score_loss(target[:, 0], p[:, 0])
    close(Brier()(p, target).mean(), wanted)


def test_brier_of_classes_by_hand():
    # (0.7 - 1)^2 + 0.2^2 + 0.1^2 = 0.14; all on a wrong class: 1 + 1
    p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]], dtype=torch.float64)
    hot = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    close(Brier()(p, hot), [0.14, 2])


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (0.5, 0.9), (5, 1)])
def test_focal_against_torchvision(gamma, alpha):
    logits, target = multilabel()
    wanted = sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma, reduction="none").mean(-1)
    close(Focal(gamma=gamma, alpha=alpha)(logits, target), wanted)


def test_focal_of_saturated_logits():
    # right: 0. Wrong: the modulating factor is 1, so alpha_t * 100
    z = torch.tensor([[100.0], [-100.0], [100.0]], dtype=torch.float64)
    close(Focal()(z, torch.tensor([[1.0], [1.0], [0.0]]).double()), [0, 25, 75])


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


def elr_in_numpy(logits, target, state, index, beta, lam):
    """Equation 6 of Liu et al. 2020, with the clamp of the authors' code; one example after another."""
    p = np.clip(softmax(logits), 1e-4, 1 - 1e-4)
    state, losses = state.numpy().copy(), []
    for i, row in enumerate(index.tolist()):
        state[row] = beta * state[row] + (1 - beta) * p[i] / p[i].sum()
        nll = -np.log(softmax(logits)[i, target[i]])
        losses.append(nll + lam * np.log(1 - state[row] @ p[i]))
    return np.array(losses), state


@pytest.mark.parametrize(("beta", "lam"), [(0.7, 3.0), (0.9, 1), (0, 7.0)])
def test_elr_against_numpy(beta, lam):
    logits, target = multiclass(n=12, spread=1.0)
    state = torch.rand(30, C, generator=draw(2), dtype=torch.float64) / C
    index = torch.randperm(30, generator=draw(3))[:12]
    losses, after = ELR(beta=beta, lam=lam)(logits, target, state=state, index=index)
    wanted, wanted_state = elr_in_numpy(logits, target, state, index, beta, lam)
    close(losses, wanted)
    close(after, wanted_state)


def test_elr_leaves_its_input_and_other_rows_alone():
    logits, target = multiclass(n=3)
    state = torch.full((6, C), 0.1, dtype=torch.float64)
    _, after = ELR()(logits, target, state=state, index=torch.tensor([4, 0, 2]))
    assert (state == 0.1).all()
    assert (after[[1, 3, 5]] == 0.1).all()
    assert (after[[0, 2, 4]] != 0.1).all()
    assert not after.requires_grad


def test_elr_starts_from_zero():
    assert torch.equal(ELR().state(Problem((4,), C, 7)), torch.zeros(7, C))


def test_elr_is_finite_in_bfloat16():
    # 1 - 1e-4 rounds to 1 there, and log(1 - 1) would be -inf
    logits = torch.tensor([[100.0, 0.0, 0.0]], dtype=torch.bfloat16)
    state = torch.tensor([[1.0, 0.0, 0.0]])
    losses, after = ELR(beta=1.0)(logits, torch.tensor([0]), state=state, index=torch.tensor([0]))
    assert losses.item() == pytest.approx(3 * math.log(1e-4), rel=1e-3)
    assert after.dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (CrossEntropy, {"label_smoothing": 1.5}),
        (GeneralizedCrossEntropy, {"q": 0}),
        (GeneralizedCrossEntropy, {"q": 1.1}),
        (Focal, {"gamma": -1}),
        (Focal, {"alpha": 2}),
        (LogitAdjusted, {"tau": -0.1}),
        (ELR, {"beta": 1.2}),
        (ELR, {"lam": -1}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)


def test_a_target_with_a_column_axis_is_refused():
    with pytest.raises(InvalidValue, match=r"one class index per prediction, shape \(4,\).*Got \(4, 1\)"):
        CrossEntropy()(torch.zeros(4, C), torch.zeros(4, 1, dtype=torch.long))
