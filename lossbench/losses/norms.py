r"""M-estimators beside Tukey's whose constants are multiples of the residuals' robust scale.

All are :math:`s^2 \rho(r/s)` with :math:`\rho` as in statsmodels.robust.norms: about :math:`r^2/2` near zero whatever
the scale s, so that the learning rate means the same as for Huber.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.losses.terms import as_tensor, mean, residual
from lossbench.types import Encoding, Need, Space
from lossbench.validation import check_positive


@dataclass(frozen=True)
class Andrews(Loss):
    r"""Andrews' wave: the pull is a sine, and zero from :math:`\pi a` robust standard deviations on.

    .. math:: \ell(r) = s^2 a^2 (1 - \cos(r/as)) \;\text{if}\; |r| \le \pi a s, \quad 2 s^2 a^2 \;\text{otherwise}

    prediction, target: ``[..., D]`` in the standardised target's units; residual_scale s: ``[..., 1, D]`` in the same;
    a in multiples of s (1.339 is 95 % efficient for normal errors). Returns ``[...]``: the mean over D, in units
    squared. Raises `InvalidValue` if the shapes differ or a is not positive.
    Reference: Andrews, A Robust Method for Multiple Linear Regression, 1974,
    https://doi.org/10.1080/00401706.1974.10489233
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    needs = (Need.RESIDUAL_SCALE,)
    known_as = ("statsmodels.robust.norms.AndrewWave", "robustfit(wfun='andrews') of MATLAB")
    use_when = "gross outliers that should have no pull at all"
    beware = "no gradient beyond 4.2 times the scale: a bad start or a wrong scale stops the learning"
    convex = False
    bounded = True
    robust = True
    a: float = 1.339

    def __post_init__(self) -> None:
        check_positive(self, a=self.a)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """The mean over D."""
        bound = self.a * residual_scale
        angle = (residual(prediction, target) / bound).clamp(-torch.pi, torch.pi)
        # 1 - cos = 2 sin^2 of half the angle, which keeps the digits of a small one
        return mean(2 * bound.square() * (angle / 2).sin().square())


@dataclass(frozen=True)
class Hampel(Loss):
    r"""Hampel's three parts: quadratic to ``a``, linear to ``b``, bending down to a constant at ``c``.

    .. math:: \ell(r) = s^2 \left(n\left(m - \frac{n}{2}\right) + a\,t\left(1 - \frac{t}{2(c - b)}\right)\right)

    with :math:`x = |r|/s`, :math:`n = \min(x, a)`, :math:`m = \min(x, b)` and
    :math:`t = \min(\max(x - b, 0), c - b)`.

    prediction, target: ``[..., D]`` in the standardised target's units; residual_scale s: ``[..., 1, D]`` in the same;
    a, b, c in multiples of s (2, 4, 8 are 99 % efficient for normal errors; 0.691 times as much would be 95 %). Returns
    ``[...]``: the mean over D, in units squared. Raises `InvalidValue` if the shapes differ, a is not positive, b is
    below a or c below b.
    Reference: Hampel, The Influence Curve and its Role in Robust Estimation, 1974, https://doi.org/10.2307/2285666
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    needs = (Need.RESIDUAL_SCALE,)
    known_as = ("statsmodels.robust.norms.Hampel", "three-part redescending M-estimator")
    use_when = "gross outliers that should have no pull, and doubtful ones that should keep a little"
    beware = "no gradient beyond c times the scale: a bad start or a wrong scale stops the learning"
    convex = False
    bounded = True
    robust = True
    a: float = 2.0
    b: float = 4.0
    c: float = 8.0

    def __post_init__(self) -> None:
        check_positive(self, a=self.a, b=self.b, c=self.c)
        if not self.a <= self.b <= self.c:
            raise InvalidValue(
                f"The parameters of Hampel must rise: a <= b <= c. Got a={self.a}, b={self.b}, c={self.c} instead."
            )

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """The mean over D."""
        x = (residual(prediction, target) / residual_scale).abs()
        a, b, c = (as_tensor(field, x) for field in (self.a, self.b, self.c))
        near, middle = x.minimum(a), x.minimum(b)
        far = (x - b).clamp_min(0).minimum(c - b)
        # where b = c nothing is far, and any divisor does
        descent = a * far * (1 - far / (2 * (c - b + (c == b))))
        return mean(residual_scale.square() * (near * (middle - near / 2) + descent))


@dataclass(frozen=True)
class Fair(Loss):
    r"""Fair's: quadratic near the target, linear far away, with all derivatives along the way.

    .. math:: \ell(r) = s^2 c^2 (u - \log(1 + u)), \quad u = \frac{|r|}{cs}

    prediction, target: ``[..., D]`` in the standardised target's units; residual_scale s: ``[..., 1, D]`` in the same;
    c in multiples of s (1.4 is 95 % efficient for normal errors); the slope is below c s. Returns ``[...]``: the mean
    over D, in units squared. Raises `InvalidValue` if the shapes differ or c is not positive.
    Reference: Fair, On the Robust Estimation of Econometric Models, 1974, as in Holland and Welsch, Robust Regression
    Using Iteratively Reweighted Least-Squares, 1977, https://doi.org/10.1080/03610927708827533
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    needs = (Need.RESIDUAL_SCALE,)
    known_as = ("robustfit(wfun='fair') of MATLAB", "objective='fair' of LightGBM (fair_c = c s)")
    use_when = "Huber's aims with a bend that spreads over all residuals, and a scale that follows them"
    beware = "outliers keep a pull of nearly c times the scale, as with huber"
    convex = True
    bounded = False
    robust = True
    c: float = 1.4

    def __post_init__(self) -> None:
        check_positive(self, c=self.c)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """The mean over D."""
        bound = self.c * residual_scale
        share = residual(prediction, target).abs() / bound
        return mean(bound.square() * (share - share.log1p()))


@dataclass(frozen=True)
class Talwar(Loss):
    r"""Talwar's: the squared error, cut off at ``c`` robust standard deviations.

    .. math:: \ell(r) = \frac{1}{2}\min(|r|, cs)^2

    prediction, target: ``[..., D]`` in the standardised target's units; residual_scale s: ``[..., 1, D]`` in the same;
    c in multiples of s (2.795 is 95 % efficient for normal errors). Returns ``[...]``: the mean over D, in units
    squared. Raises `InvalidValue` if the shapes differ or c is not positive.
    Reference: Hinich and Talwar, A Simple Method for Robust Regression, 1975, as in Holland and Welsch, Robust
    Regression Using Iteratively Reweighted Least-Squares, 1977, https://doi.org/10.1080/03610927708827533
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    needs = (Need.RESIDUAL_SCALE,)
    known_as = ("statsmodels.robust.norms.TrimmedMean", "truncated squared error", "robustfit(wfun='talwar') of MATLAB")
    use_when = "every target is either right or plainly wrong, and the wrong ones should not count"
    beware = "no gradient beyond c times the scale: a bad start or a wrong scale stops the learning"
    convex = False
    bounded = True
    robust = True
    c: float = 2.795

    def __post_init__(self) -> None:
        check_positive(self, c=self.c)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """The mean over D."""
        distance = residual(prediction, target).abs()
        return mean(distance.minimum(self.c * residual_scale).square() / 2)
