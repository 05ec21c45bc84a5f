r"""Robust losses of regression: distances whose pull on the prediction fades, or ends, far away from the target.

All but wing are :math:`s^2 \rho(r/s)`, about :math:`r^2/2` near zero whatever the scale s, so that the learning rate
means the same as for Huber. They differ in how the pull fades far away. The M-estimators (:math:`\rho` as in
statsmodels.robust.norms) count in multiples of the residuals' robust scale; Barron's family in their own width c.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.losses.primitives import as_tensor, mean, residual
from lossbench.types import Encoding, Problem, Requirement, Space
from lossbench.validation import check_at_most, check_between, check_positive

WIDTHS = (1e-15, 1e15)
"""Limits of c: residuals over c, and c squared, must fit into float32."""


def barron(x: Tensor, alpha: Tensor) -> Tensor:
    """Return Barron's general loss of scaled residuals for alpha below 2 and not 0, where no limit form is needed."""
    # b / alpha ((x^2 / b + 1)^(alpha / 2) - 1), the power by log1p and expm1, which keep the digits of a small x
    b = 2 - alpha
    return b / alpha * (alpha / 2 * (x.square() / b).log1p()).expm1()


@dataclass(frozen=True)
class Tukey(Loss):
    r"""Tukey's biweight: quadratic near the target, constant from ``c`` robust standard deviations on.

    .. math:: \ell(r) = s^2\frac{c^2}{6}\left(1 - \left(1 - (r/cs)^2\right)^3\right) \;\text{if}\; |r| \le cs,
        \quad s^2 c^2/6 \;\text{otherwise}

    The factor :math:`s^2` undoes the division by the scale: near zero it is :math:`r^2/2` whatever the scale, so the
    learning rate means the same as for Huber.

    prediction, target: ``[..., D]`` in the standardised target's units; residual_scale s: ``[..., 1, D]`` in the same;
    c in multiples of s (4.685 is 95 % efficient for normal errors). Returns ``[...]``: the mean over D, in units
    squared. Raises `InvalidValue` if the shapes differ or c is not positive.
    Reference: Beaton and Tukey, The Fitting of Power Series, Meaning Polynomials, Illustrated on Band-Spectroscopic
    Data, 1974, https://doi.org/10.1080/00401706.1974.10489171
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    requires = (Requirement.RESIDUAL_SCALE,)
    aliases = ("statsmodels.robust.norms.TukeyBiweight", "biweight", "bisquare")
    use_when = "gross outliers that should have no pull at all"
    pitfall = "no gradient beyond c times the scale: a bad start or a wrong scale stops the learning"
    convex = False
    bounded = True
    robust = True
    c: float = 4.685

    def __post_init__(self) -> None:
        check_positive(self, c=self.c)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """Return the mean over D."""
        bound = self.c * residual_scale
        # u = (r / cs)^2, at most 1: beyond the bound the loss is constant and the gradient 0
        share = (residual(prediction, target) / bound).square().clamp(max=1)  # [..., B, D]
        # 1 - (1 - u)^3 multiplied out, which keeps the digits of a small u
        return mean(bound.square() / 6 * share * (3 - 3 * share + share.square()))


@dataclass(frozen=True)
class BarronAdaptive(Loss):
    r"""Barron's general robust loss as a likelihood, whose shape and scale are trained with the model.

    .. math:: \ell(r) = \rho_\alpha(r/c) + \log c + \log Z(\alpha), \quad
        \rho_\alpha(x) = \frac{2 - \alpha}{\alpha}\left(\left(\frac{x^2}{2 - \alpha} + 1\right)^{\alpha/2} - 1\right)

    with :math:`Z(\alpha) = \int e^{-\rho_\alpha(x)} dx`. It runs from Cauchy's (alpha to 0) over Charbonnier's (1) to
    the normal distribution's (2).

    prediction, target: ``[..., D]`` in the standardised target's units; parameters: ``alpha_logit`` and ``log_scale``,
    each ``[..., 1, D]``, where alpha = 0.001 + 1.998 sigmoid(alpha_logit) and c = exp(log_scale); both start at 0, so
    alpha and c start at 1. Returns ``[...]``: the mean over D, in nats. Raises `InvalidValue` if the shapes differ.
    Reference: Barron, A General and Adaptive Robust Loss Function, 2019, https://arxiv.org/abs/1701.03077
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    requires = (Requirement.PARAMETERS,)
    aliases = ("robust_loss_pytorch.AdaptiveLossFunction", "general adaptive robust loss")
    use_when = "it is not known how heavy the tails of the noise are, or they differ between outputs"
    pitfall = "its values are log likelihoods: below zero is possible, and they compare with no other loss"

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Return one shape and one scale per output, `[1, D]`; nothing is drawn."""
        return {name: torch.zeros(1, problem.n_outputs) for name in ("alpha_logit", "log_scale")}

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor]) -> Tensor:
        """Return the mean over D."""
        log_scale = parameters["log_scale"]
        alpha = 0.001 + 1.998 * parameters["alpha_logit"].sigmoid()
        # rho(r / c) + log c + log Z(alpha), with 1 / c = exp(-log c)
        distance = barron(residual(prediction, target) * (-log_scale).exp(), alpha)
        return mean(distance + log_scale + barron_log_partition(alpha))


def barron_log_partition(alpha: Tensor, n: int = 160, step: float = 0.175) -> Tensor:
    r"""The logarithm of :math:`\int e^{-\rho_\alpha(x)} dx` for alpha in (0, 2), differentiable.

    With :math:`x = \sqrt{2 - \alpha}\,\sinh t` the loss is :math:`(2 - \alpha)/\alpha\,(\cosh^\alpha t - 1)`: analytic
    and falling within :math:`\pi/4` of the real axis, so the trapezoid rule converges exponentially and this step
    leaves 1e-12. So does the end at t = 28: the heaviest tail (alpha to 0) falls as :math:`e^{-t}`.
    """
    # 1. the nodes t, with an axis for them before those of alpha: [n, ..., 1, D]
    t = torch.arange(n, dtype=alpha.dtype, device=alpha.device).view(-1, *(1,) * alpha.dim()) * step
    # 2. the logarithm of the integrand, cosh t e^-rho: log cosh t = t + softplus(-2 t) - log 2 cannot overflow
    log_cosh = t + functional.softplus(-2 * t) - math.log(2)
    b = 2 - alpha
    log_terms = log_cosh - b / alpha * (alpha * log_cosh).expm1()
    # 3. the trapezoid sum; the integrand is even, so both halves share the term at t = 0, which is 1
    both = torch.logsumexp(torch.cat([log_terms[:1] - math.log(2), log_terms[1:]]), 0) + math.log(2 * step)
    # 4. dx = sqrt(b) cosh t dt
    return both + b.log() / 2


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
    requires = (Requirement.RESIDUAL_SCALE,)
    aliases = ("statsmodels.robust.norms.AndrewWave", "robustfit(wfun='andrews') of MATLAB")
    use_when = "gross outliers that should have no pull at all"
    pitfall = "no gradient beyond 4.2 times the scale: a bad start or a wrong scale stops the learning"
    convex = False
    bounded = True
    robust = True
    a: float = 1.339

    def __post_init__(self) -> None:
        check_positive(self, a=self.a)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """Return the mean over D."""
        bound = self.a * residual_scale
        # beyond pi the cosine stays at -1: the loss is constant and the gradient 0
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
    requires = (Requirement.RESIDUAL_SCALE,)
    aliases = ("statsmodels.robust.norms.Hampel", "three-part redescending M-estimator")
    use_when = "gross outliers that should have no pull, and doubtful ones that should keep a little"
    pitfall = "no gradient beyond c times the scale: a bad start or a wrong scale stops the learning"
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
        """Return the mean over D."""
        x = (residual(prediction, target) / residual_scale).abs()
        a, b, c = (as_tensor(field, x) for field in (self.a, self.b, self.c))
        # the slope rises to a, stays at a until b, and falls to 0 between b and c: integrate the three parts
        near, middle = x.minimum(a), x.minimum(b)
        far = (x - b).clamp_min(0).minimum(c - b)
        # where b = c nothing is far, and any divisor will do
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
    requires = (Requirement.RESIDUAL_SCALE,)
    aliases = ("robustfit(wfun='fair') of MATLAB", "objective='fair' of LightGBM (fair_c = c s)")
    use_when = "Huber's aims with a bend that spreads over all residuals, and a scale that follows them"
    pitfall = "outliers keep a pull of nearly c times the scale, as with huber"
    convex = True
    bounded = False
    robust = True
    c: float = 1.4

    def __post_init__(self) -> None:
        check_positive(self, c=self.c)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """Return the mean over D."""
        bound = self.c * residual_scale
        share = residual(prediction, target).abs() / bound
        # log1p keeps the digits of u - log(1 + u) near the target
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
    requires = (Requirement.RESIDUAL_SCALE,)
    aliases = ("statsmodels.robust.norms.TrimmedMean", "truncated squared error", "robustfit(wfun='talwar') of MATLAB")
    use_when = "every target is either right or plainly wrong, and the wrong ones should not count"
    pitfall = "no gradient beyond c times the scale: a bad start or a wrong scale stops the learning"
    convex = False
    bounded = True
    robust = True
    c: float = 2.795

    def __post_init__(self) -> None:
        check_positive(self, c=self.c)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """Return the mean over D."""
        distance = residual(prediction, target).abs()
        return mean(distance.minimum(self.c * residual_scale).square() / 2)


def _check_width(owner: Loss, c: float) -> None:
    check_positive(owner, c=c)
    check_between(owner, *WIDTHS, c=c)


@dataclass(frozen=True)
class Charbonnier(Loss):
    r"""Quadratic within ``c`` of the target, linear beyond, with a smooth bend.

    .. math:: \ell(r) = c^2\left(\sqrt{1 + (r/c)^2} - 1\right)

    prediction, target: ``[..., D]`` in the standardised target's units, as is c, which is also the steepest slope
    (1.287 standard deviations of normal errors are 95 % efficient). Returns ``[...]``: the mean over D, in units
    squared. Raises `InvalidValue` if the shapes differ or c is not positive.
    Reference: Charbonnier et al., Two Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging,
    1994, https://doi.org/10.1109/ICIP.1994.413553
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("pseudo-Huber", "scipy.special.pseudo_huber", "kornia.losses.charbonnier_loss (c=1)", "L1-L2")
    use_when = "Huber's shape with a second derivative that has no kink"
    pitfall = "image restoration writes sqrt(r^2 + eps^2): that is this divided by eps, plus eps, with c = eps"
    convex = True
    bounded = False
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        squared = residual(prediction, target).square()
        # sqrt(1 + u) - 1 = u / (sqrt(1 + u) + 1), which keeps the digits of a small u
        return mean(squared / ((1 + squared / self.c**2).sqrt() + 1))


