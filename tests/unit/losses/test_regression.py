"""Regression losses against scikit-learn, scipy, statsmodels, torch and closed forms."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.integrate import quad
from sklearn import metrics
from statsmodels.robust.norms import TukeyBiweight

from lossbench.errors import InvalidValue
from lossbench.losses import MAE, MSE, MSLE, BarronAdaptive, GaussianNLL, Huber, LogCosh, Tukey
from lossbench.losses.robust import barron, barron_log_partition
from lossbench.types import Problem

EDGES = torch.tensor([0.0, 1e-9, -1e-6, 0.5, -1.0, 1.0, 2.0, -30.0, 500.0, 1e4, -1e6], dtype=torch.float64)


def pair(n=50, d=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    prediction, target = 3 * torch.randn(2, n, d, generator=draw, dtype=torch.float64)
    return prediction, target


def residuals():
    """Random and extreme, one output each."""
    prediction, target = pair(n=100, d=1)
    return torch.cat([prediction - target, EDGES[:, None]])


def close(got, wanted, rtol=1e-12, atol=1e-15):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("loss", "oracle"),
    [
        (MSE(), metrics.mean_squared_error),
        (MAE(), metrics.mean_absolute_error),
        (MSLE(), metrics.mean_squared_log_error),
    ],
)
def test_against_scikit_learn(loss, oracle):
    prediction, target = (x.abs() if isinstance(loss, MSLE) else x for x in pair())
    close(loss(prediction, target), [oracle(y, p) for y, p in zip(target, prediction, strict=True)])


@pytest.mark.parametrize(("loss", "oracle"), [(MSE(), torch.nn.MSELoss), (MAE(), torch.nn.L1Loss)])
def test_against_torch(loss, oracle):
    prediction, target = pair()
    close(loss(prediction, target).mean(), oracle()(prediction, target))


def test_msle_by_hand():
    # (log(1 + (e - 1)) - log(1 + 0))^2 = 1, and (log(1 + 3) - log(1 + 1))^2 = log(2)^2
    prediction, target = torch.tensor([[math.e - 1], [3.0]]).double(), torch.tensor([[0.0], [1.0]]).double()
    close(MSLE()(prediction, target), [1, math.log(2) ** 2], rtol=1e-7)


@pytest.mark.parametrize("delta", [1e-3, 0.5, 1, 1.0, 20.0])
def test_huber_against_scipy(delta):
    r = residuals()
    close(Huber(delta=delta)(r, torch.zeros_like(r)), special.huber(delta, r.numpy()).mean(-1))


def test_huber_of_several_outputs_against_torch():
    prediction, target = pair()
    close(Huber(delta=0.7)(prediction, target).mean(), torch.nn.HuberLoss(delta=0.7)(prediction, target))


def test_huber_far_away_in_half_precision():
    # 300 * 300 overflows float16; delta (|r| - delta/2) = 299.5 does not
    r = torch.tensor([[300.0]], dtype=torch.float16)
    assert Huber()(r, torch.zeros_like(r)).item() == pytest.approx(299.5, abs=0.5)


def test_log_cosh_to_all_digits():
    # mpmath with 60 digits: log(cosh(r)) of 1e-9 is 5e-19, below the rounding of log(2)
    r = residuals()
    with mpmath.workdps(60):
        wanted = [float(mpmath.log(mpmath.cosh(mpmath.mpf(float(x))))) for x in r[:-2, 0]]
    wanted += [1e4 - math.log(2), 1e6 - math.log(2)]  # e^-2r is below 1e-8000
    close(LogCosh()(r, torch.zeros_like(r)), wanted, rtol=1e-14)


def test_log_cosh_gradient_is_tanh():
    r = residuals().requires_grad_()
    LogCosh()(r, torch.zeros_like(r)).sum().backward()
    close(r.grad, r.detach().tanh())


@pytest.mark.parametrize("c", [1.5, 4.685])
@pytest.mark.parametrize("scale", [0.01, 1.0, 25.0])
def test_tukey_against_statsmodels(c, scale):
    # statsmodels' rho is of r/s; ours is s^2 times that. Theirs loses the digits of small residuals: atol
    r = residuals()
    wanted = scale**2 * TukeyBiweight(c=c).rho(r.numpy() / scale)
    s = torch.tensor([[scale]], dtype=torch.float64)
    close(Tukey(c=c)(r, torch.zeros_like(r), residual_scale=s), wanted[:, 0], rtol=1e-9, atol=1e-14 * scale**2)


def test_tukey_is_half_the_square_near_zero_whatever_the_scale():
    r = torch.tensor([[1e-7]], dtype=torch.float64)
    for scale in (1e-3, 1.0, 1e3):
        s = torch.tensor([[scale]], dtype=torch.float64)
        close(Tukey()(r, torch.zeros_like(r), residual_scale=s), [5e-15], rtol=1e-6, atol=0)


def test_tukey_has_no_pull_beyond_c():
    r = torch.tensor([[4.0], [5.0], [1e4]], dtype=torch.float64, requires_grad=True)
    Tukey()(r, torch.zeros_like(r), residual_scale=torch.ones(1, 1, dtype=torch.float64)).sum().backward()
    assert r.grad[0] > 0
    assert r.grad[1:].tolist() == [[0], [0]]


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


ALPHAS = (0.001, 0.01, 0.3, 1.0, 1.5, 1.9, 1.99, 1.999, 2 - 1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_barron_against_the_paper(alpha):
    # equation 1 of Barron 2019 in 50 digits
    x = torch.tensor([0.0, 1e-6, 0.1, -1.0, 3.0, 100.0, 1e4], dtype=torch.float64)
    with mpmath.workdps(50):
        a = mpmath.mpf(alpha)
        b = abs(a - 2)
        wanted = [float(b / a * ((mpmath.mpf(v) ** 2 / b + 1) ** (a / 2) - 1)) for v in x.tolist()]
    close(barron(x, torch.tensor(alpha, dtype=torch.float64)), wanted, rtol=1e-9)


def log_partition(alpha):
    """By adaptive quadrature in t with x = sinh(t), from Barron's formula in numpy."""
    b = 2 - alpha

    def integrand(t):
        return math.exp(-b / alpha * math.expm1(alpha / 2 * math.log1p(math.sinh(t) ** 2 / b))) * math.cosh(t)

    return math.log(2 * quad(integrand, 0, 45, epsabs=1e-14, epsrel=1e-13, limit=500)[0])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_barron_partition_against_scipy(alpha):
    a = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    value = barron_log_partition(a)
    close(value.detach(), log_partition(alpha), rtol=0, atol=1e-11)
    step = 1e-4 * min(alpha, 2 - alpha)
    slope = (log_partition(alpha + step) - log_partition(alpha - step)) / (2 * step)
    (gradient,) = torch.autograd.grad(value, a)
    close(gradient, slope, rtol=1e-5, atol=1e-5)


