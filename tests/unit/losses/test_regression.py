"""Losses of values against scikit-learn, scipy, torch, torchmetrics and closed forms."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from scipy import special
from sklearn import metrics
from sklearn.metrics import mean_absolute_percentage_error
from sklearn.metrics.pairwise import paired_cosine_distances
from torch import nn
from torchmetrics.functional import symmetric_mean_absolute_percentage_error
from unit.losses.residuals import close, of, pair, residuals, slopes

from lossbench.errors import Incompatible, InvalidValue
from lossbench.losses import (
    MAE,
    MAPE,
    MSE,
    MSLE,
    SMAPE,
    CosineSimilarity,
    EpsilonInsensitive,
    Expectile,
    Huber,
    LogCosh,
    Quantile,
)
from lossbench.types import Problem


@pytest.mark.parametrize(
    ("loss", "oracle"),
    [
        (MSE(), metrics.mean_squared_error),
        (MAE(), metrics.mean_absolute_error),
        (MSLE(), metrics.mean_squared_log_error),
    ],
)
def test_against_scikit_learn(loss, oracle):
    prediction, target = (x.abs() if isinstance(loss, MSLE) else x for x in pair())
    close(loss(prediction, target), [oracle(y, p) for y, p in zip(target, prediction, strict=True)])


@pytest.mark.parametrize(("loss", "oracle"), [(MSE(), torch.nn.MSELoss), (MAE(), torch.nn.L1Loss)])
def test_against_torch(loss, oracle):
    prediction, target = pair()
    close(loss(prediction, target).mean(), oracle()(prediction, target))


def test_msle_by_hand():
    # (log(1 + (e - 1)) - log(1 + 0))^2 = 1, and (log(1 + 3) - log(1 + 1))^2 = log(2)^2
    prediction, target = torch.tensor([[math.e - 1], [3.0]]).double(), torch.tensor([[0.0], [1.0]]).double()
    close(MSLE()(prediction, target), [1, math.log(2) ** 2], rtol=1e-7)


@pytest.mark.parametrize("delta", [1e-3, 0.5, 1, 1.0, 20.0])
def test_huber_against_scipy(delta):
    r = residuals()
    close(Huber(delta=delta)(r, torch.zeros_like(r)), special.huber(delta, r.numpy()).mean(-1))


def test_huber_of_several_outputs_against_torch():
    prediction, target = pair()
    close(Huber(delta=0.7)(prediction, target).mean(), torch.nn.HuberLoss(delta=0.7)(prediction, target))


def test_huber_far_away_in_half_precision():
    # 300 * 300 overflows float16; delta (|r| - delta/2) = 299.5 does not
    r = torch.tensor([[300.0]], dtype=torch.float16)
    assert Huber()(r, torch.zeros_like(r)).item() == pytest.approx(299.5, abs=0.5)


def test_log_cosh_to_all_digits():
    # mpmath with 60 digits: log(cosh(r)) of 1e-9 is 5e-19, below the rounding of log(2)
    r = residuals()
    with mpmath.workdps(60):
        wanted = [float(mpmath.log(mpmath.cosh(mpmath.mpf(float(x))))) for x in r[:-2, 0]]
    wanted += [1e4 - math.log(2), 1e6 - math.log(2)]  # e^-2r is below 1e-8000
    close(LogCosh()(r, torch.zeros_like(r)), wanted, rtol=1e-14)


def test_log_cosh_gradient_is_tanh():
    r = residuals().requires_grad_()
    LogCosh()(r, torch.zeros_like(r)).sum().backward()
    close(r.grad, r.detach().tanh())


def drawn_positive():
    prediction, target = pair()
    return prediction.exp(), target.exp()


def test_mape_against_scikit_learn():
    prediction, target = drawn_positive()
    wanted = [mean_absolute_percentage_error(y, p) for y, p in zip(target, prediction, strict=True)]
    close(MAPE()(prediction, target), wanted)


def test_smape_against_torchmetrics():
    prediction, target = drawn_positive()
    pairs = zip(prediction, target, strict=True)
    close(SMAPE()(prediction, target), torch.stack([symmetric_mean_absolute_percentage_error(p, y) for p, y in pairs]))


def test_relative_errors_are_shares_and_not_per_cent():
    prediction, target = torch.tensor([[90.0], [120.0]]).double(), torch.tensor([[100.0], [100.0]]).double()
    close(MAPE()(prediction, target), [0.1, 0.2])
    close(SMAPE()(prediction, target), [20 / 190, 40 / 220])


def test_a_target_of_0_is_infinitely_far_and_no_made_up_number():
    # keras gives 1e9 for this, as if the target were 1e-7
    assert MAPE()(torch.ones(1, 1), torch.zeros(1, 1)).item() == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smape_of_two_zeros_is_zero_with_a_gradient(dtype):
    prediction = torch.zeros(1, 2, dtype=dtype, requires_grad=True)
    losses = SMAPE()(prediction, torch.zeros(1, 2, dtype=dtype))
    losses.sum().backward()
    assert losses.tolist() == [0]
    assert prediction.grad.tolist() == [[0, 0]]


def test_smape_is_at_most_2():
    prediction = torch.tensor([[1e-30], [1e30], [5.0]], dtype=torch.float64)
    close(SMAPE()(prediction, torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)), [2.0, 2.0, 2.0])


@pytest.mark.parametrize("tau", [0.01, 0.5, 0.9])
def test_quantile_against_scikit_learn(tau):
    prediction, target = pair()
    wanted = [metrics.mean_pinball_loss(y, p, alpha=tau) for y, p in zip(target, prediction, strict=True)]
    close(Quantile(tau=tau)(prediction, target), wanted)


def test_too_low_costs_the_quantile_s_tau():
    # prediction 1 below the target, then 1 above: the trap is to have them the other way round
    r = torch.tensor([[-1.0], [1.0], [-3.0], [3.0]], dtype=torch.float64)
    close(of(Quantile(tau=0.9), r), [0.9, 0.1, 2.7, 0.3])
    close(of(Expectile(tau=0.9), r), [0.9, 0.1, 8.1, 0.9])


@pytest.mark.parametrize("tau", [0.01, 0.5, 0.9])
def test_slopes_of_quantile_and_expectile(tau):
    r = residuals()
    side = torch.where(r < 0, r.new_tensor(tau), 1 - tau)[:, 0]
    close(slopes(Quantile(tau=tau), r), side * r.sign()[:, 0])
    close(slopes(Expectile(tau=tau), r), side * 2 * r[:, 0])


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 2.0])
def test_epsilon_insensitive(epsilon):
    r = residuals()
    close(of(EpsilonInsensitive(epsilon=epsilon), r), [max(0.0, abs(v) - epsilon) for v in r[:, 0].tolist()])
    wanted = torch.where(r.abs() > epsilon, r.sign(), 0.0)[:, 0]
    close(slopes(EpsilonInsensitive(epsilon=epsilon), r), wanted)


@pytest.mark.parametrize("kind", [Quantile, Expectile])
@pytest.mark.parametrize("tau", [0, 1, -0.1, 90, float("nan"), "0.5"])
def test_tau_lies_between_0_and_1(kind, tau):
    with pytest.raises(InvalidValue, match=rf"The 'tau' parameter of {kind.__name__} must be .*\(0, 1\). Got"):
        kind(tau=tau)


def test_epsilon_is_not_negative():
    with pytest.raises(InvalidValue, match=r"The 'epsilon' parameter of EpsilonInsensitive must be .* Got -0\.1"):
        EpsilonInsensitive(epsilon=-0.1)


def test_cosine_similarity_against_scikit_learn():
    prediction, target = pair(d=5)
    # a prediction of the target's length lowers the cosine by 5e-9
    close(CosineSimilarity()(prediction, target), paired_cosine_distances(prediction, target) - 1, rtol=0, atol=1e-6)


def test_cosine_similarity_against_torch():
    prediction, target = pair(d=5)
    wanted = nn.functional.cosine_embedding_loss(prediction, target, torch.ones(50), reduction="none") - 1
    close(CosineSimilarity()(1e3 * prediction, target), wanted, rtol=0, atol=1e-11)


def test_cosine_similarity_lies_between_minus_one_and_one():
    target = torch.tensor([[3.0, 4.0]] * 3, dtype=torch.float64)
    prediction = torch.tensor([[6.0, 8.0], [-30.0, -40.0], [-4.0, 3.0]], dtype=torch.float64)
    close(CosineSimilarity()(prediction, target), [-1.0, 1.0, 0.0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_do_not_matter_to_cosine_similarity(unit):
    prediction, target = pair()
    close(CosineSimilarity()(unit * prediction, unit * target), CosineSimilarity()(prediction, target), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_vectors_have_no_direction_and_finite_gradients(dtype):
    # F.normalize's gradient at a zero vector is 1e12
    prediction = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], dtype=dtype, requires_grad=True)
    losses = CosineSimilarity()(prediction, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]], dtype=dtype))
    losses.sum().backward()
    assert losses.tolist() == [0, 0, 0]
    assert prediction.grad.abs().max() <= 1.01e4


def test_cosine_similarity_pulls_a_zero_prediction_towards_the_target():
    prediction = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    CosineSimilarity()(prediction, torch.tensor([[0.6, 0.8]], dtype=torch.float64)).sum().backward()
    close(-prediction.grad / prediction.grad.norm(), [[0.6, 0.8]])


def test_cosine_similarity_of_one_number_is_a_sign_and_nothing_to_learn():
    prediction = torch.tensor([[2.0], [0.3], [-1.0]], dtype=torch.float64, requires_grad=True)
    losses = CosineSimilarity()(prediction, torch.tensor([[5.0], [5.0], [5.0]], dtype=torch.float64))
    losses.sum().backward()
    close(losses.detach(), [-1.0, -1.0, 1.0], rtol=0, atol=1e-5)
    assert prediction.grad.abs().max() < 1e-4


def test_cosine_similarity_refuses_a_single_target():
    problem = Problem(input_shape=(3,), n_outputs=1, n_examples=2)
    with pytest.raises(Incompatible, match=r"at least two numbers, which have a direction\. Got targets of one"):
        CosineSimilarity().check(np.ones((2, 1)), problem)
    CosineSimilarity().check(np.ones((2, 2)), replace(problem, n_outputs=2))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Huber, {"delta": 0}),
        (Huber, {"delta": -1.0}),
        (Huber, {"delta": float("inf")}),
        (Huber, {"delta": float("nan")}),
        (Huber, {"delta": "1"}),
        (Huber, {"delta": True}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