@dataclass(frozen=True)
class Cauchy(Loss):
    r"""Grows with the logarithm of the residual: the likelihood of Cauchy's distribution.

    .. math:: \ell(r) = c^2 \log\left(1 + \frac{(r/c)^2}{2}\right)

    prediction, target: ``[..., D]`` in the standardised target's units, as is c (1.686 standard deviations of normal
    errors are 95 % efficient); the pull is largest, c / sqrt(2), at sqrt(2) c. Returns ``[...]``: the mean over D, in
    units squared. Raises `InvalidValue` if the shapes differ or c is not positive.
    Reference: Black and Anandan, The Robust Estimation of Multiple Motions, 1996,
    https://doi.org/10.1006/cviu.1996.0006
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = (
        "Lorentzian",
        "kornia.losses.cauchy_loss (c=1)",
        "least_squares(loss='cauchy', f_scale=sqrt(2) c) of scipy",
    )
    use_when = "many outliers, and a bad start should still be able to recover"
    pitfall = "classic texts write log(1 + (r/k)^2) with k = 2.385: that is c = k / sqrt(2)"
    convex = False
    bounded = False
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        halved = (residual(prediction, target) / self.c).square() / 2  # (r / c)^2 / 2
        return mean(self.c**2 * halved.log1p())


@dataclass(frozen=True)
class GemanMcclure(Loss):
    r"""Tends to a constant, :math:`2c^2`, with the square of the residual.

    .. math:: \ell(r) = c^2 \frac{2 (r/c)^2}{(r/c)^2 + 4}

    prediction, target: ``[..., D]`` in the standardised target's units, as is c (1.894 standard deviations of normal
    errors are 95 % efficient); the pull is largest at 1.155 c. Returns ``[...]``: the mean over D, in units squared.
    Raises `InvalidValue` if the shapes differ or c is not positive.
    Reference: Geman and McClure, Bayesian Image Analysis: An Application to Single Photon Emission Tomography, 1985, as
    written in Barron, A General and Adaptive Robust Loss Function, 2019, https://arxiv.org/abs/1701.03077
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("kornia.losses.geman_mcclure_loss (c=1)", "Geman-McClure")
    use_when = "gross outliers, of which most should have next to no pull"
    pitfall = "the pull falls with the cube of the residual: from a bad start it learns slowly"
    convex = False
    bounded = True
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        squared = residual(prediction, target).square()
        # c^2 2 x^2 / (x^2 + 4) with x = r / c: the c^2 cancels in the numerator
        return mean(2 * squared / (squared / self.c**2 + 4))


