"""Likelihoods of location and scale against scipy and torch."""

import math

import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from unit.losses.residuals import close, pair

from lossbench.errors import InvalidValue
from lossbench.losses import (
    BetaNLL,
    CRPSGaussian,
    GaussianNLL,
    LaplaceNLL,
    StudentTNLL,
)


def test_gaussian_nll_against_scipy():
    (mean, target), (log_scale, _) = pair(), pair(seed=1)
    wanted = -stats.norm.logpdf(target, loc=mean, scale=log_scale.exp()).mean(-1)
    close(GaussianNLL()(torch.cat([mean, log_scale], -1), target), wanted)


def test_gaussian_nll_against_torch():
    (mean, target), (log_scale, _) = pair(), pair(seed=1)
    oracle = torch.nn.GaussianNLLLoss(full=True, eps=1e-300)  # takes the variance
    got = GaussianNLL()(torch.cat([mean, log_scale], -1), target).mean()
    close(got, oracle(mean, target, (2 * log_scale).exp()))


def test_gaussian_nll_wants_twice_as_many_predictions():
    with pytest.raises(InvalidValue, match="same shape"):
        GaussianNLL()(torch.zeros(5, 3), torch.zeros(5, 3))


(LOCATION, TARGET), LOG_SCALE = pair(), pair(seed=1)[0] / 3


BOTH = torch.cat([LOCATION, LOG_SCALE], -1)
SCALE = LOG_SCALE.exp()
LOSSES = (BetaNLL(), LaplaceNLL(), StudentTNLL(), CRPSGaussian())


def test_laplace_against_scipy():
    close(LaplaceNLL()(BOTH, TARGET), -stats.laplace.logpdf(TARGET, LOCATION, SCALE).mean(-1))


@pytest.mark.parametrize("df", [0.5, 1.0, 4.0, 1e3])
def test_student_t_against_scipy(df):
    wanted = -stats.t.logpdf(TARGET, df, LOCATION, SCALE).mean(-1)
    close(StudentTNLL(df=df)(BOTH, TARGET), wanted, rtol=1e-10)


def test_student_t_per_row():
    loss = StudentTNLL()
    object.__setattr__(loss, "df", torch.tensor([1.0, 7.0], dtype=torch.float64).view(2, 1, 1))
    got = loss(BOTH.expand(2, -1, -1), TARGET.expand(2, -1, -1))
    close(got, torch.stack([StudentTNLL(df=df)(BOTH, TARGET) for df in (1.0, 7.0)]))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_nll_is_the_likelihood_times_the_variance_to_beta(beta):
    nll = -stats.norm.logpdf(TARGET, LOCATION, SCALE)
    close(BetaNLL(beta=beta)(BOTH, TARGET), (SCALE ** (2 * beta) * torch.from_numpy(nll)).mean(-1))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_weight_of_beta_nll_has_no_gradient(beta):
    weighted, plain = (BOTH.clone().requires_grad_() for _ in range(2))
    BetaNLL(beta=beta)(weighted, TARGET).sum().backward()
    GaussianNLL()(plain, TARGET).sum().backward()
    close(weighted.grad, plain.grad * torch.cat([SCALE, SCALE], -1) ** (2 * beta), rtol=1e-11)


def test_beta_1_gives_means_the_gradient_of_half_the_squared_error():
    both = BOTH.clone().requires_grad_()
    BetaNLL(beta=1)(both, TARGET).sum().backward()
    close(both.grad[:, :3], (LOCATION - TARGET) / 3, rtol=1e-10)


def crps(mean, scale, y):
    """Its definition, by adaptive quadrature on both sides of the target."""
    low, high = min(mean, y) - 12 * scale, max(mean, y) + 12 * scale
    below = quad(lambda t: stats.norm.cdf(t, mean, scale) ** 2, low, y, epsabs=1e-11, limit=200)[0]
    return below + quad(lambda t: stats.norm.sf(t, mean, scale) ** 2, y, high, epsabs=1e-11, limit=200)[0]


@pytest.mark.parametrize(("mean", "scale", "y"), [(0, 1, 0), (1, 0.5, 3), (-2, 4, 0.3), (0, 1, -8), (5, 0.01, 5.02)])
def test_crps_is_its_integral(mean, scale, y):
    both = torch.tensor([[mean, math.log(scale)]], dtype=torch.float64)
    got = CRPSGaussian()(both, torch.tensor([[y]], dtype=torch.float64))
    close(got, [crps(mean, scale, y)], rtol=0, atol=1e-8)


def test_crps_in_closed_form():
    # Gneiting 2005, equation 5, with scipy's normal distribution
    z = ((TARGET - LOCATION) / SCALE).numpy()
    inside = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi)
    close(CRPSGaussian()(BOTH, TARGET), (SCALE.numpy() * inside).mean(-1), rtol=1e-11, atol=1e-12)


def test_crps_pulls_a_mean_by_at_most_1():
    both = torch.cat([torch.linspace(-1e4, 1e4, 2001)[:, None], torch.zeros(2001, 1)], -1).requires_grad_()
    CRPSGaussian()(both, torch.zeros(2001, 1)).sum().backward()
    assert both.grad[:, 0].abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("log_scale", [-10.0, 10.0])
def test_finite_in_float32_however_sure(loss, log_scale):
    both = torch.tensor([[1e4, log_scale], [0.0, log_scale], [-1e4, log_scale]], requires_grad=True)
    losses = loss(both, torch.zeros(3, 1))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert both.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
def test_want_twice_as_many_predictions(loss):
    with pytest.raises(InvalidValue, match="same shape"):
        loss(torch.zeros(5, 3), torch.zeros(5, 3))


@pytest.mark.parametrize(
    ("kind", "fields"), [(BetaNLL, {"beta": -0.1}), (BetaNLL, {"beta": 1.1}), (StudentTNLL, {"df": 0})]
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
