"""Losses of counts and amounts against scikit-learn, scipy and torch."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.metrics import mean_gamma_deviance, mean_poisson_deviance, mean_tweedie_deviance
from torch import nn
from unit.losses.residuals import close

from lossbench.errors import InvalidValue
from lossbench.losses import GammaDeviance, NegativeBinomial, PoissonNLL, Tweedie, ZeroInflatedPoisson
from lossbench.types import Encoding, Head, Space

DRAW = torch.Generator().manual_seed(0)
LOG_RATE = 2 * torch.randn(40, 1, generator=DRAW, dtype=torch.float64)
COUNT = torch.poisson(LOG_RATE.exp(), generator=DRAW)  # with zeros
AMOUNT = torch.rand(40, 1, generator=DRAW, dtype=torch.float64) * 9 + 1e-3
RATE = LOG_RATE.exp()
COUNTS, RATES = COUNT[:, 0].numpy(), RATE[:, 0].numpy()  # for scipy
LOG_FACTORIAL = special.gammaln(COUNTS + 1)
LOSSES = (PoissonNLL(), NegativeBinomial(), Tweedie(), GammaDeviance(), ZeroInflatedPoisson())


def each(deviance, target, **fields):
    """Half of scikit-learn's deviance of single examples."""
    return [deviance(y, p, **fields) / 2 for y, p in zip(target.numpy(), RATE.numpy(), strict=True)]


def test_poisson_is_half_the_deviance_up_to_a_constant():
    saturated = COUNTS - special.xlogy(COUNTS, COUNTS)  # at rate = target
    close(
        PoissonNLL()(LOG_RATE, COUNT) - torch.from_numpy(saturated),
        each(mean_poisson_deviance, COUNT),
        rtol=1e-10,
        atol=1e-12,
    )


def test_poisson_is_scipys_log_likelihood_up_to_log_factorial():
    wanted = -stats.poisson.logpmf(COUNTS, RATES) - LOG_FACTORIAL
    close(PoissonNLL()(LOG_RATE, COUNT), wanted, rtol=1e-11, atol=1e-12)


def test_poisson_against_torch():
    # log_input is its default; given a rate instead it is silently another loss
    close(PoissonNLL()(LOG_RATE, COUNT).mean(), nn.PoissonNLLLoss()(LOG_RATE, COUNT))
    assert (PoissonNLL()(LOG_RATE, COUNT).mean() - nn.PoissonNLLLoss()(RATE, COUNT)).abs() > 1


def test_poisson_is_not_its_negative():
    # rate - y log rate: least at rate = y
    rates = torch.tensor([[2.0], [3.0], [4.0]], dtype=torch.float64)
    values = PoissonNLL()(rates.log(), torch.full_like(rates, 3.0))
    assert values.argmin() == 1


@pytest.mark.parametrize("dispersion", [1e-3, 0.3, 1.0, 20.0])
def test_negative_binomial_against_scipy(dispersion):
    k = 1 / dispersion
    full = -stats.nbinom.logpmf(COUNTS, k, k / (k + RATES))
    # without the terms that hold no rate
    constant = special.gammaln(COUNTS + k) - special.gammaln(k) - LOG_FACTORIAL + COUNTS * math.log(dispersion)
    got = NegativeBinomial(dispersion=dispersion)(LOG_RATE, COUNT)
    close(got, full + constant, rtol=1e-8, atol=1e-9)


def test_negative_binomials_variance():
    # the score's slope in log mu is mu / (1 + alpha mu) at y = mu: mu^2 over the variance mu + alpha mu^2
    eta = torch.tensor([[0.7], [3.0]], dtype=torch.float64, requires_grad=True)
    mu = eta.exp()
    (score,) = torch.autograd.grad(NegativeBinomial(dispersion=0.4)(eta, mu.detach()).sum(), eta, create_graph=True)
    (slope,) = torch.autograd.grad(score.sum(), eta)
    close(score.detach(), torch.zeros(2, 1), atol=1e-12)
    close(slope, (mu**2 / (mu + 0.4 * mu**2)).detach(), rtol=1e-10)


