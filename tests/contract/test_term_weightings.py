"""What every weighting of the terms of a combined loss must do."""

import pytest
import torch
from registered import built_in

from lossbench import registry
from lossbench.interfaces import TermWeighting
from lossbench.types import Requirement

NAMES = [n for n in built_in(registry.weightings) if issubclass(registry.weightings.find(n), TermWeighting)]
R, K = 3, 4


def start(weighting):
    """Parameters and states of R trials, each with its own seed."""
    states = [weighting.init_state(K, torch.Generator().manual_seed(r)) for r in range(R)]
    state = None if states[0] is None else torch.stack([s.double() if s.is_floating_point() else s for s in states])
    return {n: p.double().expand(R, *p.shape).clone() for n, p in weighting.init_parameters(K).items()}, state


def trajectory(weighting, losses, gramians, rows=slice(None), parameters=None, n_steps=9):
    """The weights `[steps, r, K]` that it gives over three epochs of three steps."""
    made, state = start(weighting)
    parameters = {n: p[rows] for n, p in (parameters or made).items()}
    state = None if state is None else state[rows]
    found = []
    for step in range(n_steps):
        facts = {
            Requirement.PARAMETERS: parameters,
            Requirement.STATE: state,
            Requirement.EPOCH: step // 3,
            Requirement.GRAMIAN: gramians[step][rows],
        }
        given = {str(n): facts[n] for n in weighting.requires}
        result = weighting(losses[step][rows], **given)
        if Requirement.STATE in weighting.requires:
            result, state = result
        found.append(result)
    return torch.stack(found)


@pytest.fixture
def run():
    draw = torch.Generator().manual_seed(0)
    losses = torch.rand(9, R, K, generator=draw, dtype=torch.float64) + 0.1
    gradients = torch.randn(9, R, K, 5, generator=draw, dtype=torch.float64)
    return losses, gradients @ gradients.mT


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_finite_and_not_negative(name, run):
    weights = trajectory(registry.weightings.get(name), *run)
    assert weights.shape == (9, R, K)
    assert weights.isfinite().all()
    assert (weights >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_see_each_other(name, run):
    weighting = registry.weightings.get(name)
    together = trajectory(weighting, *run)
    for r in range(R):
        torch.testing.assert_close(together[:, r : r + 1], trajectory(weighting, *run, rows=slice(r, r + 1)))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("uncertainty", "pcgrad")])
def test_weights_have_mean_one(name, run):
    weights = trajectory(registry.weightings.get(name), *run)
    torch.testing.assert_close(weights.mean(-1), torch.ones(9, R, dtype=torch.float64))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "random"])
def test_training_starts_with_all_terms_alike(name, run):
    losses, gramians = run
    agreeing = torch.eye(K, dtype=torch.float64).expand_as(gramians)
    first = trajectory(registry.weightings.get(name), losses, agreeing)[0]
    torch.testing.assert_close(first, torch.ones_like(first))