@dataclass(frozen=True)
class Welsch(Loss):
    r"""Tends to a constant, :math:`c^2`, exponentially.

    .. math:: \ell(r) = c^2 \left(1 - e^{-(r/c)^2/2}\right)

    prediction, target: ``[..., D]`` in the standardised target's units, as is c (2.110 standard deviations of normal
    errors are 95 % efficient); the pull is largest at c. Returns ``[...]``: the mean over D, in units squared. Raises
    `InvalidValue` if the shapes differ or c is not positive.
    Reference: Dennis and Welsch, Techniques for Nonlinear Least Squares and Robust Regression, 1978,
    https://doi.org/10.1080/03610917808812083
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("Leclerc", "correntropy loss", "kornia.losses.welsch_loss (c=1)")
    use_when = "gross outliers that should have no pull, as with tukey but without an edge"
    pitfall = "no gradient worth the name beyond 5 c: a bad start stays; classic texts' 2.985 is sqrt(2) c"
    convex = False
    bounded = True
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        # 1 - e^-u = -expm1(-u), which keeps the digits of a small u
        halved = (residual(prediction, target) / self.c).square() / 2
        return mean(-(self.c**2) * (-halved).expm1())


@dataclass(frozen=True)
class Barron(Loss):
    r"""Barron's general robust loss, whose ``alpha`` says how far the pull fades.

    .. math:: \ell(r) = c^2\,\frac{|\alpha - 2|}{\alpha}
        \left(\left(\frac{(r/c)^2}{|\alpha - 2|} + 1\right)^{\alpha/2} - 1\right)

    with its limits where that is 0/0: half the squared error at alpha 2, Cauchy at 0, Welsch at -inf. In between lie
    Charbonnier (1) and Geman-McClure (-2).

    prediction, target: ``[..., D]`` in the standardised target's units, as is c. Returns ``[...]``: the mean over D, in
    units squared. Raises `InvalidValue` if the shapes differ, alpha is above 2 or c is not positive.
    Reference: Barron, A General and Adaptive Robust Loss Function, 2019, https://arxiv.org/abs/1701.03077
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("robust_loss_pytorch.general.lossfun, times c squared", "general robust loss")
    same_as = "charbonnier"
    use_when = "to tune between squared, absolute and redescending losses with one number"
    pitfall = "alpha below 0 has its largest pull near c: a bad start learns slowly, and c has to fit the errors"
    alpha: float = 1.0
    c: float = 1.0

    def __post_init__(self) -> None:
        check_at_most(self, 2, alpha=self.alpha)
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        x = residual(prediction, target) / self.c
        return mean(self.c**2 * general_barron(x, as_tensor(self.alpha, x)))


