"""What every task must do."""

from dataclasses import is_dataclass

import numpy as np
import pytest
import torch
from registered import built_in

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling
from lossbench.models import heads
from lossbench.types import Encoding, Head, Problem, Space

TASKS = built_in(registry.tasks)
R, B, T = 3, 5, 7


def load(name):
    task = registry.tasks.get(name)
    examples = registry.datasets.get(task.defaults["data"]).load()
    problem = Problem(
        examples.inputs.shape[1:], task.count_outputs(examples), len(examples.inputs), examples.class_names
    )
    shift, scale = task.fit_scaling(examples.targets)
    return task, examples, problem, Scaling(torch.as_tensor(shift), torch.as_tensor(scale))


def raw_for(task, problem, space, *leading):
    pairs = dict.fromkeys((Space.MEAN_LOG_SCALE, Space.ZERO_INFLATED), Head.MEAN_SCALE)
    needed = (pairs | {Space.EMBEDDING: Head.EMBEDDING}).get(space, Head.LINEAR)
    width = task.get_head_width(needed, problem)
    steps = (T,) if task.sequence else ()
    return torch.randn(*leading, *steps, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def cases(fact):
    return [pytest.param(n, value, id=f"{n}-{value}") for n in TASKS for value in getattr(registry.tasks.get(n), fact)]


@pytest.mark.parametrize("name", TASKS)
def test_task_is_documented_and_frozen(name):
    kind = registry.tasks.find(name)
    assert kind.__doc__
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("name", TASKS)
def test_task_names_what_is_registered_and_fits(name):
    task = registry.tasks.get(name)
    assert set(task.metrics) <= set(registry.metrics.names(name))
    for key, kind in {"loss": "losses", "data": "datasets", "model": "models", "corruption": "corruptions"}.items():
        assert task.defaults[key] in registry.ALL[kind].names(name)
    assert set(task.settings) == {"epochs", "batch_size", "lr"}
    assert 0 < task.target_share < 1


@pytest.mark.parametrize(("name", "space"), cases("spaces"))
def test_conversion_keeps_leading_axes_and_rows_apart(name, space):
    task, _, problem, scaling = load(name)
    raw = raw_for(task, problem, space, R, B)
    stacked = Scaling(*(part.expand(R, 1, -1) for part in scaling))
    together = task.convert(raw, space, stacked)
    alone = torch.stack([task.convert(row, space, scaling) for row in raw])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "space"), cases("spaces"))
@pytest.mark.parametrize("size", [1e3, -1e3])
def test_conversion_of_extreme_values_and_its_gradient_are_finite(name, space, size):
    task, _, problem, scaling = load(name)
    raw = torch.full_like(raw_for(task, problem, space, B), size)
    raw[..., 0] = 0
    raw.requires_grad_()
    converted = task.convert(raw, space, scaling)
    converted.sum().backward()
    assert converted.isfinite().all()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize(("name", "space"), cases("spaces"))
def test_point_is_what_the_metrics_take(name, space):
    task, examples, problem, scaling = load(name)
    # the loss makes scores of an embedding, unless it is the embedding that is measured
    made = Space.LOGIT if space is Space.EMBEDDING and not task.held_out_classes else space
    raw = raw_for(task, problem, made, R, B)
    point = task.predict(raw, space, problem, scaling)
    target = torch.as_tensor(examples.targets[:B]).expand(R, *examples.targets[:B].shape)
    for metric in task.metrics:
        assert registry.metrics.get(metric)(point, target).shape == (R,)


@pytest.mark.parametrize(("name", "encoding"), cases("encodings"))
def test_encoding_keeps_leading_axes_and_rows_apart(name, encoding):
    task, examples, problem, scaling = load(name)
    task.check(examples.targets, encoding)
    target = torch.as_tensor(examples.targets[: R * B]).reshape(R, B, *examples.targets.shape[1:])
    stacked = Scaling(*(part.expand(R, 1, -1) for part in scaling))
    together = task.encode(target, encoding, problem, stacked)
    alone = torch.stack([task.encode(row, encoding, problem, scaling) for row in target])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert together.dtype == (torch.int64 if encoding in (Encoding.INDEX, Encoding.TOKENS) else torch.float64)


@pytest.mark.parametrize(("name", "head"), cases("heads"))
def test_head_can_be_built(name, head):
    task, _, problem, _ = load(name)
    layer = heads.build_head(head, 7, task.get_head_width(head, problem))
    assert layer(torch.zeros(B, 7)).shape == (B, task.get_head_width(head, problem))


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_lacks_is_refused_with_what_it_has(name):
    task, examples, problem, scaling = load(name)
    raw = raw_for(task, problem, task.spaces[0], B)
    target = torch.as_tensor(examples.targets[:B])
    for space in set(Space) - set(task.spaces):
        with pytest.raises(Incompatible, match=task.spaces[0]):
            task.convert(raw, space, scaling)
    for encoding in set(Encoding) - set(task.encodings):
        with pytest.raises(Incompatible, match=task.encodings[0]):
            task.encode(target, encoding, problem, scaling)
        with pytest.raises(Incompatible, match=task.encodings[0]):
            task.check(examples.targets, encoding)
    for head in set(Head) - set(task.heads):
        with pytest.raises(Incompatible, match=task.heads[0]):
            task.get_head_width(head, problem)


@pytest.mark.parametrize("name", TASKS)
def test_trivial_prediction_is_constant_and_scored_by_all_metrics(name):
    task, examples, problem, scaling = load(name)
    trivial = task.predict_baseline(examples.targets, len(examples.targets), problem)
    point = task.predict(raw_for(task, problem, task.spaces[0], B), task.spaces[0], problem, scaling)
    assert (len(trivial), trivial.shape[-1]) == (len(examples.targets), point.shape[-1])
    assert trivial.ndim == (3 if task.sequence else 2)
    assert (trivial == trivial[0]).all()
    for metric in task.metrics:
        value = registry.metrics.get(metric)(torch.as_tensor(trivial)[None], torch.as_tensor(examples.targets)[None])
        assert value.isfinite().all()


@pytest.mark.parametrize("name", TASKS)
def test_scaling_and_class_counts_fit_the_targets(name):
    task, examples, problem, scaling = load(name)
    counts = task.count_per_class(examples.targets, problem)
    assert scaling.shift.shape == scaling.scale.shape
    assert (scaling.scale > 0).all()
    assert (counts is None) == (not {Encoding.INDEX, Encoding.MULTI_HOT} & set(task.encodings))
    if counts is not None:
        hot = examples.targets.ndim == 2
        wanted = examples.targets.sum(0) if hot else np.unique(examples.targets, return_counts=True)[1]
        np.testing.assert_array_equal(counts, wanted)
