"""Bounded losses in numpy, by the formulas of their papers."""

import math

import numpy as np
import pytest
import torch

from lossbench.errors import InvalidValue
from lossbench.losses import AGCE, AUL, AExp, LogitClip, PHuberCE, TaylorCrossEntropy

C = 5


def drawn(n=40, spread=3.0):
    logits = spread * torch.randn(n, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.arange(n) % C


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def own(logits, target):
    return softmax(logits.numpy())[range(len(target)), target]


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


@pytest.mark.parametrize("order", [1, 2, 6])
def test_taylor_in_numpy(order):
    logits, target = drawn()
    p = own(logits, target)
    close(TaylorCrossEntropy(order=order)(logits, target), sum((1 - p) ** j / j for j in range(1, order + 1)))
    bound = sum(1 / j for j in range(1, order + 1))
    close(TaylorCrossEntropy(order=order)(torch.tensor([[1e4, 0.0]]).double(), torch.tensor([1])), [bound])


@pytest.mark.parametrize(("a", "q"), [(0.6, 0.6), (6, 1.5), (1.0, 1), (0.01, 3.0)])
def test_agce_in_numpy(a, q):
    logits, target = drawn()
    close(AGCE(a=a, q=q)(logits, target), ((a + 1) ** q - (a + own(logits, target)) ** q) / q)


@pytest.mark.parametrize(("a", "q"), [(6.3, 1.5), (5.5, 3), (1, 0.5), (1.0, 1.0)])
def test_aul_in_numpy(a, q):
    logits, target = drawn()
    close(AUL(a=a, q=q)(logits, target), ((a - own(logits, target)) ** q - (a - 1) ** q) / q, rtol=1e-8)


def test_aul_of_sure_predictions_where_its_power_has_no_slope():
    logits = torch.tensor([[100.0, -100.0], [1e4, 0.0]], requires_grad=True)
    losses = AUL(a=1.0, q=0.1)(logits, torch.tensor([0, 0]))
    losses.sum().backward()
    assert logits.grad.isfinite().all()
    assert losses.abs().max() < 1e-2


@pytest.mark.parametrize("a", [0.5, 1, 2.5])
def test_aexp_in_numpy(a):
    logits, target = drawn()
    close(AExp(a=a)(logits, target), np.exp(-own(logits, target) / a))


@pytest.mark.parametrize("tau", [0.5, 2, 10.0])
def test_logit_clip_in_numpy(tau):
    logits, target = drawn()
    z = logits.numpy()
    length = np.linalg.norm(z, axis=-1, keepdims=True)
    assert (length > 0.5).any()
    clipped = np.where(length > tau, tau * z / length, z)
    close(LogitClip(tau=tau)(logits, target), -np.log(softmax(clipped)[range(40), target]))


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_logit_clip_is_bounded(tau):
    # the extremes: along the target's direction, with the mean taken off
    direction = torch.eye(C, dtype=torch.float64)[:1] - 1 / C
    got = [LogitClip(tau=tau)(sign * 1e6 * direction, torch.tensor([0])) for sign in (1, -1)]
    reach = tau * math.sqrt(C / (C - 1))
    close(torch.cat(got), [math.log1p((C - 1) * math.exp(-reach)), math.log1p((C - 1) * math.exp(reach))])
    logits, target = drawn(n=400, spread=100.0)
    losses = LogitClip(tau=tau)(logits, target)
    assert (losses >= got[0] - 1e-12).all()
    assert (losses <= got[1] + 1e-12).all()


def test_logit_clip_of_no_logits_at_all():
    logits = torch.zeros(1, C, requires_grad=True)
    LogitClip()(logits, torch.tensor([0])).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[1 / C - 1, *[1 / C] * (C - 1)]]))


@pytest.mark.parametrize("tau", [1, 2.0, 10.0])
def test_phuber_ce_in_numpy(tau):
    # of Menon et al. 2020: a line below 1/tau
    logits, target = drawn()
    p = own(logits, target)
    wanted = np.where(p > 1 / tau, -np.log(p), -tau * p + np.log(tau) + 1)
    assert tau == 1 or (p > 1 / tau).any()
    close(PHuberCE(tau=tau)(logits, target), wanted)


def test_phuber_ce_is_smooth_at_its_seam():
    # p = 1/4 at logits (0, log 3)
    seam = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    around = torch.cat([seam - torch.tensor([1e-9, 0]), seam + torch.tensor([1e-9, 0])]).requires_grad_()
    losses = PHuberCE(tau=4.0)(around, torch.tensor([0, 0]))
    losses.sum().backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-8)
    close(around.grad[0], around.grad[1], rtol=1e-7)
    assert PHuberCE(tau=4.0)(torch.tensor([[-1e4, 0.0]]), torch.tensor([0])).item() == pytest.approx(1 + math.log(4))


@pytest.mark.parametrize(("kind", "fields"), [(AUL, {"a": 1e300}), (AUL, {"q": 1e10}), (AGCE, {"a": 1e10, "q": 9.0})])
def test_powers_that_nothing_can_hold(kind, fields):
    with pytest.raises(InvalidValue, match=rf"of {kind.__name__} must keep .* to the power q below 1e\+38. Got a="):
        kind(**fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (TaylorCrossEntropy, {"order": 0}),
        (AGCE, {"a": 0}),
        (AGCE, {"q": -1}),
        (AUL, {"a": 0.9}),
        (AUL, {"q": 0}),
        (AExp, {"a": 0}),
        (LogitClip, {"tau": 0}),
        (PHuberCE, {"tau": 0.5}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
