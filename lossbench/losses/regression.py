"""Losses on values: distances, robust ones, and likelihoods."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.loss import Loss, same_shape
from lossbench.losses.terms import barron, mean, residual, stacked, standardised
from lossbench.types import Encoding, Head, Need, Problem, Space
from lossbench.validation import check_nonnegative, check_positive


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
    known_as = (
        "torch.nn.MSELoss",
        "keras.losses.MeanSquaredError",
        "sklearn.metrics.mean_squared_error",
        "L2 loss",
        "squared error",
    )
    use_when = "the mean is wanted and the noise is about normal"
    beware = "one outlier can outweigh the rest of the batch"
    convex = True
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean of the squared residuals over D."""
        same_shape(prediction, target)
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
    known_as = (
        "torch.nn.L1Loss",
        "keras.losses.MeanAbsoluteError",
        "sklearn.metrics.mean_absolute_error",
        "L1 loss",
        "least absolute deviations",
    )
    use_when = "the median is wanted, or many targets are wrong"
    beware = "the gradient does not shrink near the target, so the learning rate must"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean of the absolute residuals over D."""
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
    known_as = ("torch.nn.HuberLoss", "keras.losses.Huber", "delta * torch.nn.SmoothL1Loss(beta=delta)")
    use_when = "a few outliers, and errors near zero should still be squared"
    beware = "delta is in units of the target: tune it with the scale"
    convex = True
    bounded = False
    robust = True
    delta: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, delta=self.delta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        if not stacked(self.delta):
            same_shape(prediction, target)
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
    known_as = ("keras.losses.LogCosh", "optax.losses.log_cosh")
    use_when = "Huber's shape without a kink in the second derivative, and nothing to tune"
    beware = "its bend is fixed at one unit, so it depends on the target's scale"
    convex = True
    bounded = False
    robust = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
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
    known_as = ("sklearn.metrics.mean_squared_log_error", "keras.losses.MeanSquaredLogarithmicError")
    use_when = "targets are positive, span orders of magnitude, and ratios matter"
    beware = "it under-predicts the mean, and depends on the unit: below one it is plain squared error"
    convex = False
    bounded = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        return mean(residual(prediction.log1p(), target.log1p()).square())


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
    needs = (Need.RESIDUAL_SCALE,)
    known_as = ("statsmodels.robust.norms.TukeyBiweight", "biweight", "bisquare")
    use_when = "gross outliers that should have no pull at all"
    beware = "no gradient beyond c times the scale: a bad start or a wrong scale stops the learning"
    convex = False
    bounded = True
    robust = True
    c: float = 4.685

    def __post_init__(self) -> None:
        check_positive(self, c=self.c)

    def __call__(self, prediction: Tensor, target: Tensor, *, residual_scale: Tensor) -> Tensor:
        """The mean over D."""
        bound = self.c * residual_scale
        share = (residual(prediction, target) / bound).square().clamp(max=1)
        # 1 - (1 - u)^3 multiplied out, which keeps the digits of a small u
        return mean(bound.square() / 6 * share * (3 - 3 * share + share.square()))


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
    known_as = (
        "torch.nn.GaussianNLLLoss(full=True), which takes the variance; by default without log(2 pi) / 2",
        "heteroscedastic regression",
    )
    use_when = "the noise differs between examples, or an error bar is wanted with each prediction"
    beware = "where it fits exactly the scale runs to zero and the gradient grows without bound: clip it"
    bounded = False
    robust = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        z, log_scale = standardised(prediction, target)
        return mean(z.square() / 2 + log_scale + math.log(2 * math.pi) / 2)


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
    needs = (Need.PARAMETERS,)
    known_as = ("robust_loss_pytorch.AdaptiveLossFunction", "general adaptive robust loss")
    use_when = "it is not known how heavy the tails of the noise are, or they differ between outputs"
    beware = "its values are log likelihoods: below zero is possible, and they compare with no other loss"

    def parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """One shape and one scale per output, `[1, D]`; nothing is drawn."""
        return {name: torch.zeros(1, problem.n_outputs) for name in ("alpha_logit", "log_scale")}

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: dict[str, Tensor]) -> Tensor:
        """The mean over D."""
        log_scale = parameters["log_scale"]
        alpha = 0.001 + 1.998 * parameters["alpha_logit"].sigmoid()
        distance = barron(residual(prediction, target) * (-log_scale).exp(), alpha)
        return mean(distance + log_scale + barron_log_partition(alpha))


def barron_log_partition(alpha: Tensor, n: int = 160, step: float = 0.175) -> Tensor:
    r"""The logarithm of :math:`\int e^{-\rho_\alpha(x)} dx` for alpha in (0, 2), differentiable.

    With :math:`x = \sqrt{2 - \alpha}\,\sinh t` the loss is :math:`(2 - \alpha)/\alpha\,(\cosh^\alpha t - 1)`: analytic
    and falling within :math:`\pi/4` of the real axis, so the trapezoid rule converges exponentially and this step
    leaves 1e-12. So does the end at t = 28: the heaviest tail (alpha to 0) falls as :math:`e^{-t}`.
    """
    t = torch.arange(n, dtype=alpha.dtype, device=alpha.device).view(-1, *(1,) * alpha.dim()) * step
    log_cosh = t + functional.softplus(-2 * t) - math.log(2)
    b = 2 - alpha
    log_terms = log_cosh - b / alpha * (alpha * log_cosh).expm1()
    # the integrand is even: both halves share the term at t = 0, which is 1
    both = torch.logsumexp(torch.cat([log_terms[:1] - math.log(2), log_terms[1:]]), 0) + math.log(2 * step)
    return both + b.log() / 2


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
    known_as = ("torch.nn.SmoothL1Loss, the same beta of 1 by default", "torch.nn.HuberLoss(delta=beta) / beta")
    same_as = "huber"
    use_when = "as for Huber, where the slope far away should not change with the bend"
    beware = "it equals Huber only at beta = delta = 1; beta is in units of the target"
    convex = True
    bounded = False
    robust = True
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative(self, beta=self.beta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over D."""
        if not stacked(self.beta):
            same_shape(prediction, target)
            return mean(functional.smooth_l1_loss(prediction, target, reduction="none", beta=self.beta))
        distance = residual(prediction, target).abs()
        near = distance.clamp(max=self.beta)
        # at beta = 0 nothing is near, and any divisor does
        return mean(distance - near + near.square() / (2 * (self.beta + (self.beta == 0))))
