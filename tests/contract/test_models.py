"""What every model must do."""

from dataclasses import is_dataclass

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from lossbench import registry
from lossbench.errors import Incompatible

MODELS = registry.models.names()
SHAPES = [(10,), (1, 8, 8), (3, 9, 12)]


def trunk(name, shape, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            module, width = registry.models.get(name).trunk(shape)
        except Incompatible:
            pytest.skip(f"{name} does not take {shape}")
    return module.double(), width


def batch(shape):
    return torch.randn(6, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_model_is_documented_and_frozen(name):
    kind = registry.models.find(name)
    assert kind.__doc__
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_trunk_is_a_sequential_of_the_promised_width(name, shape):
    module, width = trunk(name, shape)
    assert isinstance(module, nn.Sequential)
    assert module(batch(shape)).shape == (6, width)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_weights(name, shape):
    first, second = trunk(name, shape)[0].state_dict(), trunk(name, shape)[0].state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_trunk_can_be_stacked(name, shape):
    modules = [trunk(name, shape, seed)[0] for seed in range(3)]
    if not list(modules[0].parameters()):
        pytest.skip("no parameters to stack")
    parameters, buffers = stack_module_state(modules)
    together = vmap(lambda p, b, x: functional_call(modules[0], (p, b), (x,)), (0, 0, None))(
        parameters, buffers, batch(shape)
    )
    alone = torch.stack([module(batch(shape)) for module in modules])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_an_example_does_not_depend_on_its_batch(name, shape):
    module, _ = trunk(name, shape)
    torch.testing.assert_close(module(batch(shape))[:2], module(batch(shape)[:2]), rtol=0, atol=1e-12)