@pytest.mark.parametrize("power", [1.001, 1.1, 1.5, 1.9, 1.999])
def test_tweedie_is_half_of_scikit_learns_deviance(power):
    # theirs subtracts terms of size 1 / ((power - 1)(2 - power))
    close(Tweedie(power=power)(LOG_RATE, COUNT), each(mean_tweedie_deviance, COUNT, power=power), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("power", [1 + 1e-9, 1.5, 2 - 1e-9])
def test_tweedies_gradient(power):
    # mu^(2 - p) - y mu^(1 - p)
    eta = LOG_RATE.clone().requires_grad_()
    Tweedie(power=power)(eta, COUNT).sum().backward()
    close(eta.grad, RATE ** (2 - power) - COUNT * RATE ** (1 - power), rtol=1e-10, atol=1e-12)


def test_gamma_is_half_of_scikit_learns_deviance():
    close(GammaDeviance()(LOG_RATE, AMOUNT), each(mean_gamma_deviance, AMOUNT), rtol=1e-10, atol=1e-12)


def test_gamma_is_scipys_log_likelihood_up_to_a_constant():
    # with shape 1, an exponential distribution: -log f = y / mu + log mu
    amounts = AMOUNT[:, 0].numpy()
    wanted = -stats.expon.logpdf(amounts, scale=RATES) - 1 - np.log(amounts)
    close(GammaDeviance()(LOG_RATE, AMOUNT), wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("loss", [Tweedie(), Tweedie(power=1.01), Tweedie(power=1.99), GammaDeviance()])
def test_deviances_are_zero_at_the_target_and_only_there(loss):
    close(loss(AMOUNT.log(), AMOUNT), torch.zeros(40), atol=1e-14)
    assert (loss(AMOUNT.log() + 0.01, AMOUNT) > 0).all()
    assert (loss(AMOUNT.log() - 0.01, AMOUNT) > 0).all()


@pytest.mark.parametrize("logit", [-30.0, -2.0, 0.0, 1.0, 25.0])
def test_zero_inflated_poisson_against_scipy(logit):
    # log(1 - share) and 1 - share themselves, which lose their digits when the share is near 1
    zero = np.log(special.expit(logit) + special.expit(-logit) * np.exp(-RATES))
    other = special.log_expit(-logit) + stats.poisson.logpmf(COUNTS, RATES) + LOG_FACTORIAL
    both = torch.cat([LOG_RATE, torch.full_like(LOG_RATE, logit)], -1)
    close(ZeroInflatedPoisson()(both, COUNT), -np.where(COUNTS == 0, zero, other), rtol=1e-9, atol=1e-12)


def test_zero_inflated_poisson_is_a_distribution():
    counts = torch.arange(200.0, dtype=torch.float64)[:, None]
    both = torch.tensor([[1.3, -0.4]], dtype=torch.float64).expand(200, 2)
    mass = (-ZeroInflatedPoisson()(both, counts) - (counts[:, 0] + 1).lgamma()).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)
    # its mean is what the task gives the metrics
    assert (mass * counts[:, 0]).sum().item() == pytest.approx(math.exp(1.3) * special.expit(0.4), rel=1e-12)


def test_zero_inflated_poisson_wants_twice_as_many_predictions():
    with pytest.raises(InvalidValue, match="same shape"):
        ZeroInflatedPoisson()(torch.zeros(5, 2), torch.zeros(5, 2))


def test_a_target_of_0_costs_gamma_infinitely_much():
    assert GammaDeviance()(torch.zeros(1, 1), torch.zeros(1, 1)).item() == math.inf


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
def test_takes_log_rates_and_the_right_targets(loss):
    pair = isinstance(loss, ZeroInflatedPoisson)
    assert loss.space == (Space.ZERO_INFLATED if pair else Space.LOG_RATE)
    assert loss.head == (Head.MEAN_SCALE if pair else Head.LINEAR)
    assert loss.encoding == (Encoding.ABOVE_ZERO if isinstance(loss, GammaDeviance) else Encoding.POSITIVE)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (NegativeBinomial, {"dispersion": 0}),
        (NegativeBinomial, {"dispersion": -1.0}),
        (Tweedie, {"power": 1}),
        (Tweedie, {"power": 2.0}),
        (Tweedie, {"power": 0}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
