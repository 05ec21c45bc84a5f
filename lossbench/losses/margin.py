"""Losses on margins: zero where the right answer leads by enough."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss, check_index_shape, check_same_shape
from lossbench.losses.primitives import mean, pick_target
from lossbench.types import Encoding, Space
from lossbench.validation import check_at_most, check_count, check_positive

HIGHEST = 80.0
"""The largest exponent of an exponential loss: float32 holds exp(88)."""


@dataclass(frozen=True)
class Hinge(Loss):
    r"""The amount by which a score falls short of a margin of one.

    .. math:: \ell(s, y) = \max(0, 1 - y s)

    prediction, target: ``[..., L]``, scores and -1 or 1. Returns ``[...]``: the mean over L.
    Raises `InvalidValue` if the shapes differ.
    Reference: Cortes and Vapnik, Support-Vector Networks, 1995, https://doi.org/10.1007/BF00994018
    """

    family = "margin"
    tasks = ("binary", "multilabel")
    space = Space.SCORE
    encoding = Encoding.SIGNED
    aliases = (
        "keras.losses.Hinge, which takes 0 for -1",
        "sklearn.metrics.hinge_loss, of two labels of any name",
        "support vector machine loss",
    )
    use_when = "only the decision matters, not its probability"
    pitfall = "scores are no log odds: a probability made of them is not calibrated. Targets are -1 and 1, never 0"
    convex = True
    bounded = False
    robust = True
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        return mean((1 - target * prediction).relu())


@dataclass(frozen=True)
class MultiMargin(Loss):
    r"""The amounts by which the target's score fails to lead each other class by the margin (Weston and Watkins).

    .. math:: \ell(z, y) = \frac{1}{C}\sum_{c \ne y}\max(0, m - z_y + z_c)^p

    The sum is divided by C, not by C - 1, as torch does.

    prediction: ``[..., C]`` scores; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit, p is neither 1 nor 2, or margin is not positive.
    Reference: Weston and Watkins, Support Vector Machines for Multi-Class Pattern Recognition, 1999,
    https://www.esann.org/sites/default/files/proceedings/legacy/es1999-461.pdf
    """

    family = "margin"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("torch.nn.MultiMarginLoss, the same p and margin by default", "Weston-Watkins hinge")
    use_when = "only the decision between classes matters, not its probability"
    pitfall = "keras' and optax's multiclass hinge is another: the worst class (Crammer and Singer), not the sum"
    convex = True
    bounded = False
    symmetric = False
    p: int = 1
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_count(self, p=self.p)
        if self.p > 2:
            raise InvalidValue(f"The 'p' parameter of MultiMargin must be 1 or 2. Got {self.p!r} instead.")
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_index_shape(prediction, target)
        index = target.long().unsqueeze(-1)
        # m - z_y + z_c; the target itself becomes -inf, which costs nothing
        allowed = prediction.gather(-1, index) - self.margin  # [..., 1], the highest score of a rival that is free
        excess = (prediction.scatter(-1, index, -torch.inf) - allowed).relu()  # [..., C]
        return mean(excess if self.p == 1 else excess.square())


@dataclass(frozen=True)
class SquaredHinge(Loss):
    r"""The square of the amount by which a score falls short of a margin of one.

    .. math:: \ell(s, y) = \max(0, 1 - y s)^2

    prediction, target: ``[..., L]``, scores and -1 or 1. Returns ``[...]``: the mean over L.
    Raises `InvalidValue` if the shapes differ.
    Reference: Lee and Mangasarian, SSVM: A Smooth Support Vector Machine for Classification, 2001,
    https://doi.org/10.1023/A:1011215321374
    """

    family = "margin"
    tasks = ("binary", "multilabel")
    space = Space.SCORE
    encoding = Encoding.SIGNED
    aliases = (
        "keras.losses.SquaredHinge, which takes 0 for -1",
        "sklearn.svm.LinearSVC (its default), times C and summed",
        "L2-SVM loss",
    )
    use_when = "as hinge, with a gradient that grows with the error and no kink at the margin"
    pitfall = "one badly wrong label costs the square of its score, more than in hinge or bce"
    convex = True
    bounded = False
    robust = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        return mean((1 - target * prediction).relu().square())


@dataclass(frozen=True)
class SquareOnMargin(Loss):
    r"""Regression of the score itself on the sign of its target, without a sigmoid.

    .. math:: \ell(s, y) = (y - s)^2 = (1 - y s)^2

    `square_on_logits` for one score per decision. prediction, target: ``[..., L]``, scores and -1 or 1. Returns
    ``[...]``: the mean over L. Raises `InvalidValue` if the shapes differ.
    Reference: Suykens and Vandewalle, Least Squares Support Vector Machine Classifiers, 1999,
    https://doi.org/10.1023/A:1018628609742
    """

    family = "margin"
    tasks = ("binary", "multilabel")
    space = Space.SCORE
    encoding = Encoding.SIGNED
    aliases = ("sklearn.linear_model.RidgeClassifier", "LS-SVM loss", "torch.nn.MSELoss on -1 and 1")
    use_when = "as an alternative to bce whose gradient does not saturate"
    pitfall = "being too right costs as much as being wrong: a score of 3 for 1 as much as one of -1"
    convex = True
    bounded = False
    robust = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        return mean((prediction - target).square())


@dataclass(frozen=True)
class CategoricalHinge(Loss):
    r"""The amount by which the target's score fails to lead the best other class by the margin (Crammer and Singer).

    .. math:: \ell(z, y) = \max(0, m - z_y + \max_{c \ne y} z_c)

    prediction: ``[..., C]`` scores; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit or margin is not positive.
    Reference: Crammer and Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, 2001,
    https://www.jmlr.org/papers/v2/crammer01a.html
    """

    family = "margin"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("optax.losses.multiclass_hinge_loss", "sklearn.metrics.hinge_loss of classes", "Crammer-Singer hinge")
    use_when = "only the decision counts, and only the strongest rival should be pushed back"
    pitfall = "keras.losses.CategoricalHinge counts a rival of score 0 too; multi_margin is the sum over all rivals"
    convex = True
    bounded = False
    symmetric = False
    margin: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, margin=self.margin)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        check_index_shape(prediction, target)
        index = target.long().unsqueeze(-1)
        # the highest score but the target's, [..., 1]
        rival = prediction.scatter(-1, index, -torch.inf).amax(-1, keepdim=True)
        return (self.margin - prediction.gather(-1, index) + rival).relu().squeeze(-1)


@dataclass(frozen=True)
class SoftMargin(Loss):
    r"""The logistic loss on a signed target: exactly what `bce` is.

    .. math:: \ell(s, y) = \log\left(1 + e^{-y s}\right)

    prediction, target: ``[..., L]``, log-odds and -1 or 1. Returns ``[...]``: the mean over L, in nats.
    Raises `InvalidValue` if the shapes differ.
    Reference: Friedman, Hastie and Tibshirani, Additive Logistic Regression: A Statistical View of Boosting, 2000,
    https://doi.org/10.1214/aos/1016218223
    """

    family = "margin"
    tasks = ("binary",)
    space = Space.LOGIT
    encoding = Encoding.SIGNED
    aliases = ("torch.nn.SoftMarginLoss", "optax.losses.sigmoid_binary_cross_entropy", "logistic loss", "bce")
    same_as = "bce"
    use_when = "targets are -1 and 1 in your own script; otherwise use bce, which it is"
    pitfall = "comparing it with bce compares a loss with itself"
    convex = True
    bounded = False
    robust = True
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        # log(1 + e^-x) = -log sigmoid(x)
        return -mean(functional.logsigmoid(target * prediction))


@dataclass(frozen=True)
class Exponential(Loss):
    r"""The loss that AdaBoost minimises, a straight line from exponent M on.

    .. math:: \ell(s, y) = e^{\min(-y s, M)}\,(1 + \max(0, -y s - M))

    The exponent is clamped at M (limit) so that nothing overflows; the line that goes on from there keeps the gradient
    (:math:`e^M` in size), which a plain clamp would set to 0 for what is most wrong.

    prediction, target: ``[..., L]``, scores and -1 or 1. Returns ``[...]``: the mean over L. Raises `InvalidValue` if
    the shapes differ or limit is not positive.
    Reference: Friedman, Hastie and Tibshirani, Additive Logistic Regression: A Statistical View of Boosting, 2000,
    https://doi.org/10.1214/aos/1016218223
    """

    family = "margin"
    tasks = ("binary",)
    space = Space.SCORE
    encoding = Encoding.SIGNED
    aliases = ("AdaBoost's loss", "exponential loss")
    use_when = "labels are clean, and boosting's loss is to be compared"
    pitfall = "wrong labels and outliers rule it. A score is half of the log-odds: sigmoid(2 s), not sigmoid(s)"
    convex = True
    bounded = False
    symmetric = False
    limit: float = 10.0

    def __post_init__(self) -> None:
        check_positive(self, limit=self.limit)
        check_at_most(self, HIGHEST, limit=self.limit)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        exponent = -target * prediction
        # one of the two factors is constant: 1 below the limit, e^M above, where the line has the slope e^M
        return mean(exponent.clamp(max=self.limit).exp() * (1 + (exponent - self.limit).relu()))


@dataclass(frozen=True)
class Perceptron(Loss):
    r"""The distance of a score from zero where it lies on the wrong side.

    .. math:: \ell(s, y) = \max(0, -y s)

    prediction, target: ``[..., L]``, scores and -1 or 1. Returns ``[...]``: the mean over L.
    Raises `InvalidValue` if the shapes differ.
    Reference: Rosenblatt, The Perceptron, 1958, https://doi.org/10.1037/h0042519
    """

    family = "margin"
    tasks = ("binary",)
    space = Space.SCORE
    encoding = Encoding.SIGNED
    aliases = ("optax.losses.perceptron_loss", "sklearn.linear_model.Perceptron", "hinge with margin 0")
    use_when = "as the simplest baseline of the margin losses"
    pitfall = "scores of 0 cost nothing: it may shrink them instead of separating, and from zero weights it never moves"
    convex = True
    bounded = False
    robust = True
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over L."""
        check_same_shape(prediction, target)
        return mean((-target * prediction).relu())


@dataclass(frozen=True)
class MulticlassPerceptron(Loss):
    r"""The amount by which the highest score exceeds the target's.

    .. math:: \ell(z, y) = \max_c z_c - z_y

    prediction: ``[..., C]`` scores; target: ``[...]`` class indices. Returns ``[...]``. Raises `InvalidValue` if the
    shapes do not fit.
    Reference: Collins, Discriminative Training Methods for Hidden Markov Models: Theory and Experiments with Perceptron
    Algorithms, 2002, https://doi.org/10.3115/1118693.1118694
    """

    family = "margin"
    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    aliases = ("optax.losses.multiclass_perceptron_loss", "categorical_hinge with margin 0", "structured perceptron")
    use_when = "as the simplest baseline of the multiclass margin losses"
    pitfall = "equal scores cost nothing, so it asks for no lead at all: expect less than from categorical_hinge"
    convex = True
    bounded = False
    symmetric = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per example."""
        target_score = pick_target(prediction, target)
        # not relu of the lead over the others: its gradient would be 0 where all scores are equal
        return (prediction.amax(-1, keepdim=True) - target_score).squeeze(-1)
