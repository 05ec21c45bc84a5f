"""Losses of regression: distances to the target, plain, relative, one-sided, or in direction."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import Incompatible
from lossbench.interfaces.loss import Loss, check_same_shape
from lossbench.losses.primitives import is_stacked, mean, residual
from lossbench.types import Array, Encoding, Problem, Space
from lossbench.validation import check_between, check_nonnegative, check_positive

SHORT = 1e-4
"""A prediction this much shorter than the target has no clear direction: the gradient is at most 1 / (SHORT · |y|)."""


@dataclass(frozen=True)
class MSE(Loss):
    r"""The squared error.

    .. math:: \ell(r) = r^2, \quad r = \text{prediction} - \text{target}

    prediction, target: ``[..., D]`` in the standardised target's units. Returns ``[...]``: the mean over D, in units
    squared. Raises `InvalidValue` if the shapes differ.
    Reference: Gauss, Theoria combinationis observationum erroribus minimis obnoxiae, 1823,
    https://doi.org/10.1137/1.9781611971248
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = (
        "torch.nn.MSELoss",
        "keras.losses.MeanSquaredError",
        "sklearn.metrics.mean_squared_error",
        "L2 loss",
        "squared error",
    )
    use_when = "the mean is wanted and the noise is about normal"
    pitfall = "one outlier can outweigh the rest of the batch"
    convex = True
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the squared residuals over D."""
        check_same_shape(prediction, target)
        return mean(functional.mse_loss(prediction, target, reduction="none"))


@dataclass(frozen=True)
class MAE(Loss):
    r"""The absolute error.

    .. math:: \ell(r) = |r|

    prediction, target: ``[..., D]`` in the standardised target's units. Returns ``[...]``: the mean over D.
    Raises `InvalidValue` if the shapes differ.
    Reference: Koenker and Bassett, Regression Quantiles, 1978, https://doi.org/10.2307/1913643
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = (
        "torch.nn.L1Loss",
        "keras.losses.MeanAbsoluteError",
        "sklearn.metrics.mean_absolute_error",
        "L1 loss",
        "least absolute deviations",
    )
    use_when = "the median is wanted, or many targets are wrong"
    pitfall = "the gradient does not shrink near the target, so the learning rate must"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the absolute residuals over D."""
        return mean(residual(prediction, target).abs())


@dataclass(frozen=True)
class Huber(Loss):
    r"""Quadratic within ``delta`` of the target, linear beyond.

    .. math:: \ell(r) = r^2/2 \;\text{if}\; |r| \le \delta, \quad \delta(|r| - \delta/2) \;\text{otherwise}

    prediction, target: ``[..., D]`` in the standardised target's units, as is delta. Returns ``[...]``: the mean over
    D, in units squared. Raises `InvalidValue` if the shapes differ or delta is not positive.
    Reference: Huber, Robust Estimation of a Location Parameter, 1964, https://doi.org/10.1214/aoms/1177703732
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("torch.nn.HuberLoss", "keras.losses.Huber", "delta * torch.nn.SmoothL1Loss(beta=delta)")
    use_when = "a few outliers, and errors near zero should still be squared"
    pitfall = "delta is in units of the target: tune it with the scale"
    convex = True
    bounded = False
    robust = True
    delta: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, delta=self.delta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        if not is_stacked(self.delta):  # torch's kernel is the fastest, but takes one delta only
            check_same_shape(prediction, target)
            return mean(functional.huber_loss(prediction, target, "none", self.delta))
        distance = residual(prediction, target).abs()
        # q (a - q/2) with q = min(a, delta) is both branches at once, and squares nothing that may overflow
        near = distance.clamp(max=self.delta)
        return mean(near * (distance - near / 2))


