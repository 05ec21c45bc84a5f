"""Normalised losses in numpy, by their definitions: the loss over its sum for all possible targets."""

import numpy as np
import pytest
import torch

from lossbench.errors import InvalidValue
from lossbench.losses import ANLCE, NCEAndMAE, NCEAndRCE, NormalizedCrossEntropy, NormalizedFocal

C = 5


def drawn(n=40, spread=3.0):
    logits = spread * torch.randn(n, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.arange(n) % C


def probabilities(logits):
    z = logits.numpy()
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalised(costs, target):
    return costs[range(len(costs)), target] / costs.sum(-1)


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def test_normalized_cross_entropy_in_numpy():
    logits, target = drawn()
    close(NormalizedCrossEntropy()(logits, target), normalised(-np.log(probabilities(logits)), target))


@pytest.mark.parametrize("gamma", [0, 0.5, 3.0])
def test_normalized_focal_in_numpy(gamma):
    logits, target = drawn()
    p = probabilities(logits)
    close(NormalizedFocal(gamma=gamma)(logits, target), normalised(-((1 - p) ** gamma) * np.log(p), target), rtol=1e-9)


@pytest.mark.parametrize(("alpha", "beta", "a"), [(1, 1.0, 4.0), (10.0, 0.1, 9.21)])
def test_active_and_passive_in_numpy(alpha, beta, a):
    logits, target = drawn()
    p = probabilities(logits)
    active, missing = normalised(-np.log(p), target), 1 - p[range(40), target]
    close(NCEAndRCE(alpha=alpha, beta=beta, minus_log_zero=a)(logits, target), alpha * active + beta * a * missing)
    close(NCEAndMAE(alpha=alpha, beta=beta)(logits, target), alpha * active + beta * 2 * missing)


def test_reverse_cross_entropy_normalises_to_the_error_over_its_number_of_rivals():
    # whatever log 0 is taken for: the factor (K - 1) / 4 that was published is another function
    p = probabilities(drawn()[0])
    for a in (4.0, 9.21):
        costs = a * (1 - p)
        close(torch.from_numpy(normalised(costs, 0)), (1 - p[:, 0]) / (C - 1))


@pytest.mark.parametrize(("alpha", "beta", "p_min"), [(5, 5.0, 1e-7), (1.0, 0.0, 1e-7), (0.0, 1.0, 1e-3)])
def test_anl_ce_in_numpy(alpha, beta, p_min):
    # of Ye et al. 2023: 1 - (A - CE) / sum_k (A - CE_k), with p clamped at p_min and A = -log p_min
    logits, target = drawn(spread=6.0)
    p = probabilities(logits)
    assert (p < p_min).any()
    flipped = np.log(np.maximum(p, p_min)) - np.log(p_min)
    wanted = alpha * normalised(-np.log(p), target) + beta * (1 - normalised(flipped, target))
    close(ANLCE(alpha=alpha, beta=beta, p_min=p_min)(logits, target), wanted)


def test_anl_ce_where_all_probabilities_lie_below_its_floor():
    logits = torch.zeros(1, C, requires_grad=True)
    loss = ANLCE(p_min=0.5)(logits, torch.tensor([0]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [NormalizedCrossEntropy(), NormalizedFocal(), NormalizedFocal(gamma=0.0), ANLCE()])
def test_sure_predictions(loss):
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    losses = loss(logits, torch.zeros(3, dtype=torch.long))
    losses.sum().backward()
    assert losses[0] == 0
    assert losses[1] > losses[2] > 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (NormalizedFocal, {"gamma": -1}),
        (NCEAndRCE, {"alpha": -1}),
        (NCEAndRCE, {"minus_log_zero": 0}),
        (NCEAndMAE, {"beta": -0.5}),
        (ANLCE, {"p_min": 0}),
        (ANLCE, {"p_min": 1}),
        (ANLCE, {"alpha": -1}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