def general_barron(x: Tensor, alpha: Tensor) -> Tensor:
    """Return Barron's loss of scaled residuals for all alpha up to 2, with its limits at 2, 0 and -inf."""
    halved = x.square() / 2
    # where a limit holds, the general form is computed at alpha 1: a NaN there would reach the gradient
    regular = alpha.isfinite() & (alpha != 0) & (alpha != 2)
    general = barron(x, torch.where(regular, alpha, 1.0))
    # half the square, Cauchy, Welsch
    limit = torch.where(alpha == 2, halved, torch.where(alpha == 0, halved.log1p(), -(-halved).expm1()))
    return torch.where(regular, general, limit)


@dataclass(frozen=True)
class Wing(Loss):
    r"""Logarithmic within ``width`` of the target, where it is steeper than the absolute error, and linear beyond.

    .. math:: \ell(r) = w \log(1 + |r|/\epsilon) \;\text{if}\; |r| < w, \quad
        |r| - w + w \log(1 + w/\epsilon) \;\text{otherwise}

    The constant makes the two meet at w. prediction, target: ``[..., D]`` in the standardised target's units, as are
    width w and epsilon (the paper's 10 and 2 are pixels; here their ratio is kept). Returns ``[...]``: the mean over D.
    Raises `InvalidValue` if the shapes differ or width or epsilon is not positive.
    Reference: Feng et al., Wing Loss for Robust Facial Landmark Localisation with Convolutional Neural Networks, 2018,
    https://arxiv.org/abs/1711.06753
    """

    family = "robust"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("wing loss of landmarks", "mmpose.WingLoss(omega=width)")
    use_when = "small and medium errors matter most, as with landmarks"
    pitfall = "the slope is w / epsilon at the target and jumps with the sign there: the learning rate must shrink"
    bounded = False
    robust = True
    width: float = 1.0
    epsilon: float = 0.2

    def __post_init__(self) -> None:
        check_positive(self, width=self.width, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        distance = residual(prediction, target).abs()
        width = as_tensor(self.width, distance)
        # beyond w the first term stays at w log(1 + w / eps), and the second goes on with slope 1
        near = distance.minimum(width)
        return mean(width * (near / self.epsilon).log1p() + distance - near)
