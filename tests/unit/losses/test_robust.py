"""Robust losses against statsmodels, kornia, scipy, mpmath and closed forms."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special
from scipy.integrate import quad
from scipy.optimize import least_squares
from statsmodels.robust import norms
from statsmodels.robust.norms import TukeyBiweight
from unit.losses.residuals import close, efficiency, of, residuals, slopes

from lossbench.errors import InvalidValue
from lossbench.losses import (
    Andrews,
    Barron,
    BarronAdaptive,
    Cauchy,
    Charbonnier,
    Fair,
    GemanMcclure,
    Hampel,
    Talwar,
    Tukey,
    Welsch,
    Wing,
)
from lossbench.losses.robust import barron, barron_log_partition
from lossbench.types import Problem


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


TRAINED_ALPHAS = (0.001, 0.01, 0.3, 1.0, 1.5, 1.9, 1.99, 1.999, 2 - 1e-6)


@pytest.mark.parametrize("alpha", TRAINED_ALPHAS)
def test_barron_of_trained_alphas_against_the_paper(alpha):
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


@pytest.mark.parametrize("alpha", TRAINED_ALPHAS)
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
    parameters = BarronAdaptive().init_parameters(Problem((4,), 3, 10), torch.Generator())
    assert {n: tuple(p.shape) for n, p in parameters.items()} == {"alpha_logit": (1, 3), "log_scale": (1, 3)}
    # alpha and c start at 1: sqrt(r^2 + 1) - 1, and the partition function 2 e K_1(1)
    r = torch.from_numpy(np.linspace(-5, 5, 30).reshape(10, 3))
    wanted = np.sqrt(r.numpy() ** 2 + 1) - 1 + math.log(2 * math.e * special.k1(1))
    close(BarronAdaptive()(r, torch.zeros_like(r), parameters=parameters), wanted.mean(-1), rtol=1e-6)


def scale(s):
    return {"residual_scale": torch.tensor([[float(s)]], dtype=torch.float64)}


STATSMODELS = [
    (Andrews(), norms.AndrewWave()),
    (Andrews(a=0.5), norms.AndrewWave(a=0.5)),
    (Hampel(), norms.Hampel()),
    (Hampel(a=0.5, b=0.7, c=3.0), norms.Hampel(a=0.5, b=0.7, c=3.0)),
    (Talwar(), norms.TrimmedMean(c=2.795)),
    (Talwar(c=0.4), norms.TrimmedMean(c=0.4)),
]


@pytest.mark.parametrize(("loss", "oracle"), STATSMODELS)
@pytest.mark.parametrize("s", [0.01, 1.0, 25.0])
def test_norms_against_statsmodels(loss, oracle, s):
    # statsmodels' rho is of r/s; ours is s^2 times that. Theirs loses the digits of small residuals: atol
    r = residuals()
    wanted = s**2 * torch.from_numpy(oracle.rho(r.numpy()[:, 0] / s))
    close(of(loss, r, **scale(s)), wanted, rtol=1e-10, atol=1e-14 * s**2)


@pytest.mark.parametrize(("loss", "oracle"), STATSMODELS)
@pytest.mark.parametrize("s", [0.01, 1.0, 25.0])
def test_pulls_against_statsmodels(loss, oracle, s):
    r = residuals()
    wanted = s * torch.from_numpy(oracle.psi(r.numpy()[:, 0] / s))
    close(slopes(loss, r, **scale(s)), wanted, rtol=1e-10, atol=1e-13 * s)


@pytest.mark.parametrize("c", [0.01, 1.4, 30.0])
def test_fair_by_mpmath(c):
    # u - log(1 + u) of a small u loses its digits to u: atol
    r = residuals()
    with mpmath.workdps(60):
        shares = [abs(mpmath.mpf(v)) / mpmath.mpf(2 * c) for v in r[:, 0].tolist()]
        wanted = [float((2 * mpmath.mpf(c)) ** 2 * (u - mpmath.log(1 + u))) for u in shares]
    close(of(Fair(c=c), r, **scale(2)), wanted, rtol=1e-12, atol=1e-15 * c**2)


def test_fairs_slope():
    r = residuals()
    wanted = (r / (1 + r.abs() / (1.4 * 3)))[:, 0]
    close(slopes(Fair(), r, **scale(3)), wanted, rtol=1e-12, atol=1e-15)
    assert (slopes(Fair(), r, **scale(3)).abs() < 1.4 * 3).all()


@pytest.mark.parametrize(
    ("loss", "breaks", "wanted"),
    [
        (Tukey(), (4.685,), 0.95),
        (Andrews(), (1.339 * torch.pi,), 0.95),
        (Talwar(), (2.795,), 0.95),
        (Fair(), (), 0.95),
        (Hampel(), (2, 4, 8), 0.99),
        (Hampel(a=0.691 * 2, b=0.691 * 4, c=0.691 * 8), (1.382, 2.764, 5.528), 0.95),
    ],
)
def test_efficiency_for_normal_errors(loss, breaks, wanted):
    assert efficiency(loss, breaks, **scale(1)) == pytest.approx(wanted, abs=5e-4)


@pytest.mark.parametrize(
    ("loss", "edge"), [(Andrews(), 1.339 * torch.pi), (Hampel(), 8.0), (Talwar(), 2.795)], ids=lambda x: str(x)[:7]
)
@pytest.mark.parametrize("s", [1e-3, 1.0, 1e3])
def test_no_pull_beyond_the_edge_and_one_within(loss, edge, s):
    r = s * edge * torch.tensor([[0.99], [1.01], [1e4], [-1.01]], dtype=torch.float64)
    inside, *outside = slopes(loss, r, **scale(s)).tolist()
    assert inside > 0
    assert outside == [0, 0, 0]


@pytest.mark.parametrize("loss", [Andrews(), Hampel(), Fair(), Talwar()])
def test_norms_are_half_the_square_near_zero_whatever_the_scale(loss):
    r = torch.tensor([[1e-7]], dtype=torch.float64)
    for s in (1e-1, 1.0, 1e2):
        close(of(loss, r, **scale(s)), [5e-15], rtol=1e-4, atol=0)


def test_hampel_without_a_descent_jumps_to_no_pull():
    r = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64)
    loss = Hampel(a=2, b=4, c=4)
    close(of(loss, r, **scale(1)), [0.5, 4.0, 6.0])
    close(slopes(loss, r, **scale(1)), [1.0, 2.0, 0.0])


@pytest.mark.parametrize("kind", [Andrews, Fair, Talwar])
def test_constants_of_norms_must_be_positive(kind):
    (name,) = kind.__dataclass_fields__
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got 0"):
        kind(**{name: 0})


@pytest.mark.parametrize("wrong", [{"a": 5.0}, {"b": 9.0}, {"c": 3.0}])
def test_hampels_constants_must_rise(wrong):
    with pytest.raises(InvalidValue, match=r"a <= b <= c\. Got"):
        Hampel(**wrong)


KORNIA_RESIDUALS = torch.tensor([[0.0], [1e-3], [0.5], [-1.0], [2.0], [-10.0], [100.0]], dtype=torch.float64)


# computed using kornia.losses of kornia v0.9.0, reduction="none", float64
KORNIA = {
    Cauchy: [
        0.0,
        4.999998750000417e-07,
        0.11778303565638346,
        0.4054651081081644,
        1.0986122886681098,
        3.9318256327243257,
        8.517393171418904,
    ],
    GemanMcclure: [0.0, 4.999998750000312e-07, 0.11764705882352941, 0.4, 1.0, 1.9230769230769231, 1.9992003198720512],
    Welsch: [0.0, 4.999998750000208e-07, 0.11750309741540459, 0.3934693402873666, 0.8646647167633873, 1.0, 1.0],
    Charbonnier: [
        0.0,
        4.999998750000624e-07,
        0.11803398874989485,
        0.41421356237309515,
        1.2360679774997898,
        9.04987562112089,
        99.00499987500625,
    ],
}


BARRONS_FAMILY = tuple(KORNIA)
ALPHAS = (2.0, 2 - 1e-12, 2 - 1e-6, 1.9, 1.0, 0.3, 1e-6, 1e-15, 0.0, -1e-15, -1e-6, -1.0, -2.0, -50.0, -1e6, -math.inf)


@pytest.mark.parametrize("kind", BARRONS_FAMILY)
def test_barrons_family_against_kornia(kind):
    # kornia subtracts numbers near 1: its digits of small residuals are lost
    close(of(kind(), KORNIA_RESIDUALS), KORNIA[kind], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("kind", BARRONS_FAMILY)
@pytest.mark.parametrize("c", [1e-3, 0.5, 7.0])
def test_c_of_barrons_family_is_the_unit(kind, c):
    r = residuals()
    close(of(kind(c=c), c * r), c**2 * of(kind(), r), rtol=1e-11)


@pytest.mark.parametrize("kind", BARRONS_FAMILY)
def test_barrons_family_is_half_the_square_near_zero_whatever_c(kind):
    for c in (0.1, 1.0, 30.0):
        close(of(kind(c=c), torch.tensor([[1e-7]], dtype=torch.float64)), [5e-15], rtol=1e-6, atol=0)


@pytest.mark.parametrize("c", [0.01, 1.0, 25.0])
def test_charbonnier_is_scipys_pseudo_huber(c):
    r = residuals()
    close(of(Charbonnier(c=c), r), special.pseudo_huber(c, r.numpy())[:, 0], rtol=1e-13)


def test_charbonnier_of_image_restoration():
    # sqrt(r^2 + eps^2), as the class says
    r, eps = residuals(), 1e-3
    close(of(Charbonnier(c=eps), r) / eps + eps, (r.square() + eps**2).sqrt()[:, 0])


def test_cauchy_is_scipys():
    # scipy minimises half of C^2 log(1 + (f / C)^2)
    r = 3.7
    found = least_squares(lambda _: [r], [0.0], loss="cauchy", f_scale=math.sqrt(2) * 0.6)
    close(of(Cauchy(c=0.6), torch.tensor([[r]], dtype=torch.float64)), [found.cost])


@pytest.mark.parametrize(
    ("loss", "steepest", "at"),
    [
        (Charbonnier(c=0.5), 0.5, math.inf),
        (Cauchy(c=0.5), 0.5 / math.sqrt(2), 0.5 * math.sqrt(2)),
        (GemanMcclure(c=0.5), 0.5 * 3 * math.sqrt(3) / 8, 0.5 * 2 / math.sqrt(3)),
        (Welsch(c=0.5), 0.5 * math.exp(-0.5), 0.5),
    ],
)
def test_the_pull_of_barrons_family_is_bounded(loss, steepest, at):
    r = torch.linspace(0, 200, 400_001, dtype=torch.float64)[:, None]
    pull = slopes(loss, r)
    assert pull.max() <= steepest * (1 + 1e-12)
    assert pull.max() == pytest.approx(steepest, rel=1e-5)
    if math.isfinite(at):
        assert r[pull.argmax()].item() == pytest.approx(at, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "c"), [(Charbonnier, 1.287), (Cauchy, 2.385 / math.sqrt(2)), (GemanMcclure, 1.894), (Welsch, 2.110)]
)
def test_constants_of_95_percent_efficiency(kind, c):
    assert efficiency(kind(c=c)) == pytest.approx(0.95, abs=3e-4)


def barron_of_the_paper(r, alpha):
    """Equation 8 of Barron 2019 in 60 digits."""
    with mpmath.workdps(60):
        x = mpmath.mpf(r)
        if alpha == 2:
            return float(x**2 / 2)
        if alpha == 0:
            return float(mpmath.log(x**2 / 2 + 1))
        if alpha == -math.inf:
            return float(1 - mpmath.exp(-(x**2) / 2))
        a = mpmath.mpf(alpha)
        b = abs(a - 2)
        return float(b / a * ((x**2 / b + 1) ** (a / 2) - 1))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_barron_against_the_paper(alpha):
    r = residuals()
    # near alpha = 2 the base x^2 / b is large: the digits of b = 2 - alpha are those of alpha
    close(of(Barron(alpha=alpha), r), [barron_of_the_paper(v, alpha) for v in r[:, 0].tolist()], rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [*ALPHAS, -1e39, 2 - 1e-9, 1e-30])
def test_barron_is_finite_for_every_alpha(alpha, dtype):
    r = torch.tensor([[0.0], [1e-6], [-1.0], [1e4], [-1e4]], dtype=dtype, requires_grad=True)
    for field in (alpha, torch.tensor([[alpha]], dtype=dtype)):
        loss = Barron()
        object.__setattr__(loss, "alpha", field)
        losses = of(loss, r)
        (gradient,) = torch.autograd.grad(losses.sum(), r)
        assert losses.isfinite().all()
        assert gradient.isfinite().all()
        # no alpha pulls more than the squared error
        assert (gradient.abs() <= r.abs() * (1 + 1e-5)).all()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_barrons_gradient_against_the_paper(alpha):
    # x (x^2 / |alpha - 2| + 1)^(alpha / 2 - 1), and its limits
    r = torch.tensor([[1e-3], [0.5], [-2.0], [30.0]], dtype=torch.float64)
    x = r[:, 0]
    b = abs(alpha - 2)
    wanted = {2.0: x, -math.inf: x * (-x.square() / 2).exp()}.get(alpha)
    wanted = x * (x.square() / b + 1) ** (alpha / 2 - 1) if wanted is None else wanted
    close(slopes(Barron(alpha=alpha), r), wanted, rtol=1e-8)


def test_barron_falls_with_alpha():
    r = residuals()
    values = torch.stack([of(Barron(alpha=a), r) for a in ALPHAS])
    assert (values.diff(dim=0) <= 1e-9 * values[:-1]).all()


@pytest.mark.parametrize("alpha", [2.1, math.inf, math.nan, "1", True])
def test_barrons_alpha_is_at_most_two(alpha):
    with pytest.raises(InvalidValue, match=r"The 'alpha' parameter of Barron must be a float in the range \[-inf, 2\]"):
        Barron(alpha=alpha)


@pytest.mark.parametrize("kind", [Barron, *BARRONS_FAMILY])
def test_c_must_be_positive(kind):
    with pytest.raises(InvalidValue, match=f"The 'c' parameter of {kind.__name__} must be .* Got 0"):
        kind(c=0)


def test_wing_by_hand():
    # w = 10, epsilon = 2 of the paper: 10 log(1 + 4 / 2), and 25 - 10 + 10 log(6)
    r = torch.tensor([[-4.0], [25.0]], dtype=torch.float64)
    close(of(Wing(width=10, epsilon=2), r), [10 * math.log(3), 15 + 10 * math.log(6)])


@pytest.mark.parametrize(("width", "epsilon"), [(10.0, 2.0), (1.0, 0.2), (0.3, 5.0)])
def test_wings_parts_meet(width, epsilon):
    around = torch.tensor([[width * (1 - 1e-9)], [width], [width * (1 + 1e-9)]], dtype=torch.float64)
    values = of(Wing(width=width, epsilon=epsilon), around)
    close(values, torch.full((3,), width * math.log1p(width / epsilon)), rtol=1e-7)
    constant = width - width * math.log1p(width / epsilon)
    far = torch.tensor([[3 * width]], dtype=torch.float64)
    close(of(Wing(width=width, epsilon=epsilon), far), [3 * width - constant])


def test_wings_slopes():
    r = torch.tensor([[1e-12], [-0.5], [2.0]], dtype=torch.float64)
    close(slopes(Wing(), r), [1 / 0.2, -1 / 0.7, 1.0], rtol=1e-9)


@pytest.mark.parametrize("field", ["width", "epsilon"])
def test_wings_fields_must_be_positive(field):
    with pytest.raises(InvalidValue, match=f"The '{field}' parameter of Wing must be .* Got -1"):
        Wing(**{field: -1})


@pytest.mark.parametrize("kind", [Barron, Cauchy, Charbonnier, GemanMcclure, Welsch])
@pytest.mark.parametrize("c", [1e-30, 1e160])
def test_widths_whose_square_nothing_can_hold(kind, c):
    with pytest.raises(InvalidValue, match=rf"The 'c' parameter of {kind.__name__} must be .* range \(1e-15"):
        kind(c=c)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Tukey, {"c": 0.0}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
