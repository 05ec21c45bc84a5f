"""What the losses of classes are to each other, and where they tend to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench import registry
from lossbench.interfaces.loss import Loss
from lossbench.losses import (
    AGCE,
    ANLCE,
    AUL,
    BCE,
    LDAM,
    NLL,
    AExp,
    ArcFace,
    AsymmetricSoftmax,
    BiTempered,
    BootstrappingHard,
    BootstrappingSoft,
    Brier,
    CategoricalHinge,
    CrossEntropy,
    Dice,
    Evidential,
    Exponential,
    FocalSoftmax,
    ForwardCorrection,
    GeneralizedCrossEntropy,
    Hinge,
    Jaccard,
    JensenShannon,
    KLDivergence,
    LogitClip,
    LovaszHinge,
    MAESoftmax,
    MulticlassPerceptron,
    MultiMargin,
    NCEAndMAE,
    NCEAndRCE,
    NormalizedCrossEntropy,
    NormalizedFocal,
    Perceptron,
    PHuberCE,
    Poly1,
    Poly1BCE,
    ReverseCrossEntropy,
    SoftMargin,
    Sparsemax,
    SquaredHinge,
    SquareOnLogits,
    SquareOnMargin,
    SymmetricCrossEntropy,
    TaylorCrossEntropy,
    Tversky,
)

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
C = 4


def rows(low: float, high: float, width: int = C):
    """Batches `[B, width]` in float64."""
    number = st.floats(low, high, allow_subnormal=False)
    lists = st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=4)
    return lists.map(lambda values: torch.tensor(values, dtype=torch.float64))


LOGITS, SCORES = rows(-60, 60), rows(-5, 5)


def same(got: Tensor, wanted: Tensor, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def classes(x: Tensor) -> Tensor:
    return torch.arange(len(x)) % C


def hot(x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(classes(x), C).double()


def signs(x: Tensor) -> Tensor:
    return torch.where((torch.arange(x.numel()).view(x.shape) % 3) == 0, 1.0, -1.0).double()


def total(loss: Loss, z: Tensor) -> Tensor:
    """The sum over all possible targets."""
    return torch.stack([loss(z, torch.full((len(z),), c)) for c in range(C)]).sum(0)


SYMMETRIC = [
    (MAESoftmax(), 2 * (C - 1)),
    (ReverseCrossEntropy(), 4 * (C - 1)),
    (ReverseCrossEntropy(minus_log_zero=9.21), 9.21 * (C - 1)),
    (NormalizedCrossEntropy(), 1),
    (NormalizedFocal(), 1),
    (NormalizedFocal(gamma=3.0), 1),
    (NCEAndRCE(alpha=2.0, beta=0.5), 2 + 0.5 * 4 * (C - 1)),
    (NCEAndMAE(alpha=2.0, beta=0.5), 2 + 0.5 * 2 * (C - 1)),
    (ANLCE(alpha=2.0, beta=0.5), 2 + 0.5 * (C - 1)),
    (TaylorCrossEntropy(order=1), C - 1),
    (AUL(q=1.0), C - 1),
    (AGCE(q=1.0), C - 1),
    (GeneralizedCrossEntropy(q=1.0), C - 1),
]


@pytest.mark.parametrize(("loss", "constant"), SYMMETRIC, ids=lambda x: type(x).__name__)
@EXAMPLES
@given(z=LOGITS)
def test_the_sum_over_all_targets_is_constant(loss, constant, z):
    same(total(loss, z), torch.full((len(z),), float(constant), dtype=torch.float64))


ASYMMETRIC = [
    CrossEntropy(),
    GeneralizedCrossEntropy(),
    SymmetricCrossEntropy(),
    FocalSoftmax(),
    BiTempered(),
    TaylorCrossEntropy(order=2),
    PHuberCE(),
    JensenShannon(),
    AGCE(),
    AUL(),
    AExp(),
]


@pytest.mark.parametrize("loss", ASYMMETRIC, ids=lambda x: type(x).__name__)
def test_the_sum_over_all_targets_is_not_constant(loss):
    even, sure = total(loss, torch.tensor([[0.0] * C, [5.0, 0.0, 0.0, 0.0]], dtype=torch.float64))
    assert (even - sure).abs() > 1e-2


CROSS_ENTROPY = [
    (BootstrappingSoft(beta=1.0), 1e-10),
    (BootstrappingHard(beta=1.0), 1e-10),
    (BiTempered(t1=1.0, t2=1.0), 1e-10),
    (BiTempered(t1=1 - 1e-9, t2=1 + 1e-9), 1e-5),
    (ForwardCorrection(noise=0.0), 1e-10),
    (ForwardCorrection(transition=tuple(map(tuple, torch.eye(C).tolist()))), 1e-10),
    (LogitClip(tau=1e9), 1e-10),
    (PHuberCE(tau=1e200), 1e-10),
    (FocalSoftmax(gamma=0.0), 1e-10),
    (Poly1(epsilon=0.0), 1e-10),
    (SymmetricCrossEntropy(alpha=1.0, beta=0.0), 1e-10),
    (GeneralizedCrossEntropy(q=1e-9), 1e-6),
]


@pytest.mark.parametrize(("loss", "rtol"), CROSS_ENTROPY, ids=lambda x: type(x).__name__)
@EXAMPLES
@given(z=LOGITS)
def test_at_this_limit_it_is_cross_entropy(loss, rtol, z):
    same(loss(z, classes(z)), CrossEntropy()(z, classes(z)), rtol=rtol)


@EXAMPLES
@given(SCORES)
def test_limits_that_are_approached_slowly(z):
    y, nll = classes(z), CrossEntropy()(z, classes(z))
    # the rest of the series is below (1 - p)^n / (n p), and p is above e^-11.4 here
    same(TaylorCrossEntropy(order=3000)(z / 2, y), CrossEntropy()(z / 2, y), rtol=1e-6)
    # by their definitions, the next terms are of the order of pi log p and of 1 / log(1 - pi)
    same(JensenShannon(pi=1e-7)(z, y), nll, rtol=1e-2, atol=1e-6)
    same(JensenShannon(pi=1 - 1e-13)(z, y), MAESoftmax()(z, y) / 2, rtol=0, atol=0.04)


@EXAMPLES
@given(LOGITS)
def test_nll_and_kl_divergence_are_cross_entropy_after_its_softmax(z):
    logs = z.log_softmax(-1)
    same(NLL()(logs, classes(z)), CrossEntropy()(z, classes(z)))
    same(KLDivergence()(logs, hot(z)), CrossEntropy()(z, classes(z)))
    same(KLDivergence()(logs, logs.exp()), torch.zeros(len(z), dtype=torch.float64), atol=1e-12)


@EXAMPLES
@given(rows(-20, 20))
def test_kl_divergence_of_soft_targets_has_the_gradient_of_the_cross_entropy(z):
    soft = (z.flip(-1) / 4).softmax(-1)
    logits = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(KLDivergence()(logits.log_softmax(-1), soft).sum(), logits)
    same(gradient, z.softmax(-1) - soft)


@EXAMPLES
@given(LOGITS)
def test_losses_of_the_error_alone(z):
    y, error = classes(z), MAESoftmax()(z, classes(z)) / 2
    same(ReverseCrossEntropy(minus_log_zero=3.0)(z, y), 3 * error)
    same(SymmetricCrossEntropy(alpha=0.0, beta=2.0)(z, y), 2 * ReverseCrossEntropy()(z, y))
    same(TaylorCrossEntropy(order=1)(z, y), error)
    same(GeneralizedCrossEntropy(q=1.0)(z, y), error)
    same(AUL(q=1.0)(z, y), error)
    same(AGCE(q=1.0)(z, y), error)
    same(AGCE(a=1e-300, q=0.7)(z, y), GeneralizedCrossEntropy(q=0.7)(z, y))
    same(PHuberCE(tau=1.0)(z, y), error)
    # of absolute values: between one-hot and softmax
    same(2 * error, (z.softmax(-1) - hot(z)).abs().sum(-1))


@EXAMPLES
@given(LOGITS, st.floats(0.1, 3))
def test_sums_of_others(z, weight):
    y = classes(z)
    poly = Poly1(epsilon=4 * weight)(z, y)
    same(SymmetricCrossEntropy(alpha=1.0, beta=weight)(z, y), poly)
    same(poly, CrossEntropy()(z, y) + weight * ReverseCrossEntropy()(z, y))
    active = NormalizedCrossEntropy()(z, y)
    same(NCEAndRCE(alpha=weight, beta=0.0)(z, y), weight * active)
    same(NCEAndRCE(alpha=0.0, beta=weight)(z, y), weight * ReverseCrossEntropy()(z, y))
    same(NCEAndMAE(alpha=1.0, beta=weight)(z, y), NCEAndRCE(alpha=1.0, beta=weight, minus_log_zero=2.0)(z, y))
    same(ANLCE(alpha=weight, beta=0.0)(z, y), weight * active)
    same(NormalizedFocal(gamma=0.0)(z, y), active)


@EXAMPLES
@given(LOGITS, st.floats(0, 5), st.floats(0, 1))
def test_asymmetric_softmax_is_focal_or_smoothed(z, gamma, smoothing):
    y = classes(z)
    focal = AsymmetricSoftmax(gamma_pos=gamma, gamma_neg=3.0, label_smoothing=0.0)
    same(focal(z, y), FocalSoftmax(gamma=gamma)(z, y))
    smoothed = AsymmetricSoftmax(gamma_pos=0.0, gamma_neg=0.0, label_smoothing=smoothing)
    same(smoothed(z, y), CrossEntropy(label_smoothing=smoothing)(z, y))


@EXAMPLES
@given(LOGITS, st.floats(1.001, 50))
def test_orders(z, tau):
    y, nll = classes(z), CrossEntropy()(z, classes(z))
    assert (FocalSoftmax(gamma=3.0)(z, y) <= FocalSoftmax(gamma=1.0)(z, y) + 1e-12).all()
    assert (TaylorCrossEntropy(order=3)(z, y) <= nll + 1e-12).all()
    # a line that touches the convex -log p
    assert (PHuberCE(tau=tau)(z, y) <= nll + 1e-12).all()
    assert (BiTempered(t1=0.5)(z, y) <= 2 + 1e-12).all()
    assert (Sparsemax()(z, y) >= -1e-12).all()
    assert (Sparsemax()(z, y) <= CategoricalHinge(margin=1.0)(z, y) + 1e-12).all()
    assert (MulticlassPerceptron()(z, y) <= CategoricalHinge()(z, y) + 1e-12).all()
    assert (CategoricalHinge()(z, y) <= C * MultiMargin()(z, y) + 1e-9).all()


@EXAMPLES
@given(LOGITS, st.floats(-100, 100))
def test_a_shift_of_the_scores_is_not_seen(z, shift):
    exempt = {"logit_clip", "square_on_logits"}  # which look at the logits themselves
    unseeing = (NLL, LDAM, ArcFace, Evidential, KLDivergence, Brier)  # which take something else, or more
    for name in registry.losses.names("multiclass"):
        kind = registry.losses.find(name)
        if name in exempt or kind.__module__.split(".")[0] != "lossbench" or kind in unseeing or kind.requires:
            continue
        if not registry.list_required(kind):
            loss = kind()
            same(loss(z + shift, classes(z)), loss(z, classes(z)), rtol=1e-8, atol=1e-9)


@EXAMPLES
@given(rows(-60, 60, 2))
def test_of_two_classes_they_are_binary_ones(z):
    # the log-odds of class 1
    y, s = torch.arange(len(z)) % 2, z[:, 1:] - z[:, :1]
    signed = (2 * y[:, None] - 1).double()
    same(CategoricalHinge()(z, y), Hinge()(s, signed), atol=1e-11)
    same(MulticlassPerceptron()(z, y), Perceptron()(s, signed), atol=1e-11)
    same(Poly1(epsilon=1.0)(z, y), Poly1BCE(epsilon=1.0)(s, y[:, None].double()), atol=1e-11)
    same(CrossEntropy()(z, y), SoftMargin()(s, signed), atol=1e-11)
    # Martins and Astudillo 2016, section 3.2: 0 from a margin of 1, (1 - y s)^2 / 4 above -1, -y s below
    m = (signed * s).squeeze(-1)
    huber = torch.where(m >= 1, 0, torch.where(m > -1, (1 - m) ** 2 / 4, -m))
    same(Sparsemax()(z, y), huber, atol=1e-10)


@EXAMPLES
@given(LOGITS)
def test_of_signed_targets(s):
    y = signs(s)
    same(SoftMargin()(s, y), BCE()(s, (y + 1) / 2))
    same(Poly1BCE(epsilon=0.0)(s, (y + 1) / 2), BCE()(s, (y + 1) / 2))
    same(SquaredHinge()(s[:, :1], y[:, :1]), Hinge()(s[:, :1], y[:, :1]) ** 2)
    assert (Perceptron()(s, y) <= Hinge()(s, y)).all()
    # all bound the share of wrong signs
    wrong = (y * s < 0).double().mean(-1)
    for loss in (Hinge(), SquaredHinge(), Exponential()):
        assert (loss(s, y) >= wrong).all()


@EXAMPLES
@given(SCORES)
def test_exponential_is_what_its_name_says_below_its_limit(s):
    same(Exponential()(s, signs(s)), (-signs(s) * s).exp().mean(-1))


@EXAMPLES
@given(SCORES)
def test_square_on_logits_is_brier_without_the_softmax(z):
    same(SquareOnLogits()(z, hot(z)), Brier()(z, hot(z)) / C)
    # and on a margin it is the squared hinge of both signs
    y = signs(z)
    same(SquareOnMargin()(z, y), SquaredHinge()(z, y) + SquaredHinge()(2 - y * z, torch.ones_like(y)))


@EXAMPLES
@given(rows(0, 1), st.floats(1e-3, 10))
def test_overlaps(p, smooth):
    y = (p.flip(-1) > 0.5).double()
    same(Tversky(alpha=0.5, beta=0.5, smooth=smooth / 2)(p, y), Dice(smooth=smooth)(p, y))
    same(Tversky(alpha=1.0, beta=1.0, smooth=smooth)(p, y), Jaccard(smooth=smooth)(p, y))
    same(Tversky(alpha=0.2, beta=0.9, smooth=smooth)(p, y), Tversky(alpha=0.9, beta=0.2, smooth=smooth)(y, p))
    # J = D / (2 - D) of the coefficients, label by label
    one, other = p[:, :1], y[:, :1]
    dice = 1 - Dice(smooth=1e-12)(one, other)
    same(1 - Jaccard(smooth=5e-13)(one, other), dice / (2 - dice), atol=1e-9)
    assert (Jaccard(smooth=smooth)(p, y) >= Dice(smooth=smooth)(p, y) - 1e-12).all()


@EXAMPLES
@given(rows(-20, 20, 1))
def test_lovasz_hinge_of_one_example_is_hinge(s):
    y = torch.ones(1, 1, dtype=torch.float64)
    for sign in (y, -y):
        same(LovaszHinge()(s[:1], sign), Hinge()(s[:1], sign).squeeze(-1))


@EXAMPLES
@given(rows(-1, 1), st.floats(0.5, 100))
def test_ldam_without_margin_is_cross_entropy_on_scaled_cosines(cosines, scale):
    counts = torch.tensor([[100.0, 10, 5, 1]])
    got = LDAM(scale=scale, max_margin=0.0)(16 * cosines, classes(cosines), class_counts=counts)
    same(got, CrossEntropy()(scale * cosines, classes(cosines)))
    thirty = LDAM(max_margin=0.0, head_scale=1.0)(cosines, classes(cosines), class_counts=counts)
    same(thirty, CrossEntropy()(30 * cosines, classes(cosines)))


@EXAMPLES
@given(rows(-1, 1))
def test_a_margin_makes_ldam_larger_and_most_for_the_rarest(cosines):
    counts = torch.tensor([[100.0, 10, 5, 1]], dtype=torch.float64)
    y = classes(cosines)
    plain = LDAM(max_margin=0.0)(16 * cosines, y, class_counts=counts)
    assert (LDAM()(16 * cosines, y, class_counts=counts) >= plain).all()
    # equal counts: one margin for all, as in the additive margin softmax
    even = LDAM(max_margin=0.3)(16 * cosines, y, class_counts=torch.ones(1, C, dtype=torch.float64))
    same(even, CrossEntropy()(30 * (cosines - 0.3 * hot(cosines)), y))


@EXAMPLES
@given(LOGITS)
def test_evidential_without_its_divergence_lies_below_two(z):
    losses = Evidential(kl=0.0)(z, hot(z), progress=1.0)
    assert (losses <= 2 + 1e-12).all()
    same(losses, Evidential()(z, hot(z), progress=0.0))
    assert (Evidential()(z, hot(z), progress=1.0) >= losses - 1e-9).all()
