"""Regression's scaling, conversions and refusals."""

import numpy as np
import pytest
import torch
from scipy import stats

from lossbench import tasks
from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling
from lossbench.types import Encoding, Examples, Head, Problem, Space

TASK = tasks.get("regression")
PROBLEM = Problem((3,), 2, 100)
SCALING = Scaling(torch.tensor([[3.0, 20.0]], dtype=torch.float64), torch.tensor([[2.0, 0.5]], dtype=torch.float64))
RAW = torch.linspace(-6, 6, 14, dtype=torch.float64).reshape(7, 2)


def test_scaling_is_the_median_and_mad():
    targets = np.random.default_rng(0).normal([1.0, -4.0], [3.0, 0.1], (500, 2))
    shift, scale = TASK.scaling(targets)
    np.testing.assert_allclose(shift, np.median(targets, 0))
    np.testing.assert_allclose(scale, stats.median_abs_deviation(targets, scale="normal"), rtol=1e-4)


def test_scaling_does_not_follow_outliers():
    targets = np.random.default_rng(0).normal(size=(500, 1))
    spoilt = targets.copy()
    spoilt[:100] += 1000
    shift, scale = TASK.scaling(spoilt)
    assert abs(shift[0]) < 0.5
    assert scale[0] < 2


def test_scaling_where_the_mad_is_zero():
    mostly, constant = np.zeros(100), np.full(100, 7.0)
    mostly[:20] = 5
    shift, scale = TASK.scaling(np.stack([mostly, constant], 1))
    np.testing.assert_allclose(shift, [0, 7])
    np.testing.assert_allclose(scale, [mostly.std(), 1])


def test_value_goes_there_and_back():
    target = torch.tensor([[1.0, 30.0]], dtype=torch.float64)
    encoded = TASK.encode(target, Encoding.VALUE, PROBLEM, SCALING)
    torch.testing.assert_close(encoded, torch.tensor([[-1.0, 20.0]], dtype=torch.float64))
    torch.testing.assert_close(TASK.point(encoded, Space.VALUE, PROBLEM, SCALING), target)


def test_positive_is_softplus_in_original_units():
    u = RAW + SCALING.shift / SCALING.scale
    expected = SCALING.scale * torch.logaddexp(u, torch.zeros_like(u))
    positive = TASK.convert(RAW, Space.POSITIVE, SCALING)
    torch.testing.assert_close(positive, expected, rtol=0, atol=2.1e-6)  # the floor of 1e-6 scales
    assert (positive > 0).all()
    torch.testing.assert_close(TASK.point(RAW, Space.POSITIVE, PROBLEM, SCALING), positive)


def test_positive_tends_to_the_value():
    large = torch.full((1, 2), 50.0, dtype=torch.float64)
    torch.testing.assert_close(
        TASK.convert(large, Space.POSITIVE, SCALING),
        TASK.point(large, Space.VALUE, PROBLEM, SCALING),
        rtol=1e-5,
        atol=0,
    )


def test_positive_stays_above_zero_in_float32_with_finite_gradients_of_its_logarithm():
    raw = torch.full((1, 2), -500.0, requires_grad=True)
    scaling = Scaling(*(part.float() for part in SCALING))
    positive = TASK.convert(raw, Space.POSITIVE, scaling)
    (1 / positive + positive.log()).sum().backward()
    assert (positive > 0).all()
    assert raw.grad.isfinite().all()


def test_means_and_log_scales_pass_and_their_means_are_the_point():
    raw = torch.cat([RAW, RAW - 9], -1)
    assert TASK.convert(raw, Space.MEAN_LOG_SCALE, SCALING) is raw
    expected = TASK.point(RAW, Space.VALUE, PROBLEM, SCALING)
    torch.testing.assert_close(TASK.point(raw, Space.MEAN_LOG_SCALE, PROBLEM, SCALING), expected)


def test_a_loss_of_values_on_a_mean_scale_head_sees_the_means():
    raw = torch.cat([RAW, RAW - 9], -1)
    torch.testing.assert_close(TASK.convert(raw, Space.VALUE, SCALING), RAW)


def test_means_and_log_scales_need_their_head():
    with pytest.raises(Incompatible, match="head=mean_scale"):
        TASK.convert(RAW, Space.MEAN_LOG_SCALE, SCALING)


def test_head_widths():
    assert [TASK.head_width(head, PROBLEM) for head in (Head.LINEAR, Head.MEAN_SCALE)] == [2, 4]


def test_check_says_how_many_are_negative_and_the_smallest():
    targets = np.array([[1.0], [-0.5], [-2.25], [0.0]])
    with pytest.raises(Incompatible, match=r"2 of 4 training targets are, the smallest being -2\.25"):
        TASK.check(targets, Encoding.POSITIVE)
    TASK.check(targets, Encoding.VALUE)


def test_check_counts_what_is_not_finite():
    with pytest.raises(Incompatible, match="2 of 3 training targets are not finite"):
        TASK.check(np.array([[np.nan], [np.inf], [1.0]]), Encoding.VALUE)


def test_trivial_is_the_median():
    trivial = TASK.trivial(np.array([[1.0, 9.0], [2.0, 8.0], [50.0, 0.0]]), 4, PROBLEM)
    np.testing.assert_array_equal(trivial, [[2, 8]] * 4)


@pytest.mark.parametrize("targets", [np.zeros(5), np.zeros((5, 1), int)])
def test_targets_must_be_floats_with_two_axes(targets):
    with pytest.raises(Incompatible, match=r"float targets of shape \[N, D\]. Got"):
        TASK.n_outputs(Examples(np.zeros((5, 1)), targets))