def test_barron_partition_in_closed_form():
    alpha = torch.tensor([1e-7, 1.0, 2 - 1e-9], dtype=torch.float64)
    # Cauchy: pi sqrt(2); Charbonnier: 2 e K_1(1); normal: sqrt(2 pi)
    wanted = [math.pi * math.sqrt(2), 2 * math.e * special.k1(1), math.sqrt(2 * math.pi)]
    close(barron_log_partition(alpha).exp(), wanted, rtol=1e-6)


@pytest.mark.parametrize("alpha_logit", [-200.0, -8.0, 0.0, 8.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_barron_is_finite_at_both_ends_of_alpha(alpha_logit, dtype):
    parameters = {
        "alpha_logit": torch.full((1, 2), alpha_logit, dtype=dtype, requires_grad=True),
        "log_scale": torch.full((1, 2), -3.0, dtype=dtype, requires_grad=True),
    }
    r = torch.tensor([[0.0, 1e-6], [1e4, -1e4]], dtype=dtype, requires_grad=True)
    losses = BarronAdaptive()(r, torch.zeros_like(r), parameters=parameters)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert all(x.grad.isfinite().all() for x in (r, *parameters.values()))


@pytest.mark.parametrize(("alpha_logit", "log_scale"), [(-2.0, 0.0), (0.0, 1.0), (3.0, -1.0)])
def test_barron_is_a_density(alpha_logit, log_scale):
    values = {"alpha_logit": alpha_logit, "log_scale": log_scale}
    parameters = {n: torch.tensor([[v]], dtype=torch.float64) for n, v in values.items()}

    def density(t):
        x = torch.tensor([[math.sinh(t)]], dtype=torch.float64)
        return math.exp(-BarronAdaptive()(x, torch.zeros_like(x), parameters=parameters).item()) * math.cosh(t)

    assert quad(density, -25, 25, limit=200)[0] == pytest.approx(1, abs=1e-7)


def test_barron_has_a_shape_and_a_scale_per_output():
    parameters = BarronAdaptive().parameters(Problem((4,), 3, 10), torch.Generator())
    assert {n: tuple(p.shape) for n, p in parameters.items()} == {"alpha_logit": (1, 3), "log_scale": (1, 3)}
    # alpha and c start at 1: sqrt(r^2 + 1) - 1, and the partition function 2 e K_1(1)
    r = torch.from_numpy(np.linspace(-5, 5, 30).reshape(10, 3))
    wanted = np.sqrt(r.numpy() ** 2 + 1) - 1 + math.log(2 * math.e * special.k1(1))
    close(BarronAdaptive()(r, torch.zeros_like(r), parameters=parameters), wanted.mean(-1), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Huber, {"delta": 0}),
        (Huber, {"delta": -1.0}),
        (Huber, {"delta": float("inf")}),
        (Huber, {"delta": float("nan")}),
        (Huber, {"delta": "1"}),
        (Huber, {"delta": True}),
        (Tukey, {"c": 0.0}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
