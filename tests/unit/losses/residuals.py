"""What losses of residuals are tested on, and how closely."""

from itertools import pairwise

import torch
from scipy.integrate import quad
from scipy.stats import norm

EDGES = torch.tensor([0.0, 1e-9, -1e-6, 0.5, -1.0, 1.0, 2.0, -30.0, 500.0, 1e4, -1e6], dtype=torch.float64)


def pair(n=50, d=3, seed=0):
    """Predictions and targets, `[n, d]` each."""
    draw = torch.Generator().manual_seed(seed)
    prediction, target = 3 * torch.randn(2, n, d, generator=draw, dtype=torch.float64)
    return prediction, target


def residuals():
    """Random and extreme, one output each."""
    prediction, target = pair(n=100, d=1)
    return torch.cat([prediction - target, EDGES[:, None]])


def of(loss, r, **requires):
    """The loss of residuals, `[n, 1]`."""
    return loss(r, torch.zeros_like(r), **requires)


def slopes(loss, r, **requires):
    """Its derivative by the residuals, `[n]`."""
    r = r.detach().clone().requires_grad_()
    of(loss, r, **requires).sum().backward()
    return r.grad[:, 0]


def close(got, wanted, rtol=1e-12, atol=1e-15):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def efficiency(loss, breaks=(), **requires):
    """Variance of the mean over that of the M-estimator of location, for normal errors of standard deviation 1.

    It is (E psi')^2 / E psi^2, and E psi' = E[x psi(x)] for a normal x; psi is odd. breaks: where psi has kinks.
    """

    def psi(x):
        return slopes(loss, torch.tensor([[x]], dtype=torch.float64), **requires).item()

    edges = [0.0, *(b for b in breaks if b < 9), 9.0]

    def mean(f):
        parts = (quad(f, a, b, epsabs=1e-9)[0] for a, b in pairwise(edges))
        return 2 * sum(parts)

    return mean(lambda x: x * psi(x) * norm.pdf(x)) ** 2 / mean(lambda x: psi(x) ** 2 * norm.pdf(x))
