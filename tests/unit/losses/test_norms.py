"""M-estimators with a robust scale against statsmodels and closed forms."""

import mpmath
import pytest
import torch
from statsmodels.robust import norms
from unit.losses.residuals import close, efficiency, of, residuals, slopes

from lossbench.errors import InvalidValue
from lossbench.losses import Andrews, Fair, Hampel, Talwar, Tukey


def scale(s):
    return {"residual_scale": torch.tensor([[float(s)]], dtype=torch.float64)}


PAIRS = [
    (Andrews(), norms.AndrewWave()),
    (Andrews(a=0.5), norms.AndrewWave(a=0.5)),
    (Hampel(), norms.Hampel()),
    (Hampel(a=0.5, b=0.7, c=3.0), norms.Hampel(a=0.5, b=0.7, c=3.0)),
    (Talwar(), norms.TrimmedMean(c=2.795)),
    (Talwar(c=0.4), norms.TrimmedMean(c=0.4)),
]


@pytest.mark.parametrize(("loss", "oracle"), PAIRS)
@pytest.mark.parametrize("s", [0.01, 1.0, 25.0])
def test_against_statsmodels(loss, oracle, s):
    # statsmodels' rho is of r/s; ours is s^2 times that. Theirs loses the digits of small residuals: atol
    r = residuals()
    wanted = s**2 * torch.from_numpy(oracle.rho(r.numpy()[:, 0] / s))
    close(of(loss, r, **scale(s)), wanted, rtol=1e-10, atol=1e-14 * s**2)


@pytest.mark.parametrize(("loss", "oracle"), PAIRS)
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
def test_half_the_square_near_zero_whatever_the_scale(loss):
    r = torch.tensor([[1e-7]], dtype=torch.float64)
    for s in (1e-1, 1.0, 1e2):
        close(of(loss, r, **scale(s)), [5e-15], rtol=1e-4, atol=0)


def test_hampel_without_a_descent_jumps_to_no_pull():
    r = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64)
    loss = Hampel(a=2, b=4, c=4)
    close(of(loss, r, **scale(1)), [0.5, 4.0, 6.0])
    close(slopes(loss, r, **scale(1)), [1.0, 2.0, 0.0])


@pytest.mark.parametrize("kind", [Andrews, Fair, Talwar])
def test_constants_must_be_positive(kind):
    (name,) = kind.__dataclass_fields__
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got 0"):
        kind(**{name: 0})


@pytest.mark.parametrize("wrong", [{"a": 5.0}, {"b": 9.0}, {"c": 3.0}])
def test_hampels_constants_must_rise(wrong):
    with pytest.raises(InvalidValue, match=r"a <= b <= c\. Got"):
        Hampel(**wrong)
