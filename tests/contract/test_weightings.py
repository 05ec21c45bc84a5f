"""What every weighting must do."""

from dataclasses import is_dataclass

import numpy as np
import pytest
import torch

from lossbench import registry
from lossbench.types import Encoding, Need

REQUIRED = {"classes": {"weights": [1.0, 2.0, 4.0]}}
NAMES = ("a", "b", "c")
R, B, D = 4, 90, 2
WEIGHTINGS = registry.weightings.names()


def build(name):
    return registry.weightings.get(name, **REQUIRED.get(name, {}))


def given(weighting, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    losses = torch.rand(R, B, generator=draw, dtype=dtype)
    index = torch.randint(3, (R, B), generator=draw).clamp_max(torch.arange(1, R + 1)[:, None].clamp_max(2))
    prediction, values = torch.randn(2, R, B, D, generator=draw, dtype=dtype)
    counts = torch.stack([torch.bincount(row, minlength=3) for row in index]).unsqueeze(-2)
    scale = torch.rand(R, 1, D, generator=draw, dtype=dtype) + 0.1
    facts = {Need.CLASS_COUNTS: counts.float(), Need.CLASS_NAMES: NAMES, Need.RESIDUAL_SCALE: scale}
    target = {Encoding.INDEX: index, Encoding.VALUE: values, None: None}[weighting.encoding]
    needs = {str(need): facts[need] for need in weighting.needs}
    return (losses, prediction if weighting.space else None, target), needs


def row(value, r):
    return value[r] if torch.is_tensor(value) else value


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weighting_is_documented_and_frozen(name):
    kind = registry.weightings.find(name)
    assert kind.__doc__
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_like_the_losses_and_never_negative(name, dtype):
    weighting = build(name)
    tensors, needs = given(weighting, dtype)
    weights = weighting(*tensors, **needs)
    assert (weights.shape, weights.dtype, weights.requires_grad) == ((R, B), dtype, False)
    assert weights.isfinite().all()
    assert (weights >= 0).all()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_stacked_equals_alone(name):
    weighting = build(name)
    tensors, needs = given(weighting)
    together = weighting(*tensors, **needs)
    for r in range(R):
        alone = weighting(*(row(t, r) for t in tensors), **{k: row(v, r) for k, v in needs.items()})
        torch.testing.assert_close(together[r], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if build(n).encoding is Encoding.INDEX])
def test_label_weights_have_mean_one_over_the_training_split(name):
    weighting = build(name)
    tensors, needs = given(weighting)  # the batch is the training split: class_counts are its counts
    np.testing.assert_allclose(weighting(*tensors, **needs).mean(-1), 1, rtol=1e-12)
