"""What every model must do."""

from dataclasses import is_dataclass

import pytest
import torch
from registered import built_in
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from lossbench import registry
from lossbench.errors import Incompatible

MODELS = built_in(registry.models)
SHAPES = [(10,), (1, 8, 8), (3, 9, 12)]
LOOPED = {"recogniser_lstm"}  # vmap refuses an LSTM


def trunk(name, shape, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module, width = registry.models.get(name).trunk(shape)
    return module.double(), width


def takes(name, shape):
    try:
        trunk(name, shape)
    except Incompatible:
        return False
    return True


CASES = [(name, shape) for name in MODELS for shape in SHAPES if takes(name, shape)]
TRAINABLE = [case for case in CASES if case[0] not in LOOPED and list(trunk(*case)[0].parameters())]


def batch(shape):
    return torch.randn(6, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_some_inputs(name):
    assert name in {case[0] for case in CASES}


@pytest.mark.parametrize("name", MODELS)
def test_model_is_documented_and_frozen(name):
    kind = registry.models.find(name)
    assert kind.__doc__
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_trunk_is_a_sequential_of_the_promised_width(name, shape):
    module, width = trunk(name, shape)
    assert isinstance(module, nn.Sequential)
    features = module(batch(shape))
    assert features.shape[:: features.ndim - 1] == (6, width)
    assert features.ndim == (3 if registry.models.find(name).sequence else 2)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_same_seed_same_weights(name, shape):
    first, second = trunk(name, shape)[0].state_dict(), trunk(name, shape)[0].state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "shape"), TRAINABLE)
def test_trunk_can_be_stacked(name, shape):
    modules = [trunk(name, shape, seed)[0] for seed in range(3)]
    parameters, buffers = stack_module_state(modules)
    together = vmap(lambda p, b, x: functional_call(modules[0], (p, b), (x,)), (0, 0, None))(
        parameters, buffers, batch(shape)
    )
    alone = torch.stack([module(batch(shape)) for module in modules])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_an_example_does_not_depend_on_its_batch(name, shape):
    module, _ = trunk(name, shape)
    torch.testing.assert_close(module(batch(shape))[:2], module(batch(shape)[:2]), rtol=0, atol=1e-12)
