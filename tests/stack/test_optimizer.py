"""A replica of the stacked optimiser is torch's optimiser."""

import pytest
import torch

from lossbench.training.optimizer import ReplicaOptimizer, compute_schedule_factor
from lossbench.types import Optimizer

REPLICAS, WIDTH, STEPS = 3, 5, 200


def gradients():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(STEPS, REPLICAS, WIDTH, generator=generator, dtype=torch.float64)


def start():
    return torch.linspace(-1, 1, REPLICAS * WIDTH, dtype=torch.float64).view(REPLICAS, WIDTH)


def stacked(settings, grads=None, decays=None, sizes=(WIDTH,)):
    theta = torch.nn.Parameter(start())
    optimizer = ReplicaOptimizer(theta, settings, STEPS, sizes, torch.ones(WIDTH) if decays is None else decays)
    for gradient in gradients() if grads is None else grads:
        theta.grad = gradient.clone()
        optimizer.step()
    return theta.detach(), optimizer


def alone(settings, replica, clip=None):
    theta = torch.nn.Parameter(start()[replica].clone())
    if settings.name == "sgd":
        optimizer = torch.optim.SGD([theta], lr=settings.lr, momentum=settings.momentum)
    else:
        optimizer = torch.optim.AdamW(
            [theta], lr=settings.lr, betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay
        )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: compute_schedule_factor(settings, t, STEPS))
    for gradient in gradients():
        theta.grad = gradient[replica].clone()
        if clip:
            clip([theta])
        optimizer.step()
        schedule.step()
    return theta.detach()


@pytest.mark.parametrize(
    "settings",
    [
        [Optimizer(lr=lr, schedule="constant") for lr in (0.1, 0.01, 0.001)],
        [Optimizer(lr=0.1, schedule="cosine", warmup=0.1)] * REPLICAS,
        [Optimizer(lr=0.1, weight_decay=d, schedule="cosine") for d in (0.0, 0.1, 0.5)],
        [Optimizer(name="sgd", lr=lr, schedule="cosine", warmup=w) for lr, w in ((0.1, 0.0), (0.01, 0.1), (0.2, 0.5))],
        [Optimizer(lr=0.1, schedule=s, warmup=w) for s, w in (("constant", 0.1), ("cosine", 0.0), ("cosine", 0.3))],
    ],
    ids=["adam", "one rate", "adamw", "sgd", "schedules"],
)
def test_each_row_is_torchs_optimizer(settings):
    theta, _ = stacked(settings)
    for replica, setting in enumerate(settings):
        torch.testing.assert_close(theta[replica], alone(setting, replica), rtol=0, atol=1e-12)


def test_clipping_by_norm_is_torchs_per_row():
    settings = [Optimizer(lr=0.1, clip_mode="norm", clip=c) for c in (0.5, 1.0, 100.0)]
    theta, optimizer = stacked(settings)
    for replica, setting in enumerate(settings):

        def clip(parameters, setting=setting):
            # torch adds 1e-6 to the norm; ours divides by the norm itself
            norm = torch.linalg.vector_norm(parameters[0].grad)
            parameters[0].grad.mul_((setting.clip / norm).clamp(max=1.0))

        torch.testing.assert_close(theta[replica], alone(setting, replica, clip), rtol=0, atol=1e-12)
    assert optimizer.clipped.tolist() == [1.0, 1.0, 0.0]


def test_clipping_by_value_is_torchs():
    settings = [Optimizer(lr=0.1, clip_mode="value", clip=c) for c in (0.1, 0.5, 1.0)]
    theta, _ = stacked(settings)
    for replica, setting in enumerate(settings):
        expected = alone(setting, replica, lambda p, setting=setting: torch.nn.utils.clip_grad_value_(p, setting.clip))
        torch.testing.assert_close(theta[replica], expected, rtol=0, atol=1e-12)


def test_clipping_per_tensor_bounds_each_tensor():
    sgd = Optimizer(name="sgd", lr=1.0, momentum=0.0, schedule="constant", clip_mode="per_tensor", clip=0.5)
    theta, _ = stacked([sgd] * REPLICAS, grads=gradients()[:1], sizes=(2, 3))
    moved = (theta - start()).split((2, 3), 1)
    for part in moved:
        assert (torch.linalg.vector_norm(part, dim=1) <= 0.5 + 1e-12).all()


def test_decay_spares_the_columns_that_are_left_out():
    decays = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])
    settings = [Optimizer(lr=0.1, weight_decay=0.5)] * REPLICAS
    decayed, _ = stacked(settings, decays=decays)
    plain, _ = stacked([Optimizer(lr=0.1)] * REPLICAS)
    torch.testing.assert_close(decayed[:, 2:], plain[:, 2:], rtol=0, atol=0)
    assert (decayed[:, :2] != plain[:, :2]).all()


@pytest.mark.parametrize("rates", [(0.1, 0.1, 0.1), (0.1, 0.2, 0.3)], ids=["one rate", "own rates"])
@pytest.mark.parametrize("mode", ["none", "norm", "value", "per_tensor"])
def test_a_nan_row_stops_where_it_is(mode, rates):
    settings = [Optimizer(lr=lr, weight_decay=0.1, clip_mode=mode, clip=0.5) for lr in rates]
    poisoned = gradients()
    poisoned[50:, 1, 2] = torch.nan
    theta, optimizer = stacked(settings, grads=poisoned)
    clean, _ = stacked(settings)
    until, _ = stacked(settings, grads=gradients()[:50])
    assert optimizer.diverged_step.tolist() == [-1, 50, -1]
    assert torch.equal(theta[[0, 2]], clean[[0, 2]])
    assert torch.equal(theta[1], until[1])


def test_going_on_from_a_saved_state_is_the_same():
    settings = [Optimizer(lr=0.1, weight_decay=0.1)] * REPLICAS
    whole, _ = stacked(settings)
    first, optimizer = stacked(settings, grads=gradients()[:80])
    theta = torch.nn.Parameter(first.clone())
    resumed = ReplicaOptimizer(theta, settings, STEPS, (WIDTH,), torch.ones(WIDTH))
    resumed.load_state_dict(optimizer.state_dict())
    for gradient in gradients()[80:]:
        theta.grad = gradient.clone()
        resumed.step()
    assert torch.equal(theta.detach(), whole)
