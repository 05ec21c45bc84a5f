r"""Robust losses of one family, Barron's, and wing.

All of the family are :math:`c^2 \rho(r/c)`: about :math:`r^2/2` near zero whatever c, so that the learning rate means
the same as for Huber. They differ in how the pull fades far away.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss
from lossbench.losses.terms import as_tensor, barron, mean, residual
from lossbench.types import Encoding, Space
from lossbench.validation import check_at_most, check_between, check_positive

WIDTHS = (1e-15, 1e15)
"""Where c may lie: residuals over c, and c squared, must fit into float32."""


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
    known_as = ("pseudo-Huber", "scipy.special.pseudo_huber", "kornia.losses.charbonnier_loss (c=1)", "L1-L2")
    use_when = "Huber's shape with a second derivative that has no kink"
    beware = "image restoration writes sqrt(r^2 + eps^2): that is this divided by eps, plus eps, with c = eps"
    convex = True
    bounded = False
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
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
    known_as = (
        "Lorentzian",
        "kornia.losses.cauchy_loss (c=1)",
        "least_squares(loss='cauchy', f_scale=sqrt(2) c) of scipy",
    )
    use_when = "many outliers, and a bad start should still be able to recover"
    beware = "classic texts write log(1 + (r/k)^2) with k = 2.385: that is c = k / sqrt(2)"
    convex = False
    bounded = False
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        halved = (residual(prediction, target) / self.c).square() / 2
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
    known_as = ("kornia.losses.geman_mcclure_loss (c=1)", "Geman-McClure")
    use_when = "gross outliers, of which most should have next to no pull"
    beware = "the pull falls with the cube of the residual: from a bad start it learns slowly"
    convex = False
    bounded = True
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        squared = residual(prediction, target).square()
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
    known_as = ("Leclerc", "correntropy loss", "kornia.losses.welsch_loss (c=1)")
    use_when = "gross outliers that should have no pull, as with tukey but without an edge"
    beware = "no gradient worth the name beyond 5 c: a bad start stays; classic texts' 2.985 is sqrt(2) c"
    convex = False
    bounded = True
    robust = True
    c: float = 1.0

    def __post_init__(self) -> None:
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
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
    known_as = ("robust_loss_pytorch.general.lossfun, times c squared", "general robust loss")
    same_as = "charbonnier"
    use_when = "to tune between squared, absolute and redescending losses with one number"
    beware = "alpha below 0 has its largest pull near c: a bad start learns slowly, and c has to fit the errors"
    alpha: float = 1.0
    c: float = 1.0

    def __post_init__(self) -> None:
        check_at_most(self, 2, alpha=self.alpha)
        _check_width(self, self.c)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        x = residual(prediction, target) / self.c
        return mean(self.c**2 * barron_anywhere(x, as_tensor(self.alpha, x)))


def barron_anywhere(x: Tensor, alpha: Tensor) -> Tensor:
    """Barron's loss of scaled residuals, for all alpha up to 2; no branch gives another a NaN in its gradient."""
    halved = x.square() / 2
    regular = alpha.isfinite() & (alpha != 0) & (alpha != 2)
    general = barron(x, torch.where(regular, alpha, 1.0))
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
    known_as = ("wing loss of landmarks", "mmpose.WingLoss(omega=width)")
    use_when = "small and medium errors matter most, as with landmarks"
    beware = "the slope is w / epsilon at the target and jumps with the sign there: the learning rate must shrink"
    bounded = False
    robust = True
    width: float = 1.0
    epsilon: float = 0.2

    def __post_init__(self) -> None:
        check_positive(self, width=self.width, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        distance = residual(prediction, target).abs()
        width = as_tensor(self.width, distance)
        near = distance.minimum(width)
        return mean(width * (near / self.epsilon).log1p() + distance - near)
