"""What the losses of values, counts and distributions are to each other, where they tend to, what they are least at."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import Tensor

from lossbench import registry
from lossbench.check.calls import draw_call, stack_calls
from lossbench.interfaces.loss import Loss, replicate
from lossbench.losses import (
    MAE,
    MAPE,
    MSE,
    SMAPE,
    Andrews,
    Barron,
    BetaNLL,
    Cauchy,
    Charbonnier,
    CosineSimilarity,
    CRPSGaussian,
    EpsilonInsensitive,
    Expectile,
    Fair,
    GammaDeviance,
    GaussianNLL,
    GemanMcclure,
    Hampel,
    Huber,
    LaplaceNLL,
    NegativeBinomial,
    PoissonNLL,
    Quantile,
    StudentTNLL,
    Talwar,
    Tweedie,
    Welsch,
    Wing,
    ZeroInflatedPoisson,
)
from lossbench.training.routes import choose_route
from lossbench.weightings import IRLS

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
C = 4
SCALE = torch.ones(1, C, dtype=torch.float64)


def rows(low: float, high: float, width: int = C):
    """Batches `[B, width]` in float64."""
    number = st.floats(low, high, allow_subnormal=False)
    lists = st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=4)
    return lists.map(lambda values: torch.tensor(values, dtype=torch.float64))


RESIDUALS = rows(-1e4, 1e4)


def same(got: Tensor, wanted: Tensor, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def of(loss: Loss, r: Tensor, **requires: Tensor) -> Tensor:
    return loss(r, torch.zeros_like(r), **requires)


def gradient(loss: Loss, r: Tensor, **requires: Tensor) -> Tensor:
    r = r.clone().requires_grad_()
    (found,) = torch.autograd.grad(of(loss, r, **requires).sum(), r)
    return found


@EXAMPLES
@given(RESIDUALS, st.floats(0.01, 100))
def test_barron_holds_the_family(r, c):
    same(of(Barron(alpha=2, c=c), r), of(MSE(), r) / 2)
    same(of(Barron(alpha=1, c=c), r), of(Charbonnier(c=c), r), rtol=1e-7)
    same(of(Barron(alpha=0, c=c), r), of(Cauchy(c=c), r))
    same(of(Barron(alpha=-2, c=c), r), of(GemanMcclure(c=c), r))
    same(of(Barron(alpha=-math.inf, c=c), r), of(Welsch(c=c), r))


@EXAMPLES
@given(rows(-100, 100), st.sampled_from([2.0, 0.0, -math.inf]))
def test_barron_comes_to_its_limits_smoothly(r, limit):
    beside = {2.0: 2 - 1e-9, 0.0: 1e-9, -math.inf: -1e9}[limit]
    same(of(Barron(alpha=beside), r), of(Barron(alpha=limit), r), rtol=1e-6)
    same(gradient(Barron(alpha=beside), r), gradient(Barron(alpha=limit), r), rtol=1e-6)


@EXAMPLES
@given(RESIDUALS)
def test_robust_losses_of_a_wide_bend_are_half_the_square(r):
    for loss in (Charbonnier(c=1e9), Cauchy(c=1e9), GemanMcclure(c=1e9), Welsch(c=1e9)):
        same(of(loss, r), of(MSE(), r) / 2, rtol=1e-6)
    for norm in (Andrews(a=1e8), Hampel(a=1e9, b=1e9, c=1e9), Talwar(c=1e9)):
        same(of(norm, r, residual_scale=SCALE), of(MSE(), r) / 2, rtol=1e-6)


@EXAMPLES
@given(RESIDUALS, st.floats(0.1, 10))
def test_hampel_that_never_bends_down_is_huber(r, a):
    same(of(Hampel(a=a, b=1e6, c=1e7), r, residual_scale=SCALE), of(Huber(delta=a), r))


@EXAMPLES
@given(RESIDUALS, st.floats(0.1, 10))
def test_hampel_of_one_bend_is_talwar(r, a):
    same(of(Hampel(a=a, b=a, c=a), r, residual_scale=SCALE), of(Talwar(c=a), r, residual_scale=SCALE))


@EXAMPLES
@given(RESIDUALS, st.floats(0.1, 10))
def test_losses_with_a_narrow_bend_are_absolute_errors(r, s):
    same(of(Charbonnier(c=1e-9), r) / 1e-9, of(MAE(), r), atol=1e-8)
    same(of(Fair(c=1e-6), r, residual_scale=s * SCALE) / (1e-6 * s), of(MAE(), r), rtol=1e-6, atol=1e-3)


@EXAMPLES
@given(RESIDUALS, st.floats(0.1, 10), st.floats(0.1, 10))
def test_norms_scale_as_the_square(r, s, c):
    for loss in (Andrews(a=c), Hampel(), Fair(c=c), Talwar(c=c)):
        same(of(loss, s * r, residual_scale=s * SCALE), s**2 * of(loss, r, residual_scale=SCALE), rtol=1e-8, atol=1e-9)


@EXAMPLES
@given(rows(-30, 30, 1), st.floats(0.1, 10), st.floats(0.1, 10))
def test_cauchys_gradient_is_irlss(r, k, s):
    scale = torch.full((1, 1), s, dtype=torch.float64)
    zero = torch.zeros_like(r)
    weights = IRLS(function="cauchy", constant=k)(zero[:, 0], r, zero, residual_scale=scale)
    wanted = weights[:, None] * gradient(MSE(), r) / 2
    same(gradient(Cauchy(c=k * s / math.sqrt(2)), r), wanted)


@EXAMPLES
@given(RESIDUALS)
def test_at_one_half_quantile_and_expectile_are_half_of_mae_and_mse(r):
    same(of(Quantile(tau=0.5), r), of(MAE(), r) / 2)
    same(of(Expectile(tau=0.5), r), of(MSE(), r) / 2)


@EXAMPLES
@given(RESIDUALS, st.floats(0.01, 0.99))
def test_quantiles_mirror_each_other(r, tau):
    for kind in (Quantile, Expectile):
        same(of(kind(tau=tau), r), of(kind(tau=1 - tau), -r))
        same(of(kind(tau=tau), r) + of(kind(tau=1 - tau), r), 2 * of(kind(tau=0.5), r))


@EXAMPLES
@given(RESIDUALS, st.floats(0, 10))
def test_a_band_of_nothing_is_mae(r, epsilon):
    same(of(EpsilonInsensitive(epsilon=0), r), of(MAE(), r))
    assert (of(EpsilonInsensitive(epsilon=epsilon), r) <= of(MAE(), r)).all()
    assert (of(EpsilonInsensitive(epsilon=epsilon), r) >= of(MAE(), r) - epsilon - 1e-9).all()


@EXAMPLES
@given(RESIDUALS)
def test_a_wide_wing_is_logarithmic_and_a_narrow_one_mae(r):
    same(of(Wing(width=1e6, epsilon=1), r), 1e6 * r.abs().log1p().mean(-1))
    same(of(Wing(width=1e-9, epsilon=1), r), of(MAE(), r), atol=1e-8)


@EXAMPLES
@given(rows(1e-3, 1e3), rows(1e-3, 1e3))
def test_percentage_errors(p, y):
    p, y = p[: len(y)], y[: len(p)]
    same(SMAPE()(p, y), SMAPE()(y, p))
    same(MAPE()(3 * p, 3 * y), MAPE()(p, y))
    same(MAPE()(y + 0.1 * y, y), torch.full((len(y),), 0.1, dtype=torch.float64))


@EXAMPLES
@given(rows(-5, 5), rows(0, 50))
def test_counts_tend_to_poisson(eta, y):
    eta, y = eta[: len(y)], y[: len(eta)]
    poisson = PoissonNLL()(eta, y)
    same(NegativeBinomial(dispersion=1e-10)(eta, y), poisson, rtol=1e-5, atol=1e-4)
    saturated = (y - torch.xlogy(y, y)).mean(-1)
    same(Tweedie(power=1 + 1e-9)(eta, y), poisson - saturated, rtol=1e-5, atol=1e-4)
    nobody = torch.full_like(eta, -200.0)
    same(ZeroInflatedPoisson()(torch.cat([eta, nobody], -1), y), poisson)


@EXAMPLES
@given(rows(-5, 5), rows(0.01, 50))
def test_tweedie_and_negative_binomial_tend_to_gamma(eta, y):
    eta, y = eta[: len(y)], y[: len(eta)]
    gamma = GammaDeviance()(eta, y)
    same(Tweedie(power=2 - 1e-9)(eta, y), gamma, rtol=1e-5, atol=1e-5)
    # of counts far above 1 / dispersion: (y + 1/a) log(1 + a mu) - y log mu less its value at mu = y
    large, far = eta + 14, y * math.exp(14)
    wanted = GammaDeviance()(large, far)
    loss = NegativeBinomial(dispersion=1.0)
    same(loss(large, far) - loss(far.log(), far), wanted, rtol=1e-2, atol=1e-3)


@EXAMPLES
@given(rows(-30, 30), rows(-3, 3))
def test_distributions_tend_to_the_normal(r, log_scale):
    r, log_scale = r[: len(log_scale)], log_scale[: len(r)]
    both = torch.cat([r, log_scale], -1)
    zero = torch.zeros_like(r)
    normal = GaussianNLL()(both, zero)
    same(BetaNLL(beta=0)(both, zero), normal)
    same(StudentTNLL(df=1e9)(both, zero), normal, rtol=1e-3, atol=1e-3)


@EXAMPLES
@given(RESIDUALS)
def test_likelihoods_of_fixed_scale_are_distances(r):
    both = torch.cat([r, torch.zeros_like(r)], -1)
    zero = torch.zeros_like(r)
    same(LaplaceNLL()(both, zero), of(MAE(), r) + math.log(2))
    same(StudentTNLL(df=1)(both, zero), of(Cauchy(c=1 / math.sqrt(2)), r) * 2 + math.log(math.pi))


@EXAMPLES
@given(RESIDUALS)
def test_crps_of_a_sure_prediction_is_the_absolute_error(r):
    both = torch.cat([r, torch.full_like(r, -25.0)], -1)
    same(CRPSGaussian()(both, torch.zeros_like(r)), of(MAE(), r), atol=1e-9)


@EXAMPLES
@given(rows(-100, 100), rows(-100, 100))
def test_cosine_is_symmetric_and_bounded(p, y):
    p, y = p[: len(y)], y[: len(p)]
    values = CosineSimilarity()(p, y)
    assert (values.abs() <= 1 + 1e-12).all()
    same(CosineSimilarity()(-p, y), -values)


# What a constant prediction is at its best

SAMPLE = torch.from_numpy(np.random.default_rng(0).gamma(1.5, 2.0, (401, 1)))


def best_constant(loss: Loss, low: float, high: float) -> float:
    """The constant with the least mean loss over the sample, by golden section."""

    def mean(value: float) -> float:
        return loss(torch.full_like(SAMPLE, value), SAMPLE).mean().item()

    return float(optimize.minimize_scalar(mean, bounds=(low, high), method="bounded", options={"xatol": 1e-9}).x)


MEAN, MEDIAN = SAMPLE.mean().item(), SAMPLE.median().item()


def weighted_median(weights: Tensor) -> float:
    """The first value at which half of the weight is reached."""
    values, order = SAMPLE[:, 0].sort()
    reached = weights[order, 0].cumsum(0) >= weights.sum() / 2
    return values[reached.nonzero()[0, 0]].item()


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        (MSE(), MEAN),
        (MAE(), MEDIAN),
        (Expectile(tau=0.5), MEAN),
        *[(Quantile(tau=t), float(np.quantile(SAMPLE, t))) for t in (0.05, 0.5, 0.9)],
        *[(Expectile(tau=t), float(stats.expectile(SAMPLE[:, 0].numpy(), t))) for t in (0.05, 0.9)],
        (MAPE(), weighted_median(1 / SAMPLE)),
    ],
    ids=lambda x: str(x)[:24],
)
def test_the_best_constant(loss, wanted):
    assert best_constant(loss, 0.0, 20.0) == pytest.approx(wanted, abs=2e-2 if isinstance(loss, Quantile) else 1e-5)


@pytest.mark.parametrize(
    "loss", [PoissonNLL(), NegativeBinomial(), NegativeBinomial(dispersion=9), Tweedie(), GammaDeviance()], ids=str
)
def test_the_best_constant_rate_is_the_mean(loss):
    assert math.exp(best_constant(loss, -5.0, 5.0)) == pytest.approx(MEAN, rel=1e-6)


# In a stack

LOSSES = (
    "andrews", "barron", "beta_nll", "cauchy", "charbonnier", "cosine_similarity", "crps_gaussian",
    "epsilon_insensitive", "expectile", "fair", "gamma_deviance", "geman_mcclure", "hampel", "laplace_nll", "mape",
    "negative_binomial", "poisson_nll", "quantile", "smape", "student_t_nll", "talwar", "tweedie", "welsch", "wing",
    "zero_inflated_poisson",
)  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_the_route_in_a_stack_is_broadcast(name):
    kind = registry.losses.find(name)
    shares = (0.9, 1.0, 1.1)
    losses = [kind(**{f.name: s * getattr(kind(), f.name) for f in fields(kind)}) for s in shares]
    calls = [draw_call(loss, seed) for seed, loss in enumerate(losses)]
    prediction, target, requires = stack_calls(calls)
    assert choose_route(losses, prediction, target, requires) == "broadcast"


def test_barrons_alpha_per_row_may_be_a_limit():
    alphas = [2.0, 1.0, 0.0, -2.0, -math.inf]
    r = torch.linspace(-5, 5, 8, dtype=torch.float64).view(4, 2)
    stacked = replicate(Barron(), alpha=torch.tensor(alphas, dtype=torch.float64).view(-1, 1, 1))
    together = stacked(r.expand(5, 4, 2), torch.zeros(5, 4, 2, dtype=torch.float64))
    same(together, torch.stack([of(Barron(alpha=a), r) for a in alphas]))
    assert (
        choose_route([Barron(alpha=a) for a in alphas], r.expand(5, 4, 2), torch.zeros(5, 4, 2).double(), {})
        == "broadcast"
    )
