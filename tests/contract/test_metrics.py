"""What every metric must do, for every task that it fits."""

from dataclasses import is_dataclass

import pytest
import torch
from registered import built_in

from lossbench import registry
from lossbench.interfaces.metric import LinearisedMetric, ScoredMetric
from lossbench.types import BLANK, PADDING

SCORED = [name for name in built_in(registry.metrics) if issubclass(registry.metrics.find(name), ScoredMetric)]
LINEAR = [name for name in SCORED if issubclass(registry.metrics.find(name), LinearisedMetric)]
ROUGH = ("median_absolute_error", "ap_50", "ap_75")
"""Metrics that jump: their influences are those of something smooth beside them."""
SMOOTH = [name for name in LINEAR if name not in ROUGH]
CASES = [(name, task) for task in built_in(registry.tasks) for name in built_in(registry.metrics, task)]
R, N = 5, 40


def values(normal, draw):
    return normal(2), 3 + normal(2)


def one_of_two(normal, draw):
    return normal(1), torch.randint(2, (R, N), generator=draw)


def one_of_four(normal, draw):
    return normal(4), torch.randint(4, (R, N), generator=draw)


def some_of_four(normal, draw):
    return normal(4), torch.randint(2, (R, N, 4), generator=draw)


def transcripts(normal, draw):
    lengths = 1 + torch.randint(3, (R, N, 1), generator=draw)
    return normal(7, 4), torch.where(torch.arange(3) < lengths, torch.randint(1, 4, (R, N, 3), generator=draw), PADDING)


def spelled_out(target):
    """Scores of a path with a blank before and behind each token."""
    path = target.new_full((*target.shape[:-1], 2 * target.shape[-1] + 1), BLANK)
    path[..., 1::2] = target.clamp_min(BLANK)
    return torch.nn.functional.one_hot(path, 4).double()


def overlapping(normal, draw):
    def boxes():
        low = normal(2)
        return torch.cat([low, low + 1 + normal(2).abs()], -1)

    return boxes(), boxes()


DRAWN = {
    "boxes": overlapping,
    "regression": values,
    "binary": one_of_two,
    "multiclass": one_of_four,
    "multilabel": some_of_four,
    "embedding": one_of_four,
    "ctc": transcripts,
}
"""Random predictions and targets of each task; `normal(*shape)` gives `[R, N, *shape]`."""
PERFECT = {
    "boxes": lambda target: target,
    "regression": lambda target: target,
    "binary": lambda target: 1000.0 * (2 * target[..., None] - 1).double(),
    "multiclass": lambda target: 1000.0 * torch.nn.functional.one_hot(target).double(),
    "multilabel": lambda target: 1000.0 * (2 * target - 1).double(),
    "embedding": lambda target: torch.nn.functional.one_hot(target).double(),
    "ctc": spelled_out,
}
"""The point prediction that is right, for targets of each task."""


def draw(task, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return DRAWN[task](lambda *shape: torch.randn(R, N, *shape, generator=generator, dtype=dtype), generator)


def perfect(task, target):
    return PERFECT[task](target)


@pytest.mark.parametrize("name", built_in(registry.metrics))
def test_metric_is_documented_and_frozen(name):
    kind = registry.metrics.find(name)
    assert kind.__doc__
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert (kind.transform == "none") != issubclass(kind, ScoredMetric)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_each_row_is_computed_as_if_alone(name, task):
    metric, (prediction, target) = registry.metrics.get(name), draw(task)
    together = metric(prediction, target)
    alone = torch.cat([metric(prediction[r : r + 1], target[r : r + 1]) for r in range(R)])
    assert together.shape == (R,)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_targets_of_one_row_serve_all(name, task):
    metric, (prediction, target) = registry.metrics.get(name), draw(task)
    shared, repeated = target[:1], target[:1].expand_as(target).contiguous()
    torch.testing.assert_close(metric(prediction, shared), metric(prediction, repeated), rtol=0, atol=0)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_broken_row_is_nan_and_harms_no_other(name, task, broken):
    metric, (prediction, target) = registry.metrics.get(name), draw(task)
    before = metric(prediction, target)
    prediction[2, 7, 0] = broken
    after = metric(prediction, target)
    assert after[2].isnan()
    others = [0, 1, 3, 4]
    assert torch.equal(before[others], after[others])


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_perfect_prediction_gives_the_limit(name, task):
    metric, (_, target) = registry.metrics.get(name), draw(task)
    values = metric(perfect(task, target), target)
    torch.testing.assert_close(values, torch.full_like(values, metric.limit), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_half_precision_is_computed_in_single(name, task):
    metric, (prediction, target) = registry.metrics.get(name), draw(task, torch.float32)
    half = metric(prediction.bfloat16(), target)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, metric(prediction.bfloat16().float(), target))


@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case[0] in SCORED])
def test_scores_have_the_metric_for_their_mean(name, task):
    metric, (prediction, target) = registry.metrics.get(name), draw(task)
    mean = metric.score_examples(prediction, target).mean(-1)
    mean = mean.sqrt() if metric.transform == "root" else mean
    torch.testing.assert_close(mean, metric(prediction, target), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case[0] in SMOOTH])
def test_an_example_more_does_what_its_influence_says(name, task):
    """All examples thirty times, and one of them once more."""
    metric, (prediction, target) = registry.metrics.get(name), draw(task)
    many = [x.repeat_interleave(30, 1) for x in (prediction, target)]
    before, influence = metric(*many), metric.compute_influence(prediction, target)
    for i in range(0, N, 7):
        more = metric(*(torch.cat([x, x[:, i * 30 : i * 30 + 1]], 1) for x in many))
        torch.testing.assert_close((more - before) * 30 * N, influence[:, i], rtol=0.02, atol=0.02)
