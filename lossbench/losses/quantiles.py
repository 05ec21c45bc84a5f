"""Losses that lean to one side, or leave a band free."""

from dataclasses import dataclass

from torch import Tensor

from lossbench.interfaces.loss import Loss
from lossbench.losses.terms import mean, residual
from lossbench.types import Encoding, Space
from lossbench.validation import check_between, check_nonnegative


def _lean(error: Tensor, tau: float | Tensor) -> Tensor:
    """The weight of each error: tau where the prediction is too low, 1 - tau where it is too high."""
    low = (error < 0).to(error.dtype)
    return low * tau + (1 - low) * (1 - tau)


@dataclass(frozen=True)
class Quantile(Loss):
    r"""The pinball loss, least at the ``tau``-quantile of the target.

    .. math:: \ell = \tau \max(y - \hat y, 0) + (1 - \tau) \max(\hat y - y, 0)

    prediction :math:`\hat y`, target y: ``[..., D]`` in the standardised target's units. Returns ``[...]``: the mean
    over D, in units; at tau 1/2 half the absolute error. Raises `InvalidValue` if the shapes differ or tau is not in
    (0, 1).
    Reference: Koenker and Bassett, Regression Quantiles, 1978, https://doi.org/10.2307/1913643
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    known_as = (
        "pinball loss",
        "sklearn.metrics.mean_pinball_loss(alpha=tau)",
        "sklearn.linear_model.QuantileRegressor(quantile=tau)",
        "check loss",
        "tilted loss",
    )
    use_when = "too low and too high cost differently, or a bound is wanted that a known share keeps"
    beware = "tau belongs to y - prediction: the other way round it is the opposite quantile"
    convex = True
    bounded = False
    robust = True
    tau: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        error = residual(prediction, target)
        return mean(_lean(error, self.tau) * error.abs())


@dataclass(frozen=True)
class Expectile(Loss):
    r"""The squared error with a weight for each side, least at the ``tau``-expectile of the target.

    .. math:: \ell = \tau \max(y - \hat y, 0)^2 + (1 - \tau) \max(\hat y - y, 0)^2

    prediction :math:`\hat y`, target y: ``[..., D]`` in the standardised target's units. Returns ``[...]``: the mean
    over D, in units squared; at tau 1/2 half the squared error. Raises `InvalidValue` if the shapes differ or tau is
    not in (0, 1).
    Reference: Newey and Powell, Asymmetric Least Squares Estimation and Testing, 1987, https://doi.org/10.2307/1911031
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    known_as = ("asymmetric least squares", "asymmetric squared error", "the value loss of implicit Q-learning")
    use_when = "too low and too high cost differently, and large errors cost more than in proportion"
    beware = "the tau-expectile is not the tau-quantile: at 0.9, 0.86 of normal errors lie below it and not 0.9"
    convex = True
    bounded = False
    robust = False
    tau: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        error = residual(prediction, target)
        return mean(_lean(error, self.tau) * error.square())


@dataclass(frozen=True)
class EpsilonInsensitive(Loss):
    r"""The absolute error beyond a band of ``epsilon`` about the target; nothing within.

    .. math:: \ell(r) = \max(|r| - \epsilon, 0)

    prediction, target: ``[..., D]`` in the standardised target's units, as is epsilon. Returns ``[...]``: the mean over
    D, in units. Raises `InvalidValue` if the shapes differ or epsilon is negative.
    Reference: Vapnik, The Nature of Statistical Learning Theory, 1995, https://doi.org/10.1007/978-1-4757-2440-0
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    known_as = ("the loss of sklearn.svm.SVR", "SGDRegressor(loss='epsilon_insensitive') of scikit-learn", "tube loss")
    use_when = "errors below a tolerance do not matter at all"
    beware = "no gradient within the band: wider than the noise, it leaves the predictions where they come to lie"
    convex = True
    bounded = False
    robust = True
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_nonnegative(self, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        return mean((residual(prediction, target).abs() - self.epsilon).relu())
