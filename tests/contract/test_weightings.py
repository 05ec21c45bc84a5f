"""What every weighting must do."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from registered import built_in

from lossbench import registry
from lossbench.interfaces import TermWeighting
from lossbench.interfaces.loss import replicate
from lossbench.types import Encoding, Requirement

REQUIRED = {"classes": {"weights": [1.0, 2.0, 4.0]}}
NAMES = ("a", "b", "c")
R, B, C, D = 4, 90, 3, 2
ALL = built_in(registry.weightings)
# those of the terms of a combined loss keep another contract: test_term_weightings.py
WEIGHTINGS = [name for name in ALL if not issubclass(registry.weightings.find(name), TermWeighting)]


def build(name):
    return registry.weightings.get(name, **REQUIRED.get(name, {}))


# one case for each target that a weighting takes
CASES = [(n, e) for n in WEIGHTINGS for e in build(n).encodings or (None,)]
COUNTING = [
    (n, e)
    for n, e in CASES
    if Requirement.CLASS_COUNTS in build(n).requires and Requirement.PROGRESS not in build(n).requires
]
DIFFERENTIABLE = [(n, e) for n, e in CASES if build(n).differentiable]


def given(weighting, encoding, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    index = torch.randint(C, (R, B), generator=draw).clamp_max(torch.arange(1, R + 1)[:, None].clamp_max(2))
    hot = torch.randint(2, (R, B, C), generator=draw)
    width = D if encoding is Encoding.VALUE else C
    prediction, values = torch.randn(2, R, B, width, generator=draw, dtype=dtype)
    target = {Encoding.INDEX: index, Encoding.VALUE: values, Encoding.MULTI_HOT: hot.to(dtype), None: None}[encoding]
    of_labels = encoding is Encoding.MULTI_HOT
    losses = torch.rand(hot.shape if of_labels else index.shape, generator=draw, dtype=dtype)
    by_class = torch.stack([torch.bincount(row, minlength=C) for row in index])
    facts = {
        # the batch is the training split
        Requirement.CLASS_COUNTS: (hot.sum(1) if of_labels else by_class).unsqueeze(-2).float(),
        Requirement.CLASS_NAMES: NAMES,
        Requirement.N_EXAMPLES: B,
        Requirement.PROGRESS: 0.9,
        Requirement.RESIDUAL_SCALE: torch.rand(R, 1, D, generator=draw, dtype=dtype) + 0.1,
        Requirement.SAMPLE_WEIGHT: torch.rand(R, B, generator=draw, dtype=torch.float64),
    }
    requires = {str(need): facts[need] for need in weighting.requires}
    return (losses, prediction if weighting.space else None, target), requires


def row(value, r):
    return value[r] if torch.is_tensor(value) else value


@pytest.mark.parametrize("name", ALL)
def test_weighting_is_documented_and_frozen(name):
    kind = registry.weightings.find(name)
    assert kind.__doc__
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert kind.use_when or name == "none"


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_targets_exist_in_its_tasks(name):
    weighting = build(name)
    tasks = [registry.tasks.get(t) for t in weighting.tasks if t != "*"]
    if weighting.encodings:
        assert all(weighting.select_encoding(task) for task in tasks)
    if weighting.space:
        assert all(weighting.space in task.spaces for task in tasks)


@pytest.mark.parametrize(("name", "encoding"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_like_the_losses_and_never_negative(name, encoding, dtype):
    weighting = build(name)
    tensors, requires = given(weighting, encoding, dtype)
    weights = weighting(*tensors, **requires)
    assert (weights.shape, weights.dtype, weights.requires_grad) == (tensors[0].shape, dtype, False)
    assert weights.isfinite().all()
    assert (weights >= 0).all()


@pytest.mark.parametrize(("name", "encoding"), CASES)
def test_stacked_equals_alone(name, encoding):
    weighting = build(name)
    tensors, requires = given(weighting, encoding)
    together = weighting(*tensors, **requires)
    for r in range(R):
        alone = weighting(*(row(t, r) for t in tensors), **{k: row(v, r) for k, v in requires.items()})
        torch.testing.assert_close(together[r], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "encoding"), CASES)
def test_stacked_fields_equal_separate_weightings(name, encoding):
    weighting = build(name)
    tensors, requires = given(weighting, encoding)
    axes = (R, *[1] * (tensors[0].ndim - 1))
    floats = [f.name for f in fields(weighting) if isinstance(getattr(weighting, f.name), float)]
    for field in set(floats) - set(weighting.static_fields):
        values = [getattr(weighting, field) * share for share in (1.0, 0.9, 0.5, 0.1)]
        stacked = replicate(weighting, **{field: torch.tensor(values, dtype=torch.float64).view(axes)})
        together = stacked(*tensors, **requires)
        for r, value in enumerate(values):
            own = replace(weighting, **{field: value})
            alone = own(*(row(t, r) for t in tensors), **{k: row(v, r) for k, v in requires.items()})
            torch.testing.assert_close(together[r], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "encoding"), COUNTING)
def test_label_weights_have_mean_one_over_the_training_split(name, encoding):
    weighting = build(name)
    tensors, requires = given(weighting, encoding)
    np.testing.assert_allclose(weighting(*tensors, **requires).flatten(1).mean(-1), 1, rtol=1e-7)


@pytest.mark.parametrize(("name", "encoding"), DIFFERENTIABLE)
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_gradients_of_weights_are_finite(name, encoding, scale):
    weighting = build(name)
    (losses, prediction, target), requires = given(weighting, encoding, torch.float32)
    prediction = (scale * prediction).requires_grad_()
    weights = weighting(losses, prediction, target, **requires)
    (gradient,) = torch.autograd.grad(weights.sum(), prediction)
    assert gradient.isfinite().all()
    assert gradient.any() or scale > 1


@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - {"deferred"}))
def test_every_other_scheme_can_be_deferred(name):
    inner = {"name": name, **REQUIRED.get(name, {})}
    deferred = registry.weightings.get("deferred", scheme=inner, after=0.5)
    for encoding in deferred.encodings or (None,):
        tensors, requires = given(deferred, encoding)
        own = {str(n): requires[n] for n in build(name).requires}
        torch.testing.assert_close(deferred(*tensors, **requires), build(name)(*tensors, **own))
        assert deferred(*tensors, **(requires | {"progress": 0.49})).eq(1).all()
