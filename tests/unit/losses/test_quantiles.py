"""Quantile, expectile and band losses against scikit-learn and closed forms."""

import pytest
import torch
from sklearn import metrics
from unit.losses.residuals import close, of, pair, residuals, slopes

from lossbench.errors import InvalidValue
from lossbench.losses import EpsilonInsensitive, Expectile, Quantile


@pytest.mark.parametrize("tau", [0.01, 0.5, 0.9])
def test_quantile_against_scikit_learn(tau):
    prediction, target = pair()
    wanted = [metrics.mean_pinball_loss(y, p, alpha=tau) for y, p in zip(target, prediction, strict=True)]
    close(Quantile(tau=tau)(prediction, target), wanted)


def test_too_low_costs_tau():
    # prediction 1 below the target, then 1 above: the trap is to have them the other way round
    r = torch.tensor([[-1.0], [1.0], [-3.0], [3.0]], dtype=torch.float64)
    close(of(Quantile(tau=0.9), r), [0.9, 0.1, 2.7, 0.3])
    close(of(Expectile(tau=0.9), r), [0.9, 0.1, 8.1, 0.9])


@pytest.mark.parametrize("tau", [0.01, 0.5, 0.9])
def test_slopes(tau):
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