@dataclass(frozen=True)
class LogCosh(Loss):
    r"""The logarithm of the hyperbolic cosine: about :math:`r^2/2` near zero, :math:`|r| - \log 2` far away.

    .. math:: \ell(r) = \log\cosh r

    prediction, target: ``[..., D]`` in the standardised target's units. Returns ``[...]``: the mean over D.
    Raises `InvalidValue` if the shapes differ.
    Reference: Saleh and Saleh, Statistical Properties of the log-cosh Loss Function Used in Machine Learning, 2022,
    https://arxiv.org/abs/2208.04564
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("keras.losses.LogCosh", "optax.losses.log_cosh")
    use_when = "Huber's shape without a kink in the second derivative, and nothing to tune"
    pitfall = "its bend is fixed at one unit, so it depends on the target's scale"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        distance = residual(prediction, target).abs()
        # cosh r = 1 + 2 sinh^2(r/2) keeps the digits near zero; log cosh r = r + softplus(-2r) - log 2 cannot overflow
        near = (2 * (distance.clamp(max=1) / 2).sinh().square()).log1p()
        far = distance + functional.softplus(-2 * distance) - math.log(2)
        return mean(torch.where(distance < 1, near, far))


@dataclass(frozen=True)
class MSLE(Loss):
    r"""The squared difference of the logarithms of one plus the values.

    .. math:: \ell = (\log(1 + \hat y) - \log(1 + y))^2

    prediction, target: ``[..., D]`` in the target's original units, neither negative. Returns ``[...]``: the mean over
    D, without units. Raises `InvalidValue` if the shapes differ.
    Reference: scikit-learn, mean_squared_log_error,
    https://scikit-learn.org/stable/modules/model_evaluation.html#mean-squared-logarithmic-error
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.POSITIVE
    encoding = Encoding.POSITIVE
    aliases = ("sklearn.metrics.mean_squared_log_error", "keras.losses.MeanSquaredLogarithmicError")
    use_when = "targets are positive, span orders of magnitude, and ratios matter"
    pitfall = "it under-predicts the mean, and depends on the unit: below one it is plain squared error"
    convex = False
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        return mean(residual(prediction.log1p(), target.log1p()).square())


@dataclass(frozen=True)
class SmoothL1(Loss):
    r"""Quadratic within ``beta`` of the target, and linear with slope 1 beyond.

    .. math:: \ell(r) = \frac{r^2}{2\beta} \;\text{if}\; |r| < \beta, \quad |r| - \frac{\beta}{2} \;\text{otherwise}

    With beta 0 it is the absolute error; beta times it is Huber's loss with that delta. prediction, target:
    ``[..., D]`` in the standardised target's units, as is beta (of boxes: centre and log size, D = 4). Returns
    ``[...]``: the mean over D. Raises `InvalidValue` if the shapes differ or beta is negative.
    Reference: Girshick, Fast R-CNN, 2015, https://arxiv.org/abs/1504.08083
    """

    family = "regression"
    tasks = ("regression", "boxes")
    space = Space.VALUE
    encoding = Encoding.VALUE
    aliases = ("torch.nn.SmoothL1Loss, the same beta of 1 by default", "torch.nn.HuberLoss(delta=beta) / beta")
    same_as = "huber"
    use_when = "as for Huber, where the slope far away should not change with the bend"
    pitfall = "it equals Huber only at beta = delta = 1; beta is in units of the target"
    convex = True
    bounded = False
    robust = True
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        if not is_stacked(self.beta):  # torch's kernel is the fastest, but takes one beta only
            check_same_shape(prediction, target)
            return mean(functional.smooth_l1_loss(prediction, target, reduction="none", beta=self.beta))
        distance = residual(prediction, target).abs()
        near = distance.clamp(max=self.beta)
        # (a - q) + q^2 / (2 beta) with q = min(a, beta) is both branches at once; at beta = 0 any divisor will do
        return mean(distance - near + near.square() / (2 * (self.beta + (self.beta == 0))))


@dataclass(frozen=True)
class MAPE(Loss):
    r"""The absolute error as a share of the target.

    .. math:: \ell = \frac{|\hat y - y|}{|y|}

    prediction :math:`\hat y`, target y: ``[..., D]`` in the target's original units; no target may be 0, where the loss
    is infinite (the task refuses such targets before training). Returns ``[...]``: the mean over D, a share and not per
    cent. Raises `InvalidValue` if the shapes differ.
    Reference: Hyndman and Koehler, Another Look at Measures of Forecast Accuracy, 2006,
    https://doi.org/10.1016/j.ijforecast.2006.03.001
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.POSITIVE
    encoding = Encoding.ABOVE_ZERO
    aliases = ("sklearn.metrics.mean_absolute_percentage_error", "keras.losses.MeanAbsolutePercentageError / 100")
    use_when = "targets are positive, and being 10 % off costs the same whatever their size"
    pitfall = "it under-predicts: too low costs at most 1, too high has no bound, and the smallest targets rule"
    convex = True
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        return mean(residual(prediction, target).abs() / target.abs())


@dataclass(frozen=True)
class SMAPE(Loss):
    r"""The absolute error as a share of the mean of prediction and target.

    .. math:: \ell = \frac{2 |\hat y - y|}{|\hat y| + |y|}

    and 0 where both are. prediction :math:`\hat y`, target y: ``[..., D]`` in the target's original units. Returns
    ``[...]``: the mean over D, from 0 to 2 and not in per cent. Raises `InvalidValue` if the shapes differ.
    Reference: Makridakis, Accuracy Measures: Theoretical and Practical Concerns, 1993,
    https://doi.org/10.1016/0169-2070(93)90079-3
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.POSITIVE
    encoding = Encoding.POSITIVE
    aliases = ("symmetric MAPE", "torchmetrics.functional.symmetric_mean_absolute_percentage_error")
    use_when = "ratios matter, and no single example should cost more than 2"
    pitfall = "not symmetric: 10 too low costs more than 10 too high; a target of 0 costs 2 whatever is predicted"
    convex = False
    bounded = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        error, size = residual(prediction, target).abs(), prediction.abs() + target.abs()
        # where both are 0 the error is 0, and any divisor will do
        return mean(2 * error / torch.where(size > 0, size, 1.0))


