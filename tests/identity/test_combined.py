"""What weighs the terms of a combined loss, against its formulas written down once more."""

import math

import numpy as np
import pytest
import torch
from torchjd.aggregation import PCGradWeighting

from lossbench import weightings
from lossbench.types import Problem
from lossbench.weightings.terms import draw_uniform, project_gradients

PROBLEM = Problem((4,), 3, 100, ("a", "b", "c"))
F64 = torch.float64


def test_uncertainty_rests_where_its_variances_are_the_losses():
    """Kendall et al.: the minimum over s of exp(-s) l + s is at exp(s) = l, and is 1 + log l."""
    scheme = weightings.get("uncertainty")
    values = torch.tensor([0.2, 5.0], dtype=F64)
    parameters = {"log_variance": values.log().requires_grad_()}
    total = (scheme(values, parameters=parameters) * values).sum() + scheme.penalty(parameters)
    torch.testing.assert_close(total, (1 + values.log()).sum())
    (gradient,) = torch.autograd.grad(total, parameters["log_variance"])
    torch.testing.assert_close(gradient, torch.zeros(2, dtype=F64))


def test_dwa_compares_the_last_two_epochs():
    scheme = weightings.get("dwa", temperature=1.5)
    by_epoch = np.array([[[4.0, 1.0], [2.0, 1.0]], [[1.5, 0.8], [0.5, 0.8]], [[0.3, 0.7], [0.1, 0.7]]])
    state = scheme.init_state(2, torch.Generator())
    for epoch, steps in enumerate(by_epoch):
        for step in steps:
            weights, state = scheme(torch.tensor(step, dtype=torch.float32), state=state, epoch=epoch)
            if epoch < 2:
                assert weights.tolist() == [1.0, 1.0]
    ratio = by_epoch[1].mean(0) / by_epoch[0].mean(0)
    e = np.exp(ratio / 1.5)
    np.testing.assert_allclose(weights.numpy(), 2 * e / e.sum(), rtol=1e-6)


def test_draws_are_those_of_splitmix64():
    """The first outputs for seed 1234567, as published with java.util.SplittableRandom's reference code in C."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    state = torch.tensor([1234567])
    for wanted in published:
        uniform, state = draw_uniform(state)
        assert uniform.item() == pytest.approx(wanted / 2**64, abs=2.0**-52)


def test_random_weights_are_the_softmax_of_normal_numbers():
    """With two terms their log ratio is the difference of two normals: variance 2."""
    scheme = weightings.get("random")
    state = torch.stack([scheme.init_state(2, torch.Generator().manual_seed(i)) for i in range(4000)])
    weights, _ = scheme(torch.ones(4000, 2, dtype=F64), state=state)
    ratio = (weights[:, 0] / weights[:, 1]).log()
    assert ratio.mean().abs() < 4 * math.sqrt(2 / 4000)
    assert ratio.var().item() == pytest.approx(2, rel=0.1)


def test_gradnorm_evens_the_gradients_out():
    """Without a pull by progress (alpha 0) it rests where all weighted norms are equal."""
    scheme = weightings.get("gradnorm", alpha=0.0, rate=0.002)
    norms = torch.tensor([1.0, 4.0, 2.0], dtype=F64)
    state = scheme.init_state(3, torch.Generator()).double()
    for _ in range(3000):
        weights, state = scheme(torch.ones(3, dtype=F64), state=state, gramian=torch.diag(norms**2))
    wanted = 1 / norms / (1 / norms).mean()
    torch.testing.assert_close(weights, wanted, rtol=0.02, atol=0.02)


def brute_pcgrad(gradients, order):
    """Algorithm 1 of Yu et al., on the gradients themselves."""
    found = np.zeros_like(gradients[0])
    for i, gradient in enumerate(gradients):
        own = gradient.copy()
        for j in order[i]:
            if j != i and own @ gradients[j] < 0:
                own = own - own @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        found += own
    return found


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_projects_as_the_paper_does(seed):
    draw = np.random.default_rng(seed)
    gradients = draw.standard_normal((4, 3))  # in three dimensions four of them disagree a lot
    order = np.stack([draw.permutation(4) for _ in range(4)])
    weights = project_gradients(torch.tensor(gradients @ gradients.T), torch.tensor(order)).sum(-2)
    np.testing.assert_allclose(weights.numpy() @ gradients, brute_pcgrad(gradients, order), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_of_two_terms_is_torchjds(seed):
    """With two there is but one order."""
    gradients = torch.tensor(np.random.default_rng(seed).standard_normal((2, 3)))
    gramian = gradients @ gradients.T
    scheme = weightings.get("pcgrad")
    state = scheme.init_state(2, torch.Generator())
    weights, _ = scheme(torch.ones(2, dtype=F64), state=state, gramian=gramian)
    torch.testing.assert_close(weights, PCGradWeighting()(gramian))
