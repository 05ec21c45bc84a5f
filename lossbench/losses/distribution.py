"""Likelihoods and scores of distributions whose location and scale are both predicted."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lossbench.interfaces.loss import Loss
from lossbench.losses.primitives import as_tensor, mean, residual
from lossbench.types import Encoding, Head, Space
from lossbench.validation import check_positive, check_share


def scale_residual(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the residual in units of the predicted scale, and the logarithm of that scale, `[..., D]` each."""
    location, log_scale = prediction.chunk(2, -1)  # [..., D] each
    return residual(location, target) * (-log_scale).exp(), log_scale


@dataclass(frozen=True)
class GaussianNLL(Loss):
    r"""The negative log likelihood of a normal distribution whose mean and scale are both predicted.

    .. math:: \ell = \frac{1}{2}\left(\frac{y - \mu}{\sigma}\right)^2 + \log\sigma + \frac{1}{2}\log 2\pi

    prediction: ``[..., 2 D]``, D means and then D values of :math:`\log\sigma`; target: ``[..., D]``, both in the
    standardised target's units. Returns ``[...]``: the mean over D, in nats. Raises `InvalidValue` if there are not
    twice as many predictions as targets.
    Reference: Nix and Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994,
    https://doi.org/10.1109/ICNN.1994.374138
    """

    family = "distribution"
    tasks = ("regression",)
    space = Space.MEAN_LOG_SCALE
    encoding = Encoding.VALUE
    head = Head.MEAN_SCALE
    aliases = (
        "torch.nn.GaussianNLLLoss(full=True), which takes the variance; by default without log(2 pi) / 2",
        "heteroscedastic regression",
    )
    use_when = "the noise differs between examples, or an error bar is wanted with each prediction"
    pitfall = "where it fits exactly the scale runs to zero and the gradient grows without bound: clip it"
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        z, log_scale = scale_residual(prediction, target)
        return mean(z.square() / 2 + log_scale + math.log(2 * math.pi) / 2)


