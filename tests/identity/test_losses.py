"""What the losses are to each other, and where they tend to."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench.losses import (
    BCE,
    ELR,
    MAE,
    MSE,
    MSLE,
    ArcFace,
    BarronAdaptive,
    Brier,
    CrossEntropy,
    Dice,
    External,
    Focal,
    GaussianNLL,
    GeneralizedCrossEntropy,
    Hinge,
    Huber,
    LogCosh,
    LogitAdjusted,
    MultiMargin,
    Tukey,
)
from lossbench.losses.robust import barron, barron_log_partition

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
C = 4


def rows(low: float, high: float, width: int = C):
    """Batches `[B, width]` in float64."""
    number = st.floats(low, high, allow_subnormal=False)
    lists = st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=4)
    return lists.map(lambda values: torch.tensor(values, dtype=torch.float64))


RESIDUALS, LOGITS = rows(-1e4, 1e4), rows(-60, 60)
SCALE = torch.ones(1, C, dtype=torch.float64)


def same(got: Tensor, wanted: Tensor, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def classes(x: Tensor) -> Tensor:
    return torch.arange(len(x)) % C


def hot(x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(classes(x), C).double()


@EXAMPLES
@given(RESIDUALS)
def test_regression_limits(r):
    same(Huber(delta=1e9)(r, zero(r)), MSE()(r, zero(r)) / 2)
    same(Huber(delta=1e-9)(r, zero(r)) / 1e-9, MAE()(r, zero(r)), atol=1e-8)
    same(Tukey(c=1e9)(r, zero(r), residual_scale=SCALE), MSE()(r, zero(r)) / 2, rtol=1e-6)
    # log cosh lies below |r| and r^2 / 2, and above |r| - log 2
    log_cosh = LogCosh()(r, zero(r))
    rounding = 1e-12 * (1 + log_cosh)
    assert (log_cosh <= MAE()(r, zero(r)) + rounding).all()
    assert (log_cosh <= MSE()(r, zero(r)) / 2 + rounding).all()
    assert (log_cosh >= MAE()(r, zero(r)) - math.log(2) - rounding).all()


@EXAMPLES
@given(RESIDUALS, RESIDUALS, st.floats(0.01, 100))
def test_distances_depend_on_the_residual_alone_and_not_on_its_sign(p, r, delta):
    p = p[:1]
    for loss in (MSE(), MAE(), Huber(delta=delta), LogCosh()):
        same(loss((p + r) - p, zero(r)), loss(p - (p + r), zero(r)))
        assert (loss(p, p) == 0).all()


@EXAMPLES
@given(RESIDUALS, st.floats(0.01, 100))
def test_huber_is_delta_times_smooth_l1(r, delta):
    smooth = torch.nn.functional.smooth_l1_loss(r, zero(r), beta=delta, reduction="none").mean(-1)
    same(Huber(delta=delta)(r, zero(r)), delta * smooth)


@EXAMPLES
@given(RESIDUALS, st.floats(0.1, 10), st.floats(0.1, 10))
def test_robust_losses_scale_as_the_square(r, s, c):
    same(Huber(delta=s * c)(s * r, zero(r)), s**2 * Huber(delta=c)(r, zero(r)))
    same(Tukey(c=c)(s * r, zero(r), residual_scale=s * SCALE), s**2 * Tukey(c=c)(r, zero(r), residual_scale=SCALE))


@EXAMPLES
@given(rows(0, 1e4), rows(0, 1e4))
def test_msle_is_the_squared_error_of_logarithms(p, y):
    p, y = p[: len(y)], y[: len(p)]
    same(MSLE()(p, y), MSE()(p.log1p(), y.log1p()))


@EXAMPLES
@given(rows(-50, 50))
def test_gaussian_nll_of_scale_one_is_half_the_square(r):
    same(GaussianNLL()(torch.cat([r, zero(r)], -1), zero(r)), MSE()(r, zero(r)) / 2 + math.log(2 * math.pi) / 2)


@EXAMPLES
@given(rows(-30, 30), st.floats(-2, 2))
def test_barron_towards_two_is_the_normal_distribution(r, log_scale):
    alpha, scale = torch.full((1, C), 2 - 1e-9, dtype=torch.float64), torch.full_like(r, log_scale)
    nll = barron(r / scale.exp(), alpha) + scale + barron_log_partition(alpha)
    same(nll.mean(-1), GaussianNLL()(torch.cat([r, scale], -1), zero(r)), rtol=1e-5, atol=1e-5)


@EXAMPLES
@given(rows(-5, 5))
def test_barron_adaptive_comes_near_the_normal_and_cauchys_distribution(r):
    def adaptive(alpha_logit: float) -> Tensor:
        parameters = {"alpha_logit": torch.full((1, C), alpha_logit), "log_scale": torch.zeros(1, C)}
        return BarronAdaptive()(r, zero(r), parameters={n: p.double() for n, p in parameters.items()})

    same(adaptive(100.0), GaussianNLL()(torch.cat([r, zero(r)], -1), zero(r)), rtol=0, atol=0.05)
    cauchy = torch.distributions.StudentT(torch.ones((), dtype=torch.float64), scale=math.sqrt(2))
    same(adaptive(-100.0), -cauchy.log_prob(r).mean(-1), rtol=0, atol=0.01)


@EXAMPLES
@given(LOGITS)
def test_focal_without_focus_is_half_of_bce(z):
    y = (z > 1).double()
    same(2 * Focal(gamma=0, alpha=0.5)(z, y), BCE()(z, y))
    assert (Focal(gamma=3, alpha=0.5)(z, y) <= Focal(gamma=1, alpha=0.5)(z, y)).all()


@EXAMPLES
@given(rows(-60, 60, 1))
def test_bce_is_cross_entropy_of_two_classes(z):
    two = torch.cat([zero(z), z], -1)
    for label in (0, 1):
        same(BCE()(z, zero(z) + label), CrossEntropy()(two, torch.full((len(z),), label)))


@EXAMPLES
@given(LOGITS, st.floats(-100, 100))
def test_cross_entropies_do_not_see_a_shift(z, shift):
    for loss in (CrossEntropy(), CrossEntropy(label_smoothing=0.2), GeneralizedCrossEntropy(), MultiMargin()):
        same(loss(z + shift, classes(z)), loss(z, classes(z)), atol=1e-9)


@EXAMPLES
@given(LOGITS)
def test_generalized_cross_entropy_limits(z):
    same(GeneralizedCrossEntropy(q=1e-9)(z, classes(z)), CrossEntropy()(z, classes(z)), rtol=1e-6)
    p = z.softmax(-1).gather(-1, classes(z)[:, None]).squeeze(-1)
    same(GeneralizedCrossEntropy(q=1)(z, classes(z)), 1 - p)


@EXAMPLES
@given(LOGITS)
def test_smoothing_is_a_mixture_with_the_mean_over_classes(z):
    every = torch.stack([CrossEntropy()(z, torch.full((len(z),), c)) for c in range(C)])
    wanted = 0.7 * CrossEntropy()(z, classes(z)) + 0.3 * every.mean(0)
    same(CrossEntropy(label_smoothing=0.3)(z, classes(z)), wanted)


@EXAMPLES
@given(LOGITS, st.floats(0.5, 1e5))
def test_logit_adjustment_by_equal_counts_is_none(z, count):
    counts = torch.full((1, C), count, dtype=torch.float64)
    same(LogitAdjusted(tau=2.0)(z, classes(z), class_counts=counts), CrossEntropy()(z, classes(z)), atol=1e-9)
    uneven = torch.tensor([[100.0, 10, 1, 0]])
    same(LogitAdjusted(tau=0)(z, classes(z), class_counts=uneven), CrossEntropy()(z, classes(z)))


@EXAMPLES
@given(LOGITS)
def test_elr_without_its_reward_is_cross_entropy(z):
    state = torch.full((9, C), 0.2, dtype=torch.float64)
    losses, _ = ELR(lam=0)(z, classes(z), state=state, index=torch.arange(len(z)))
    same(losses, CrossEntropy()(z, classes(z)))
    # from no memory, and none made: log(1 - 0)
    losses, after = ELR(beta=1)(z, classes(z), state=0 * state, index=torch.arange(len(z)))
    same(losses, CrossEntropy()(z, classes(z)))
    assert (after == 0).all()


@EXAMPLES
@given(rows(-5, 5, 6), st.floats(0.5, 64))
def test_arcface_without_margin_is_cross_entropy_on_its_scores(x, scale):
    weight = {"weight": torch.randn(C, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    loss = ArcFace(scale=scale, margin=0)
    same(loss(x, classes(x), parameters=weight), CrossEntropy()(loss.score_classes(x, weight), classes(x)), atol=1e-9)
    longer = {"weight": 7 * weight["weight"]}
    same(loss(x, classes(x), parameters=longer), loss(x, classes(x), parameters=weight))


@EXAMPLES
@given(rows(-5, 5, 6), st.floats(0.01, 1.5))
def test_a_margin_makes_arcface_larger(x, margin):
    weight = {"weight": torch.randn(C, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    with_margin = ArcFace(margin=margin)(x, classes(x), parameters=weight)
    assert (with_margin >= ArcFace(margin=0)(x, classes(x), parameters=weight) - 1e-9).all()


@EXAMPLES
@given(LOGITS)
def test_brier_is_the_sum_of_squares(z):
    p = z.softmax(-1)
    same(Brier()(p, hot(p)), C * MSE()(p, hot(p)))
    assert (Brier()(p, hot(p)) <= 2 + 1e-12).all()


@EXAMPLES
@given(rows(-20, 20, 1))
def test_hinge_is_multi_margin_of_two_classes(s):
    # torch divides by the two classes, of which one is wrong
    two = torch.cat([zero(s), s], -1)
    for label in (0, 1):
        got = Hinge()(s, zero(s) + 2 * label - 1)
        same(got, 2 * MultiMargin()(two, torch.full((len(s),), label)))


@EXAMPLES
@given(rows(0, 1), st.floats(1e-3, 10))
def test_dice_is_symmetric_and_zero_for_equal_decisions(p, smooth):
    y = (p > 0.5).double()
    same(Dice(smooth=smooth)(p, y), Dice(smooth=smooth)(y, p))
    same(Dice(smooth=smooth)(y, y), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize(
    ("external", "loss"),
    [
        (External("torch.nn.HuberLoss", {"delta": 0.3}), Huber(delta=0.3)),
        (External("torch.nn.MSELoss"), MSE()),
        (External("torch.abs", arguments=["residual"]), MAE()),
    ],
)
def test_external_is_the_built_in_one(external, loss):
    r = torch.linspace(-3, 3, 24, dtype=torch.float64).view(6, C)
    same(external(r, zero(r)), loss(r, zero(r)))
