"""A stack of networks equals the networks one by one, whatever they are made of."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from lossbench.models.heads import CosineHead
from lossbench.models.recognisers import Columns
from lossbench.training import replicas as layers
from lossbench.training.replicas import Replicas


class Branching(nn.Module):
    """What vmap refuses: a branch on the data."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        out = self.layer(x)
        return out if out.sum() > 0 else -out


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.lstm(x.unflatten(1, (3, 2)))[0][:, -1])


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(x + self.a(x).relu())


def conv(*layers, channels=4):
    return nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), *layers, nn.Flatten(), nn.LazyLinear(3))


def mlp(*sizes):
    chain = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*chain[:-1])


FLAT, IMAGE = (6,), (1, 6, 6)
NETWORKS = {
    "linear": (lambda: nn.Linear(6, 3), FLAT, "batched"),
    "no bias": (lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)), FLAT, "batched"),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 4), nn.GELU()), nn.Linear(4, 3)), FLAT, "batched"),
    "deep": (lambda: mlp(6, 20, 20, 20, 3), FLAT, "batched"),
    "narrow": (lambda: mlp(6, 20, 2, 1, 20), FLAT, "batched"),
    "cosine": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), CosineHead(4, 3)), FLAT, "batched"),
    "flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), IMAGE, "batched"),
    "conv": (lambda: conv(nn.ReLU(), nn.MaxPool2d(2)), IMAGE, "batched"),
    "strides": (lambda: conv(nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), nn.AvgPool2d(2)), IMAGE, "batched"),
    "group norm": (lambda: conv(nn.GroupNorm(2, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(2)), IMAGE, "batched"),
    "norm without affine": (lambda: conv(nn.GroupNorm(2, 4, affine=False)), IMAGE, "batched"),
    "columns": (lambda: conv(nn.MaxPool2d((2, 1)), Columns(), nn.Linear(12, 5), nn.ReLU()), IMAGE, "batched"),
    "flat before conv": (
        lambda: nn.Sequential(nn.Linear(6, 6), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 3)),
        IMAGE,
        "batched",
    ),
    "circular padding": (lambda: conv(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")), IMAGE, "vmap"),
    "residual": (Residual, FLAT, "vmap"),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)), FLAT, "vmap"),
    "batch norm": (lambda: conv(nn.BatchNorm2d(4), nn.ReLU()), IMAGE, "vmap"),
    "branching": (Branching, FLAT, "loop"),
    "LSTM": (Recurrent, FLAT, "loop"),
}
R, B = layers.FEWEST_MATRICES, 5


def build_networks(make, shape):
    made = []
    for seed in range(R):
        torch.manual_seed(seed)
        network = make().double()
        network(torch.zeros(2, *shape, dtype=torch.float64))  # lazy layers
        made.append(network)
    return made


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("one_thread", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_gradients_and_buffers_equal_the_networks_alone(name, one_thread, one_by_one, monkeypatch):
    monkeypatch.setattr(layers, "ONE_THREAD", one_thread)
    monkeypatch.setattr(layers, "is_replica_by_replica", lambda x: one_by_one)  # a GPU takes all replicas at once
    make, shape, route = NETWORKS[name]
    alone = build_networks(make, shape)
    replicas = Replicas([copy.deepcopy(n) for n in alone])
    inputs = torch.randn(R, B, *shape, dtype=torch.float64)
    replicas.choose_route(inputs)
    assert replicas.route == route
    out, extra = replicas(inputs)
    assert extra.shape == (R, 0)
    out.square().sum().backward()
    for replica, network in enumerate(alone):
        expected = network(inputs[replica])
        expected.square().sum().backward()
        torch.testing.assert_close(out[replica], expected, rtol=1e-10, atol=1e-12)
        gradients, _ = replicas.get_tensors(replicas.theta.grad)
        for own, parameter in network.named_parameters():
            torch.testing.assert_close(gradients[own][replica], parameter.grad, rtol=1e-10, atol=1e-12)
        for buffer_name, buffer in network.named_buffers():
            torch.testing.assert_close(replicas.get_stacked_buffers()[buffer_name][replica], buffer)


def test_evaluation_mode_reaches_the_network_and_leaves_buffers_alone():
    make, shape, _ = NETWORKS["batch norm"]
    alone = build_networks(make, shape)
    replicas = Replicas([copy.deepcopy(n) for n in alone]).eval()
    inputs = torch.randn(R, B, *shape, dtype=torch.float64)
    before = {n: b.clone() for n, b in replicas.get_stacked_buffers().items()}
    out, _ = replicas(inputs)
    torch.testing.assert_close(out[1], alone[1].eval()(inputs[1]), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(b, before[n]) for n, b in replicas.get_stacked_buffers().items())


def test_a_network_that_is_broken_says_so_itself():
    replicas = Replicas([nn.Sequential(nn.Linear(6, 4), nn.Linear(5, 3))] * R)
    with pytest.raises(RuntimeError, match="shapes"):
        replicas.choose_route(torch.randn(R, B, 6))


def test_decay_acts_on_matrices_and_kernels_only():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(2, 3))
    replicas = Replicas([network], torch.zeros(1, 7))
    decayed = replicas.get_decay_mask().bool()
    assert decayed.sum() == 2 * 9 + 2 * 3
    assert not decayed[-7:].any()  # the loss's own parameters


def test_half_precision_goes_by_torchs_own_products(monkeypatch):
    monkeypatch.setattr(layers, "ONE_THREAD", True)
    replicas = Replicas([mlp(6, 20, 3)] * R)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = replicas(torch.randn(R, B, 6))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert replicas.theta.grad.isfinite().all()
