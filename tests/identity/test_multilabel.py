"""What the losses on sets of labels are to each other, and where they tend to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench.losses import (
    BCE,
    ZLPR,
    Asymmetric,
    CrossEntropy,
    Dice,
    Focal,
    Hinge,
    MultilabelMargin,
    MultilabelSoftMargin,
    MultiMargin,
    SoftF1,
    TwoWay,
)

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
L = 4


def rows(low: float, high: float, width: int = L):
    """Batches `[B, width]` in float64."""
    number = st.floats(low, high, allow_subnormal=False)
    lists = st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=4)
    return lists.map(lambda values: torch.tensor(values, dtype=torch.float64))


LOGITS = rows(-60, 60)


def same(got: Tensor, wanted: Tensor, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def labels(z: Tensor) -> Tensor:
    """Some sets of labels: none, the first, the second, both, ..."""
    return (torch.arange(len(z))[:, None] >> torch.arange(z.shape[-1]) & 1).double()


def classes(z: Tensor) -> Tensor:
    return torch.arange(len(z)) % z.shape[-1]


def hot(z: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(classes(z), z.shape[-1]).double()


@EXAMPLES
@given(LOGITS)
def test_asymmetric_without_fading_and_clip_is_bce(z):
    same(Asymmetric(gamma_neg=0, gamma_pos=0, clip=0)(z, labels(z)), BCE()(z, labels(z)))


@EXAMPLES
@given(LOGITS, st.floats(0, 5))
def test_asymmetric_with_one_gamma_is_twice_focal(z, gamma):
    twice = 2 * Focal(gamma=gamma, alpha=0.5)(z, labels(z))
    same(Asymmetric(gamma_neg=gamma, gamma_pos=gamma, clip=0)(z, labels(z)), twice)


@EXAMPLES
@given(LOGITS, st.floats(0, 1), st.floats(0, 5))
def test_a_clip_never_costs_more(z, clip, gamma):
    clipped = Asymmetric(gamma_neg=gamma, clip=clip)(z, labels(z))
    assert (clipped <= Asymmetric(gamma_neg=gamma, clip=0)(z, labels(z)) + 1e-12).all()


@EXAMPLES
@given(LOGITS)
def test_soft_margin_is_bce(z):
    same(MultilabelSoftMargin()(z, labels(z)), BCE()(z, labels(z)))


@EXAMPLES
@given(rows(-60, 60, 1))
def test_zlpr_of_one_label_is_bce(z):
    same(ZLPR()(z, labels(z)), BCE()(z, labels(z)))


@EXAMPLES
@given(LOGITS)
def test_zlpr_of_one_positive_is_at_least_cross_entropy(z):
    # (1 + sum of negatives) (1 + 1 / positive) = 1 + sum / positive + what zero adds
    assert (ZLPR()(z, hot(z)) >= CrossEntropy()(z, classes(z)) - 1e-12).all()


@EXAMPLES
@given(LOGITS)
def test_one_positive_label_is_a_class_to_the_margin(s):
    same(MultilabelMargin()(s, hot(s)), MultiMargin()(s, classes(s)))


@EXAMPLES
@given(LOGITS, st.floats(-100, 100))
def test_the_margin_sees_only_differences(s, shift):
    same(MultilabelMargin()(s + shift, labels(s)), MultilabelMargin()(s, labels(s)), atol=1e-9)


@EXAMPLES
@given(LOGITS, st.floats(-100, 100), st.floats(0.2, 5), st.floats(0.2, 5))
def test_two_way_sees_only_differences(z, shift, t_pos, t_neg):
    loss = TwoWay(t_pos, t_neg)
    same(loss(z + shift, labels(z)), loss(z, labels(z)), atol=1e-9)


@EXAMPLES
@given(rows(-60, 60), st.floats(0.2, 5), st.floats(0.2, 5))
def test_two_way_does_not_care_which_axis_is_the_batch(z, t_pos, t_neg):
    loss = TwoWay(t_pos, t_neg)
    same(loss(z.mT, labels(z).mT), loss(z, labels(z)), atol=1e-12)


@EXAMPLES
@given(rows(-60, 60, L))
def test_two_way_at_temperature_one_is_cross_entropy_of_an_example_with_one_positive(z):
    # over the labels of one example it is the cross-entropy; over the one example of a label nothing stands against it
    z = z[:1]
    same(TwoWay(1.0, 1.0)(z, hot(z)), CrossEntropy()(z, classes(z)).squeeze(0))


@EXAMPLES
@given(rows(0, 1))
def test_soft_f1_is_dice_without_its_smooth(p):
    y = torch.ones_like(p)
    y[1:] = 0  # every label has a positive
    same(SoftF1()(p, y), Dice(smooth=1e-13)(p, y))
    assert 0 <= SoftF1()(p, y) <= 1


@pytest.mark.parametrize("loss", [Asymmetric(), MultilabelMargin(), MultilabelSoftMargin(), ZLPR(), TwoWay()])
@EXAMPLES
@given(st.permutations(range(L)), LOGITS)
def test_labels_have_no_order(loss, order, z):
    y = labels(z)
    same(loss(z[:, order], y[:, order]), loss(z, y), atol=1e-9)


@EXAMPLES
@given(LOGITS)
def test_right_by_a_wide_margin_costs_nothing(z):
    y = labels(z)
    right = 200 * (2 * y - 1) + z / 60
    for loss in (Asymmetric(), MultilabelMargin(), MultilabelSoftMargin(), ZLPR(), TwoWay()):
        assert (loss(right, y) < 1e-12).all()
    same(Hinge()(right, 2 * y - 1), torch.zeros(len(z), dtype=torch.float64))
