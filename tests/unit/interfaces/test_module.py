"""LossModule: a loss in somebody's own training script."""

import pytest
import torch
from torch import nn

from lossbench import losses
from lossbench.errors import InvalidValue
from lossbench.interfaces import LossModule
from lossbench.interfaces.loss import refresh_scale
from lossbench.types import Problem

PROBLEM = Problem(input_shape=(4,), n_outputs=3, n_examples=10)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_trains_a_network():
    x = drawn(64, 4)
    y = x @ drawn(4, 2, seed=1)
    network, criterion = nn.Linear(4, 2), losses.get("huber").module()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    first = criterion(network(x), y).item()
    for _ in range(50):
        optimizer.zero_grad()
        criterion(network(x), y).backward()
        optimizer.step()
    assert criterion(network(x), y).item() < 0.05 * first


def test_integer_targets_of_a_value_loss_need_no_cast():
    p = drawn(5, 2)
    hot = torch.ones(5, 2, dtype=torch.float64)
    assert losses.get("bce").module()(p, hot).dtype == torch.float32


@pytest.mark.parametrize("reduction", ["avg", None, ""])
def test_unknown_reduction(reduction):
    with pytest.raises(InvalidValue, match="must be one of mean, sum, none"):
        losses.get("mse").module(reduction)


def test_class_counts_are_required_and_kept_with_the_module():
    with pytest.raises(InvalidValue, match="LogitAdjusted needs class_counts, the training examples per class"):
        losses.get("logit_adjusted").module()
    module = losses.get("logit_adjusted").module(class_counts=[80, 15, 5])
    assert module.state_dict()["class_counts"].tolist() == [80, 15, 5]
    p, y = drawn(6, 3), torch.arange(6) % 3
    shifted = p + torch.tensor([0.80, 0.15, 0.05]).log()
    torch.testing.assert_close(module(p, y), nn.functional.cross_entropy(shifted, y))


def test_what_a_loss_has_no_use_for_is_refused():
    with pytest.raises(InvalidValue, match="MSE has no use for 'class_counts'; it can be given: nothing"):
        losses.get("mse").module(class_counts=[1, 2])
    with pytest.raises(InvalidValue, match="Tukey has no use for 'scale'; it can be given: residual_scale"):
        losses.get("tukey").module(scale=1.0)


@pytest.mark.parametrize("name", ["arcface", "barron_adaptive", "elr"])
def test_sizes_are_required_where_tensors_are_made(name):
    with pytest.raises(InvalidValue, match=r"has trainable parameters or a state: give problem=Problem"):
        losses.get(name).module()


def test_what_a_call_needs():
    module = losses.get("elr").module(problem=PROBLEM)
    with pytest.raises(InvalidValue, match="ELR needs index with each call"):
        module(drawn(4, 3), torch.zeros(4, dtype=torch.long))


def test_parameters_are_trained_with_the_model():
    # residuals three times wider than the scale that the loss starts with
    residual = 3 * drawn(500, 3)
    module = losses.get("barron_adaptive").module(problem=PROBLEM)
    assert sorted(n for n, _ in module.named_parameters()) == ["trainable.alpha_logit", "trainable.log_scale"]
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        module(residual, torch.zeros_like(residual)).backward()
        optimizer.step()
    # normal residuals: alpha goes up, c to their standard deviation
    assert module.trainable["alpha_logit"].min() > 1
    torch.testing.assert_close(module.trainable["log_scale"].exp(), torch.full((1, 3), 3.0), rtol=0.2, atol=0)


def test_parameters_depend_on_the_seed_alone():
    def weight(seed):
        return losses.get("arcface").module(problem=PROBLEM, seed=seed).trainable["weight"]

    torch.manual_seed(5)
    first = weight(0)
    assert torch.equal(first, weight(0))
    assert not torch.equal(first, weight(1))


def test_state_moves_on_in_training_only():
    module = losses.get("elr").module(problem=PROBLEM)
    p, y, index = drawn(4, 3).requires_grad_(), torch.zeros(4, dtype=torch.long), torch.tensor([7, 1, 0, 4])
    module.eval()
    module(p, y, index=index)
    assert (module.state == 0).all()
    module.train()
    module(p, y, index=index)
    assert (module.state.sum(1) > 0).nonzero().flatten().tolist() == [0, 1, 4, 7]
    assert not module.state.requires_grad
    torch.testing.assert_close(module.state[7], 0.3 * p[0].detach().softmax(-1), rtol=1e-3, atol=1e-4)
    assert module.state_dict()["state"].shape == (10, 3)


def test_running_scale_of_the_residuals():
    module = losses.get("tukey").module("none")
    zeros = torch.zeros(201, 2)
    wide = torch.stack([torch.linspace(-1, 1, 201), torch.linspace(-3, 3, 201)], 1)
    module(wide, zeros)
    # the median of |linspace(-1, 1)| is 0.5
    torch.testing.assert_close(module.residual_scale, 1.4826 * torch.tensor([[0.5, 1.5]]))
    module(3 * wide, zeros)
    torch.testing.assert_close(module.residual_scale, 1.4826 * 1.2 * torch.tensor([[0.5, 1.5]]))
    assert not module.residual_scale.requires_grad
    module.eval()
    module(100 * wide, zeros)
    torch.testing.assert_close(module.residual_scale, 1.4826 * 1.2 * torch.tensor([[0.5, 1.5]]))


def test_scale_before_any_training_is_that_of_the_batch():
    module = losses.get("tukey").module("none").eval()
    p = drawn(50, 2)
    scale = refresh_scale(torch.zeros(()), p, torch.zeros(50, 2))
    torch.testing.assert_close(
        module(p, torch.zeros(50, 2)), losses.Tukey()(p, torch.zeros(50, 2), residual_scale=scale)
    )
    assert (module.residual_scale == 0).all()


def test_a_given_scale_stays():
    module = losses.get("tukey").module(residual_scale=2.0)
    module(drawn(50, 2), torch.zeros(50, 2))
    assert module.residual_scale == 2


def test_scale_is_per_row_of_a_stack():
    p = drawn(3, 50, 2)
    alone = [refresh_scale(torch.zeros(()), row, torch.zeros_like(row)) for row in p]
    torch.testing.assert_close(refresh_scale(torch.zeros(3, 1, 1), p, torch.zeros_like(p)), torch.stack(alone))


def test_is_made_by_the_loss():
    module = losses.get("focal", gamma=1.0).module("sum")
    assert isinstance(module, LossModule)
    assert module.loss == losses.Focal(gamma=1.0)
