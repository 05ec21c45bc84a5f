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
    shift, scale = TASK.fit_scaling(targets)
    np.testing.assert_allclose(shift, np.median(targets, 0))
    np.testing.assert_allclose(scale, stats.median_abs_deviation(targets, scale="normal"), rtol=1e-4)


def test_scaling_does_not_follow_outliers():
    targets = np.random.default_rng(0).normal(size=(500, 1))
    spoilt = targets.copy()
    spoilt[:100] += 1000
    shift, scale = TASK.fit_scaling(spoilt)
    assert abs(shift[0]) < 0.5
    assert scale[0] < 2


def test_scaling_where_the_mad_is_zero():
    mostly, constant = np.zeros(100), np.full(100, 7.0)
    mostly[:20] = 5
    shift, scale = TASK.fit_scaling(np.stack([mostly, constant], 1))
    np.testing.assert_allclose(shift, [0, 7])
    np.testing.assert_allclose(scale, [mostly.std(), 1])


def test_value_goes_there_and_back():
    target = torch.tensor([[1.0, 30.0]], dtype=torch.float64)
    encoded = TASK.encode(target, Encoding.VALUE, PROBLEM, SCALING)
    torch.testing.assert_close(encoded, torch.tensor([[-1.0, 20.0]], dtype=torch.float64))
    torch.testing.assert_close(TASK.predict(encoded, Space.VALUE, PROBLEM, SCALING), target)


def test_positive_is_softplus_in_original_units():
    u = RAW + SCALING.shift / SCALING.scale
    expected = SCALING.scale * torch.logaddexp(u, torch.zeros_like(u))
    positive = TASK.convert(RAW, Space.POSITIVE, SCALING)
    torch.testing.assert_close(positive, expected, rtol=0, atol=2.1e-6)  # the floor of 1e-6 scales
    assert (positive > 0).all()
    torch.testing.assert_close(TASK.predict(RAW, Space.POSITIVE, PROBLEM, SCALING), positive)


