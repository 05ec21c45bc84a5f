"""Losses for wrong labels against keras and numpy."""

import numpy as np
import pytest
import torch

from lossbench import registry
from lossbench.errors import InvalidValue
from lossbench.losses import (
    BootstrappingHard,
    BootstrappingSoft,
    ForwardCorrection,
    MAESoftmax,
    ReverseCrossEntropy,
    SymmetricCrossEntropy,
)

C = 5
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -4.0], [30.0, -20.0, 5.0], [-3.0, -2.5, -6.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1])


def drawn(n=40, spread=3.0):
    logits = spread * torch.randn(n, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.arange(n) % C


def softmax(logits):
    z = logits.numpy()
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def test_mae_softmax_against_keras():
    # computed using keras.losses.categorical_generalized_cross_entropy(q=0.9999999) v3.15.1, which is 1 - p
    wanted = torch.tensor([0.214402967894, 0.992927265965, 1.0, 0.389024957572])
    close(MAESoftmax()(LOGITS, CLASSES), 2 * wanted, rtol=1e-6)


def test_mae_softmax_is_the_absolute_distance():
    logits, target = drawn()
    close(MAESoftmax()(logits, target), np.abs(softmax(logits) - np.eye(C)[target]).sum(-1))


@pytest.mark.parametrize("a", [1, 4.0, 9.21])
def test_reverse_cross_entropy_by_its_definition(a):
    # of Wang et al. 2019: -sum p log q, with log 0 := -a
    logits, target = drawn()
    log_label = np.where(np.eye(C)[target] == 1, 0.0, -a)
    close(ReverseCrossEntropy(minus_log_zero=a)(logits, target), -(softmax(logits) * log_label).sum(-1))


def test_log_zero_is_minus_four():
    logits = torch.tensor([[1000.0, 0.0]], dtype=torch.float64)
    close(ReverseCrossEntropy()(logits, torch.tensor([1])), [4])


@pytest.mark.parametrize(("alpha", "beta", "a"), [(0.1, 1, 4.0), (6.0, 0.1, 4), (1.0, 1.0, 9.21)])
def test_symmetric_cross_entropy_in_numpy(alpha, beta, a):
    logits, target = drawn()
    p = softmax(logits)[range(40), target]
    wanted = -alpha * np.log(p) + beta * a * (1 - p)
    close(SymmetricCrossEntropy(alpha=alpha, beta=beta, minus_log_zero=a)(logits, target), wanted)


@pytest.mark.parametrize("beta", [0, 0.5, 0.95])
def test_bootstrapping_in_numpy(beta):
    # of Reed et al. 2014: the target is mixed with p, or with its largest class
    logits, target = drawn()
    p = softmax(logits)
    for kind, belief in ((BootstrappingSoft, p), (BootstrappingHard, np.eye(C)[p.argmax(-1)])):
        mixture = beta * np.eye(C)[target] + (1 - beta) * belief
        close(kind(beta=beta)(logits, target), -(mixture * np.log(p)).sum(-1))


def test_soft_bootstrapping_lets_the_gradient_through_the_mixture():
    logits = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    BootstrappingSoft(beta=0.0)(logits, torch.tensor([2])).sum().backward()
    p = softmax(logits.detach())
    entropy = -(p * np.log(p)).sum()
    close(logits.grad, -p * (np.log(p) + entropy))  # of the entropy


TRANSITION = ((0.7, 0.2, 0.1), (0.0, 1.0, 0.0), (0.25, 0.25, 0.5))


def test_forward_correction_in_numpy():
    wanted = -np.log((softmax(LOGITS) @ np.array(TRANSITION))[range(4), CLASSES])
    close(ForwardCorrection(transition=TRANSITION)(LOGITS, CLASSES), wanted)
    # any leading axes
    stacked = ForwardCorrection(transition=TRANSITION)(LOGITS.expand(2, 4, 3), CLASSES.expand(2, 4))
    close(stacked, np.stack([wanted, wanted]))


@pytest.mark.parametrize("noise", [0, 0.2, 0.5, 1.0])
def test_symmetric_noise_is_a_matrix(noise):
    logits, target = drawn()
    matrix = np.full((C, C), noise / (C - 1)) + (1 - noise - noise / (C - 1)) * np.eye(C)
    symmetric = ForwardCorrection(noise=noise)(logits, target)
    close(symmetric, -np.log((softmax(logits) @ matrix)[range(40), target]))
    if 0 < noise < 1:
        close(ForwardCorrection(transition=matrix.tolist())(logits, target), symmetric)


def test_forward_correction_where_probabilities_underflow():
    logits = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 1000.0, 1000.0]], requires_grad=True)
    for loss, wanted in ((ForwardCorrection(noise=0.2), 0.1), (ForwardCorrection(transition=TRANSITION), 0.2)):
        losses = loss(logits, torch.tensor([1, 1]))
        assert losses[0].item() == pytest.approx(-np.log(wanted))
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        assert gradient.isfinite().all()
    # a label that the matrix allows for an unlikely class only: bounded below by that class's log probability
    loss = ForwardCorrection(transition=((1.0, 0.0), (0.5, 0.5)))(logits[:1, :2], torch.tensor([1]))
    assert loss.item() == pytest.approx(1000 + np.log(2), rel=1e-4)


def test_a_transition_may_come_as_lists_and_is_hashable():
    loss = registry.losses.get("forward_correction", transition=[[1, 0], [0.5, 0.5]])
    assert loss == ForwardCorrection(transition=((1.0, 0.0), (0.5, 0.5)))
    assert hash(loss) == hash(ForwardCorrection(transition=((1.0, 0.0), (0.5, 0.5))))


@pytest.mark.parametrize(
    "transition",
    [
        ((1.0, 0.0),),
        ((0.5, 0.4), (0.5, 0.5)),
        ((1.5, -0.5), (0.5, 0.5)),
        ((1.0, 0.0), (1.0, 0.0)),
        ((1.0, float("nan")), (0.0, 1.0)),
        ((1.0,), (0.5, 0.5)),
        (1.0, 0.0),
        0.5,
        "symmetric",
    ],
)
def test_a_transition_that_is_none(transition):
    with pytest.raises(InvalidValue, match=r"The 'transition' parameter of ForwardCorrection must be .* Got "):
        ForwardCorrection(transition=transition)


def test_a_transition_for_other_classes():
    with pytest.raises(InvalidValue, match="has 2 rows, and there are 3 classes"):
        ForwardCorrection(transition=((1.0, 0.0), (0.0, 1.0)))(LOGITS, CLASSES)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ReverseCrossEntropy, {"minus_log_zero": -4}),
        (SymmetricCrossEntropy, {"alpha": -0.1}),
        (SymmetricCrossEntropy, {"beta": -1}),
        (SymmetricCrossEntropy, {"minus_log_zero": 0}),
        (BootstrappingSoft, {"beta": 1.1}),
        (BootstrappingHard, {"beta": -0.1}),
        (ForwardCorrection, {"noise": 1.5}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
