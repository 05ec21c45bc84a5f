"""Barron's family and wing against kornia, scipy, mpmath and closed forms."""

import math

import mpmath
import pytest
import torch
from scipy import special
from scipy.optimize import least_squares
from unit.losses.residuals import close, efficiency, of, residuals, slopes

from lossbench.errors import InvalidValue
from lossbench.losses import Barron, Cauchy, Charbonnier, GemanMcclure, Welsch, Wing

R = torch.tensor([[0.0], [1e-3], [0.5], [-1.0], [2.0], [-10.0], [100.0]], dtype=torch.float64)
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
FAMILY = tuple(KORNIA)
ALPHAS = (2.0, 2 - 1e-12, 2 - 1e-6, 1.9, 1.0, 0.3, 1e-6, 1e-15, 0.0, -1e-15, -1e-6, -1.0, -2.0, -50.0, -1e6, -math.inf)


@pytest.mark.parametrize("kind", FAMILY)
def test_against_kornia(kind):
    # kornia subtracts numbers near 1: its digits of small residuals are lost
    close(of(kind(), R), KORNIA[kind], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("c", [1e-3, 0.5, 7.0])
def test_c_is_the_unit(kind, c):
    r = residuals()
    close(of(kind(c=c), c * r), c**2 * of(kind(), r), rtol=1e-11)


@pytest.mark.parametrize("kind", FAMILY)
def test_half_the_square_near_zero_whatever_c(kind):
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
def test_the_pull_is_bounded(loss, steepest, at):
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


def paper(r, alpha):
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
    close(of(Barron(alpha=alpha), r), [paper(v, alpha) for v in r[:, 0].tolist()], rtol=1e-9)


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
def test_alpha_is_at_most_two(alpha):
    with pytest.raises(InvalidValue, match=r"The 'alpha' parameter of Barron must be a float in the range \[-inf, 2\]"):
        Barron(alpha=alpha)


@pytest.mark.parametrize("kind", [Barron, *FAMILY])
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
