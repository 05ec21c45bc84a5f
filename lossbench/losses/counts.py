r"""Losses of counts and other values that are never negative, all of the logarithm of the predicted mean.

Half deviances and negative log likelihoods have the same gradient; which of the two a loss is, its formula says.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.interfaces.loss import Loss, check_same_shape
from lossbench.losses.primitives import as_tensor, mean, softplus
from lossbench.types import Encoding, Head, Space
from lossbench.validation import check_between, check_positive


@dataclass(frozen=True)
class PoissonNLL(Loss):
    r"""The negative log likelihood of a Poisson distribution whose rate is predicted.

    .. math:: \ell = \mu - y \log\mu

    without the term :math:`\log y!`, which no prediction changes, so it may be negative. prediction: ``[..., D]``, the
    logarithm of the rate :math:`\mu`; target y: ``[..., D]``, both in the target's original units; whole numbers are
    not asked for, since the best rate is the mean of any targets that are not negative. Returns ``[...]``: the mean
    over D, in nats. Raises `InvalidValue` if the shapes differ.
    Reference: Nelder and Wedderburn, Generalized Linear Models, 1972, https://doi.org/10.2307/2344614
    """

    family = "counts"
    tasks = ("regression",)
    space = Space.LOG_RATE
    encoding = Encoding.POSITIVE
    aliases = (
        "torch.nn.PoissonNLLLoss, which takes a rate with log_input=False",
        "keras.losses.Poisson, which takes the rate",
        "Poisson loss",
    )
    use_when = "counts, or amounts whose variance grows with their mean"
    pitfall = "it takes the log rate: a rate in its place is silently wrong; too noisy counts suit negative_binomial"
    convex = True
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        check_same_shape(prediction, target)
        # prediction = log mu
        return mean(prediction.exp() - target * prediction)


@dataclass(frozen=True)
class NegativeBinomial(Loss):
    r"""The negative log likelihood of counts whose variance is :math:`\mu + \alpha\mu^2`.

    .. math:: \ell = \left(y + \frac{1}{\alpha}\right) \log(1 + \alpha\mu) - y \log\mu

    without the terms that no prediction changes, so that it tends to poisson_nll as the dispersion :math:`\alpha` tends
    to 0. The dispersion is not fitted: the predicted mean is right on average whatever it is, and it only says how
    little the large counts are trusted. prediction: ``[..., D]``, the logarithm of the mean :math:`\mu`; target y:
    ``[..., D]``, both in the target's original units. Returns ``[...]``: the mean over D, in nats. Raises
    `InvalidValue` if the shapes differ or dispersion is not positive.
    Reference: Lawless, Negative Binomial and Mixed Poisson Regression, 1987, https://doi.org/10.2307/3314912
    """

    family = "counts"
    tasks = ("regression",)
    space = Space.LOG_RATE
    encoding = Encoding.POSITIVE
    aliases = ("statsmodels.genmod.families.NegativeBinomial(alpha=dispersion)", "NB2", "gamma-Poisson mixture")
    use_when = "counts that vary more than Poisson's: variance far above the mean"
    pitfall = "libraries differ: r, n, theta and total_count are 1 / dispersion"
    convex = True
    bounded = False
    robust = True
    dispersion: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, dispersion=self.dispersion)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        check_same_shape(prediction, target)
        log_share = prediction + as_tensor(self.dispersion, prediction).log()
        # log(1 + alpha mu) = softplus(log mu + log alpha), which cannot overflow
        return mean((target + 1 / self.dispersion) * softplus(log_share) - target * prediction)


@dataclass(frozen=True)
class Tweedie(Loss):
    r"""Half the deviance of Tweedie's distribution: zeros, and amounts whose variance is :math:`\mu^p`.

    .. math:: \ell = y\,\frac{y^{1-p} - \mu^{1-p}}{1 - p} - \frac{y^{2-p} - \mu^{2-p}}{2 - p}

    It is 0 at :math:`\mu = y`; towards p = 1 it is half Poisson's deviance, towards 2 gamma's. prediction:
    ``[..., D]``, the logarithm of the mean :math:`\mu`; target y: ``[..., D]``, both in the target's original units.
    Returns ``[...]``: the mean over D, in units to the power 2 - p. Raises `InvalidValue` if the shapes differ or power
    is not in (1, 2).
    Reference: Jorgensen, Exponential Dispersion Models, 1987, https://doi.org/10.1111/j.2517-6161.1987.tb01685.x
    """

    family = "counts"
    tasks = ("regression",)
    space = Space.LOG_RATE
    encoding = Encoding.POSITIVE
    aliases = ("sklearn.metrics.mean_tweedie_deviance / 2", "compound Poisson-gamma", "reg:tweedie of XGBoost")
    use_when = "many exact zeros among positive amounts: claims, rain, sales"
    pitfall = (
        "power has to be guessed; the likelihood itself has no closed form, so values of two powers do not compare"
    )
    convex = True
    bounded = False
    robust = False
    power: float = 1.5

    def __post_init__(self) -> None:
        check_between(self, 1, 2, power=self.power)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        check_same_shape(prediction, target)
        low, high = 1 - self.power, 2 - self.power
        zero = target == 0
        log_target = torch.where(zero, 1.0, target).log()
        # (e^ax - e^ay) / a without the constants that cancel; at y = 0 only the mean's own term is left
        first = target * _power_difference(log_target, prediction, low)
        second = torch.where(zero, -(high * prediction).exp() / high, _power_difference(log_target, prediction, high))
        return mean(first - second)


def _power_difference(x: Tensor, y: Tensor, power: float | Tensor) -> Tensor:
    """Return (e^px - e^py) / p, which tends to x - y as the power p tends to 0."""
    # e^px - e^py = e^py (e^p(x - y) - 1), whose difference expm1 takes without losing digits
    return (power * y).exp() * (power * (x - y)).expm1() / power


@dataclass(frozen=True)
class GammaDeviance(Loss):
    r"""Half the deviance of a gamma distribution: amounts above 0 whose spread grows with their mean.

    .. math:: \ell = \frac{y}{\mu} - 1 - \log\frac{y}{\mu}

    It is 0 at :math:`\mu = y`. prediction: ``[..., D]``, the logarithm of the mean :math:`\mu`; target y: ``[..., D]``,
    both in the target's original units; a target of 0 costs infinitely much (the task refuses such targets before
    training). Returns ``[...]``: the mean over D, without units. Raises `InvalidValue` if the shapes differ.
    Reference: Nelder and Wedderburn, Generalized Linear Models, 1972, https://doi.org/10.2307/2344614
    """

    family = "counts"
    tasks = ("regression",)
    space = Space.LOG_RATE
    encoding = Encoding.ABOVE_ZERO
    aliases = ("sklearn.metrics.mean_gamma_deviance / 2", "Itakura-Saito divergence", "reg:gamma of XGBoost")
    use_when = "positive amounts whose error is a share of their size, and the mean is wanted: costs, durations"
    pitfall = "too low costs far more than too high, without bound"
    convex = True
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        check_same_shape(prediction, target)
        log_ratio = target.log() - prediction
        # y / mu - 1 - log(y / mu) with y / mu = e^log_ratio; expm1 keeps the digits near the target
        return mean(log_ratio.expm1() - log_ratio)


@dataclass(frozen=True)
class ZeroInflatedPoisson(Loss):
    r"""The negative log likelihood of counts that are 0 with a share of their own, and else Poisson's.

    .. math:: \ell = -\log(\pi + (1 - \pi) e^{-\mu}) \;\text{if}\; y = 0, \quad
        -\log(1 - \pi) + \mu - y\log\mu \;\text{otherwise}

    without the term :math:`\log y!`. prediction: ``[..., 2 D]``, D logarithms of the rate :math:`\mu` and then D logits
    of :math:`\pi`; target y: ``[..., D]`` in its original units. Its mean is :math:`(1 - \pi)\mu`. Returns ``[...]``:
    the mean over D, in nats. Raises `InvalidValue` if there are not twice as many predictions as targets.
    Reference: Lambert, Zero-Inflated Poisson Regression, with an Application to Defects in Manufacturing, 1992,
    https://doi.org/10.2307/1269547
    """

    family = "counts"
    tasks = ("regression",)
    space = Space.ZERO_INFLATED
    encoding = Encoding.POSITIVE
    head = Head.MEAN_SCALE
    aliases = ("ZIP", "statsmodels.discrete.count_model.ZeroInflatedPoisson")
    use_when = "more zeros than the other counts explain: those who never buy beside those who bought nothing"
    pitfall = "at low rates the two kinds of zero can hardly be told apart; the mean is the product of both outputs"
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        log_rate, logit = prediction.chunk(2, -1)
        check_same_shape(log_rate, target)
        rate = log_rate.exp()
        # with pi = e^a / (1 + e^a) both cases share -log(1 - pi) = log(1 + e^a)
        #   y = 0: -log(pi + (1 - pi) e^-mu) + log(1 - pi) = -log(e^a + e^-mu)
        #   y > 0: mu - y log mu
        case = torch.where(target == 0, -torch.logaddexp(logit, -rate), rate - target * log_rate)
        return mean(softplus(logit) + case)