def _asymmetric_weight(error: Tensor, tau: float | Tensor) -> Tensor:
    """Return the weight of each error: tau where the prediction is too low, 1 - tau where it is too high."""
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
    aliases = (
        "pinball loss",
        "sklearn.metrics.mean_pinball_loss(alpha=tau)",
        "sklearn.linear_model.QuantileRegressor(quantile=tau)",
        "check loss",
        "tilted loss",
    )
    use_when = "too low and too high cost differently, or a bound is wanted that a known share keeps"
    pitfall = "tau belongs to y - prediction: the other way round it is the opposite quantile"
    convex = True
    bounded = False
    robust = True
    tau: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        error = residual(prediction, target)
        return mean(_asymmetric_weight(error, self.tau) * error.abs())


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
    aliases = ("asymmetric least squares", "asymmetric squared error", "the value loss of implicit Q-learning")
    use_when = "too low and too high cost differently, and large errors cost more than in proportion"
    pitfall = "the tau-expectile is not the tau-quantile: at 0.9, 0.86 of normal errors lie below it and not 0.9"
    convex = True
    bounded = False
    robust = False
    tau: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, 0, 1, tau=self.tau)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        error = residual(prediction, target)
        return mean(_asymmetric_weight(error, self.tau) * error.square())


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
    aliases = ("the loss of sklearn.svm.SVR", "SGDRegressor(loss='epsilon_insensitive') of scikit-learn", "tube loss")
    use_when = "errors below a tolerance do not matter at all"
    pitfall = "no gradient within the band: wider than the noise, it leaves the predictions where they come to lie"
    convex = True
    bounded = False
    robust = True
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_nonnegative(self, epsilon=self.epsilon)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over D."""
        return mean((residual(prediction, target).abs() - self.epsilon).relu())


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    r"""Minus the cosine of the angle between prediction and target.

    .. math:: \ell = -\frac{\hat y \cdot y}{\|\hat y\| \, \|y\|}, \quad
        \|\hat y\| = \sqrt{\hat y \cdot \hat y + (10^{-4} \|y\|)^2}

    prediction :math:`\hat y`, target y: ``[..., D]`` in the target's original units, since the directions of
    standardised values are others. It makes sense for D of 2 and more: one number has a sign and no direction, so there
    is next to no gradient. Returns ``[...]``: from -1 (the same direction) to 1 (the opposite one), and 0 where either
    vector is 0. Raises `InvalidValue` if the shapes differ.
    Reference: Salton, Wong and Yang, A Vector Space Model for Automatic Indexing, 1975,
    https://doi.org/10.1145/361219.361220
    """

    family = "regression"
    tasks = ("regression",)
    space = Space.ORIGINAL
    encoding = Encoding.ORIGINAL
    aliases = (
        "keras.losses.CosineSimilarity",
        "torch.nn.CosineSimilarity, without the minus",
        "optax.losses.cosine_distance - 1",
        "cosine proximity",
    )
    use_when = "the targets of an example are one vector, of which only the direction counts"
    pitfall = (
        "learns nothing from a single target, which has no direction; and no lengths, so errors in units stay large"
    )
    convex = False
    bounded = True

    def check(self, targets: Array, problem: Problem) -> None:
        """Raise `Incompatible` for a single target, which has no direction."""
        if problem.n_outputs < 2:
            raise Incompatible(
                "cosine_similarity takes targets of at least two numbers, which have a direction. Got targets of one."
            )

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return minus the cosine over D."""
        check_same_shape(prediction, target)
        length = target.square().sum(-1, keepdim=True).sqrt()
        # a target of 0 has the cosine 0, whatever it is divided by
        length = torch.where(length > 0, length, 1.0)
        # the short extra term keeps the gradient finite at a prediction of 0
        squared = prediction.square().sum(-1, keepdim=True) + (SHORT * length).square()
        return -(prediction * squared.rsqrt() * (target / length)).sum(-1)
