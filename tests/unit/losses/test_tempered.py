"""The bi-tempered loss against its definition, the normaliser by bracketing."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from lossbench.errors import InvalidValue
from lossbench.losses import BiTempered
from lossbench.losses.label_noise import tempered_log_softmax

C = 5
TEMPERATURES = (1.0, 1 + 1e-9, 1.2, 2.0, 4.0, 10.0)


def drawn(n=30, n_classes=C, spread=3.0):
    logits = spread * torch.randn(n, n_classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.arange(n) % n_classes


def exp_t(x, t):
    return np.exp(x) if t == 1 else np.maximum(1 + (1 - t) * x, 0) ** (1 / (1 - t))


def log_t(x, t):
    return np.log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def probabilities(z, t):
    """Of Amid et al. 2019; the normaliser lies between those of one class and of all alike."""
    top = z.max()
    high = top - log_t(1 / len(z), t)
    normaliser = brentq(lambda x: exp_t(z - x, t).sum() - 1, top, high + 1e-9, xtol=1e-14, rtol=1e-15)
    return exp_t(z - normaliser, t)


def close(got, wanted, rtol=1e-9, atol=1e-11):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


@pytest.mark.parametrize("t2", [1, 1.2, 2.0, 4.0])
@pytest.mark.parametrize("t1", [0, 0.5, 0.8, 1.0])
def test_against_its_definition(t1, t2):
    # the Bregman divergence: sum y (log y - log p) - (y^(2 - t1) - p^(2 - t1)) / (2 - t1)
    logits, target = drawn()
    wanted = []
    for z, y in zip(logits.numpy(), target.tolist(), strict=True):
        p = probabilities(z, t2)
        wanted.append(-log_t(p[y], t1) - (1 - (p ** (2 - t1)).sum()) / (2 - t1))
    close(BiTempered(t1=t1, t2=t2)(logits, target), wanted)


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize(("n_classes", "spread"), [(2, 1.0), (10, 0.0), (10, 100.0), (1000, 1.0), (10000, 10.0)])
def test_probabilities_sum_to_one(t, n_classes, spread):
    logits, _ = drawn(n=5, n_classes=n_classes, spread=spread)
    logs = tempered_log_softmax(logits + 1e3, torch.full((5, 1), 1 - t, dtype=torch.float64))
    assert (logs <= 1e-12).all()
    close(logs.exp().sum(-1), np.ones(5), atol=1e-12 * n_classes)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_gradient_of_the_normaliser_is_that_of_the_implicit_function(t):
    logits, _ = drawn(n=4)
    s = torch.full((4, 1), 1 - t, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: tempered_log_softmax(z, s), logits.requires_grad_())
    # p sums to 1 whatever the logits, so its gradient is that of a constant
    (gradient,) = torch.autograd.grad(tempered_log_softmax(logits, s).exp().sum(), logits)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("t1", [0.0, 0.5, 0.8])
def test_bound(t1):
    logits = torch.tensor([[1e12, 0.0]], dtype=torch.float64)
    close(BiTempered(t1=t1, t2=1.0)(logits, torch.tensor([1])), [1 / (1 - t1)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t2", [1.0, 1.001, 1.2, 4.0])
def test_extremes(t2, dtype):
    edge = torch.tensor([[100.0, -100.0, 0.0], [-100.0, 100.0, 0.0], [0.0, 0.0, 0.0], [1e4, -1e4, 0.0]])
    logits = edge.to(dtype).requires_grad_()
    losses = BiTempered(t2=t2)(logits, torch.zeros(4, dtype=torch.long))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()
    assert losses[0] < losses[2] < losses[1]
    wide = BiTempered(t2=t2)(logits.detach().double(), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(losses.double(), wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fields", [{"t1": -0.1}, {"t1": 1.1}, {"t2": 0.9}])
def test_fields_out_of_range(fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of BiTempered must be .* Got "):
        BiTempered(**fields)