def test_positive_tends_to_the_value():
    large = torch.full((1, 2), 50.0, dtype=torch.float64)
    torch.testing.assert_close(
        TASK.convert(large, Space.POSITIVE, SCALING),
        TASK.predict(large, Space.VALUE, PROBLEM, SCALING),
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
    expected = TASK.predict(RAW, Space.VALUE, PROBLEM, SCALING)
    torch.testing.assert_close(TASK.predict(raw, Space.MEAN_LOG_SCALE, PROBLEM, SCALING), expected)


def test_a_loss_of_values_on_a_mean_scale_head_sees_the_means():
    raw = torch.cat([RAW, RAW - 9], -1)
    torch.testing.assert_close(TASK.convert(raw, Space.VALUE, SCALING), RAW)


def test_means_and_log_scales_need_their_head():
    with pytest.raises(Incompatible, match="head=mean_scale"):
        TASK.convert(RAW, Space.MEAN_LOG_SCALE, SCALING)


def test_head_widths():
    assert [TASK.get_head_width(head, PROBLEM) for head in (Head.LINEAR, Head.MEAN_SCALE)] == [2, 4]


def test_check_says_how_many_are_negative_and_the_smallest():
    targets = np.array([[1.0], [-0.5], [-2.25], [0.0]])
    with pytest.raises(Incompatible, match=r"2 of 4 training targets are, the smallest being -2\.25"):
        TASK.check(targets, Encoding.POSITIVE)
    TASK.check(targets, Encoding.VALUE)


def test_check_counts_what_is_not_finite():
    with pytest.raises(Incompatible, match="2 of 3 training targets are not finite"):
        TASK.check(np.array([[np.nan], [np.inf], [1.0]]), Encoding.VALUE)


def test_trivial_is_the_median():
    trivial = TASK.predict_baseline(np.array([[1.0, 9.0], [2.0, 8.0], [50.0, 0.0]]), 4, PROBLEM)
    np.testing.assert_array_equal(trivial, [[2, 8]] * 4)


@pytest.mark.parametrize("targets", [np.zeros(5), np.zeros((5, 1), int)])
def test_targets_must_be_floats_with_two_axes(targets):
    with pytest.raises(Incompatible, match=r"float targets of shape \[N, D\]. Got"):
        TASK.count_outputs(Examples(np.zeros((5, 1)), targets))


COUNTS = Scaling(torch.tensor([[12.0, 0.0]], dtype=torch.float64), torch.tensor([[6.0, 0.5]], dtype=torch.float64))


def test_log_rates_start_at_the_centre_and_move_as_positive_values_do():
    raw = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    rate = TASK.convert(raw, Space.LOG_RATE, COUNTS).exp()
    positive = TASK.convert(raw, Space.POSITIVE, COUNTS)
    torch.testing.assert_close(rate, positive, rtol=1e-5, atol=0)
    # softplus(s) of a median of 2 scales, and of 0
    torch.testing.assert_close(
        rate[0].detach(), COUNTS.scale[0] * torch.tensor([2.126928, np.log(2)]), rtol=1e-6, atol=0
    )
    (slope,) = torch.autograd.grad(rate.sum(), raw)
    torch.testing.assert_close(slope, COUNTS.scale)  # a step of 1 is one scale, as for a value


def test_log_rates_are_logarithms_about_the_centre():
    rates = TASK.predict(RAW, Space.LOG_RATE, PROBLEM, COUNTS)
    torch.testing.assert_close(rates, TASK.convert(RAW, Space.LOG_RATE, COUNTS).exp())
    assert (rates > 0).all()
    # equal steps are equal factors
    factors = rates[1:] / rates[:-1]
    torch.testing.assert_close(factors, factors[:1].expand_as(factors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rates_far_off_stay_finite_and_can_come_back(dtype):
    raw = torch.tensor([[-1e4], [-100.0], [100.0], [1e4]], dtype=dtype).expand(4, 2).clone().requires_grad_()
    scaling = Scaling(*(part.to(dtype) for part in COUNTS))
    log_rate = TASK.convert(raw, Space.LOG_RATE, scaling)
    (slope,) = torch.autograd.grad(log_rate.sum(), raw)
    assert log_rate.exp().isfinite().all()
    assert (log_rate.diff(dim=0) > 0).all()
    assert (slope > 0).all()


def test_a_median_below_0_counts_as_0():
    below = Scaling(COUNTS.shift - 1e6, COUNTS.scale)
    rates = TASK.predict(torch.zeros(1, 2).double(), Space.LOG_RATE, PROBLEM, below)
    torch.testing.assert_close(rates, COUNTS.scale * np.log(2))


def test_log_rates_bend_without_a_kink():
    # the bend lies at a raw output of 10 centres, in units of the scale
    centre = TASK.predict(torch.zeros(1, 2).double(), Space.LOG_RATE, PROBLEM, COUNTS) / COUNTS.scale
    for bend in (10 * centre, -10 * centre):
        around = torch.cat([bend - 1e-7, bend + 1e-7]).requires_grad_()
        values = TASK.convert(around, Space.LOG_RATE, COUNTS)
        (slope,) = torch.autograd.grad(values.sum(), around)
        torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-6)
        torch.testing.assert_close(slope[0], slope[1], rtol=1e-6, atol=0)


def test_rates_with_zeros_in_excess_are_predicted_by_their_mean():
    raw = torch.cat([RAW, RAW - 1], -1)
    converted = TASK.convert(raw, Space.ZERO_INFLATED, COUNTS)
    torch.testing.assert_close(converted[:, :2], TASK.convert(RAW, Space.LOG_RATE, COUNTS))
    torch.testing.assert_close(converted[:, 2:], RAW - 1)
    wanted = converted[:, :2].exp() * (1 - converted[:, 2:].sigmoid())
    torch.testing.assert_close(TASK.predict(raw, Space.ZERO_INFLATED, PROBLEM, COUNTS), wanted)
    with pytest.raises(Incompatible, match="head=mean_scale"):
        TASK.convert(RAW, Space.ZERO_INFLATED, COUNTS)


def test_original_values_are_those_that_metrics_take():
    original = TASK.convert(RAW, Space.ORIGINAL, SCALING)
    torch.testing.assert_close(original, SCALING.shift + SCALING.scale * RAW)
    torch.testing.assert_close(TASK.predict(RAW, Space.ORIGINAL, PROBLEM, SCALING), original)
    target = torch.tensor([[-1.0, 30.0]], dtype=torch.float64)
    assert TASK.encode(target, Encoding.ORIGINAL, PROBLEM, SCALING).tolist() == target.tolist()
    TASK.check(np.array([[-1.0], [0.0]]), Encoding.ORIGINAL)


def test_check_says_how_many_are_not_above_0():
    targets = np.array([[1.0], [0.0], [3.0], [0.0]])
    with pytest.raises(
        Incompatible, match="takes targets above 0; 2 of 4 training targets are not, the smallest being 0"
    ):
        TASK.check(targets, Encoding.ABOVE_ZERO)
    TASK.check(targets, Encoding.POSITIVE)
    TASK.check(targets + 1e-9, Encoding.ABOVE_ZERO)