@dataclass(frozen=True)
class BetaNLL(Loss):
    r"""The normal distribution's negative log likelihood, weighted by its predicted variance to the power ``beta``.

    .. math:: \ell = \lfloor\sigma^{2\beta}\rfloor \left(\frac{1}{2}\left(\frac{y - \mu}{\sigma}\right)^2 + \log\sigma
        + \frac{1}{2}\log 2\pi\right)

    where :math:`\lfloor\cdot\rfloor` has no gradient. At beta 0 it is gaussian_nll; at 1 the means have the gradient of
    half the squared error. prediction: ``[..., 2 D]``, D means and then D values of :math:`\log\sigma`; target:
    ``[..., D]``, both in the standardised target's units. Returns ``[...]``: the mean over D. Raises `InvalidValue` if
    there are not twice as many predictions as targets or beta is not in [0, 1].
    Reference: Seitzer et al., On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural
    Networks, 2022, https://arxiv.org/abs/2203.09168
    """

    family = "distribution"
    tasks = ("regression",)
    space = Space.MEAN_LOG_SCALE
    encoding = Encoding.VALUE
    head = Head.MEAN_SCALE
    aliases = ("beta-NLL",)
    use_when = "as for gaussian_nll, where that neglects examples which it calls noisy too early"
    pitfall = "the weight moves with the training: falling values do not mean that the fit gets better"
    bounded = False
    robust = False
    held_still: ClassVar = {"beta": 0.0}
    beta: float = 0.5

    def __post_init__(self) -> None:
        check_share(self, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        z, log_scale = scale_residual(prediction, target)
        # sigma^(2 beta), without a gradient
        weight = (2 * self.beta * log_scale.detach()).exp()
        return mean(weight * (z.square() / 2 + log_scale + math.log(2 * math.pi) / 2))


@dataclass(frozen=True)
class LaplaceNLL(Loss):
    r"""The negative log likelihood of a Laplace distribution whose location and scale are both predicted.

    .. math:: \ell = \frac{|y - \mu|}{b} + \log b + \log 2

    prediction: ``[..., 2 D]``, D locations (the medians) and then D values of :math:`\log b`; target: ``[..., D]``,
    both in the standardised target's units. Returns ``[...]``: the mean over D, in nats. Raises `InvalidValue` if there
    are not twice as many predictions as targets.
    Reference: Kotz, Kozubowski and Podgorski, The Laplace Distribution and Generalizations, 2001,
    https://doi.org/10.1007/978-1-4612-0173-1
    """

    family = "distribution"
    tasks = ("regression",)
    space = Space.MEAN_LOG_SCALE
    encoding = Encoding.VALUE
    head = Head.MEAN_SCALE
    aliases = ("scipy.stats.laplace", "the L1 loss with learned uncertainty")
    use_when = "the noise differs between examples and has heavier tails than the normal distribution's"
    pitfall = "b is the mean absolute error and not the standard deviation, which is sqrt(2) b"
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        z, log_scale = scale_residual(prediction, target)
        return mean(z.abs() + log_scale + math.log(2))


@dataclass(frozen=True)
class StudentTNLL(Loss):
    r"""The negative log likelihood of Student's t distribution whose location and scale are both predicted.

    .. math:: \ell = \frac{\nu + 1}{2} \log\left(1 + \frac{z^2}{\nu}\right) + \log\sigma + \frac{1}{2}\log(\nu\pi)
        + \log\Gamma\left(\frac{\nu}{2}\right) - \log\Gamma\left(\frac{\nu + 1}{2}\right), \quad
        z = \frac{y - \mu}{\sigma}

    prediction: ``[..., 2 D]``, D locations and then D values of :math:`\log\sigma`; target: ``[..., D]``, both in the
    standardised target's units; df is :math:`\nu`, 1 for Cauchy's distribution, large for the normal one. Returns
    ``[...]``: the mean over D, in nats. Raises `InvalidValue` if there are not twice as many predictions as targets or
    df is not positive.
    Reference: Lange, Little and Taylor, Robust Statistical Modeling Using the t Distribution, 1989,
    https://doi.org/10.2307/2290063
    """

    name: ClassVar[str] = "student_t_nll"
    family = "distribution"
    tasks = ("regression",)
    space = Space.MEAN_LOG_SCALE
    encoding = Encoding.VALUE
    head = Head.MEAN_SCALE
    aliases = ("scipy.stats.t", "torch.distributions.StudentT")
    use_when = "an error bar is wanted with each prediction, and some targets are far off"
    pitfall = "sigma is not the standard deviation, which is larger by sqrt(df / (df - 2)), and infinite up to df 2"
    bounded = False
    robust = False
    df: float = 4.0

    def __post_init__(self) -> None:
        check_positive(self, df=self.df)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        z, log_scale = scale_residual(prediction, target)
        df = as_tensor(self.df, z)
        # the normaliser, log sqrt(nu pi) + log Gamma(nu / 2) - log Gamma((nu + 1) / 2)
        constant = (df / 2).lgamma() - ((df + 1) / 2).lgamma() + (df * math.pi).log() / 2
        return mean((df + 1) / 2 * (z.square() / df).log1p() + log_scale + constant)


@dataclass(frozen=True)
class CRPSGaussian(Loss):
    r"""The continuous ranked probability score of a normal distribution whose mean and scale are both predicted.

    .. math:: \ell = \int (F(t) - [t \ge y])^2\,dt
        = \sigma\left(z (2\Phi(z) - 1) + 2\varphi(z) - \frac{1}{\sqrt\pi}\right), \quad z = \frac{y - \mu}{\sigma}

    It tends to the absolute error as :math:`\sigma` tends to 0. prediction: ``[..., 2 D]``, D means and then D values
    of :math:`\log\sigma`; target: ``[..., D]``, both in the standardised target's units. Returns ``[...]``: the mean
    over D, in units. Raises `InvalidValue` if there are not twice as many predictions as targets.
    Reference: Gneiting et al., Calibrated Probabilistic Forecasting Using Ensemble Model Output Statistics and Minimum
    CRPS Estimation, 2005, https://doi.org/10.1175/MWR2904.1
    """

    family = "distribution"
    tasks = ("regression",)
    space = Space.MEAN_LOG_SCALE
    encoding = Encoding.VALUE
    head = Head.MEAN_SCALE
    aliases = ("properscoring.crps_gaussian", "scoringrules.crps_normal")
    use_when = "an error bar is wanted, and neither an outlier nor a perfect fit may run away with the training"
    pitfall = "in the target's units, so large errors of noisy examples rule; values do not compare with likelihoods"
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        z, log_scale = scale_residual(prediction, target)
        # z (2 Phi(z) - 1) = z erf(z / sqrt(2)), and 2 phi(z) = sqrt(2 / pi) exp(-z^2 / 2)
        inside = z * (z / math.sqrt(2)).erf() + math.sqrt(2 / math.pi) * (-z.square() / 2).exp()
        return mean(log_scale.exp() * (inside - 1 / math.sqrt(math.pi)))
