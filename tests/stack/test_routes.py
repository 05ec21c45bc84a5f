"""The route of a loss is the fastest that agrees with the loop."""

from dataclasses import fields, replace

import pytest
import torch
from registered import built_in

import lossbench
from lossbench import losses, registry
from lossbench.check.calls import draw_call, stack_calls
from lossbench.training.routes import choose_route, find_differing_fields

BUILT_IN = [name for name in built_in(registry.losses) if registry.losses.find(name).family != "composition"]
"""All but those that are made of others."""


def replicas(loss, differ):
    """Three losses, whose float fields differ (upwards: some must be above 1) or not."""
    free = [f.name for f in fields(loss) if f.type is float] if differ else []
    return [replace(loss, **{n: (getattr(loss, n) or 0.1) * s for n in free}) for s in (1.0, 1.02, 1.05)]


def free(prediction, target):
    return (prediction - target).square().mean(-1)


def one_batch_only(prediction, target):
    if prediction.ndim != 2:
        raise ValueError("one batch, please")
    return (prediction - target).square().mean(1)


def wrong_on_stacks(prediction, target):
    """Sums over the wrong axis, without an error, when it is given a stack."""
    return (prediction - target).square().sum(1)


def coupled_by_axis(prediction, target):
    return (prediction - target).square().mean((0, 1))


def counts_with_item(prediction, target):
    return (prediction - target).square().mean() * max(1, (target > 0).sum().item())


def masked(prediction, target, *, cut: float = 1.0):
    losses = (prediction - target).abs()
    return torch.cat([losses[losses > cut], losses[losses <= cut]]).mean() + 0 * losses.mean()


def plain_field(prediction, target, *, power: float = 2.0):
    return (prediction - target).abs().pow(power).mean(-1)


def field_on_the_value(prediction, target, *, scale: float = 1.0):
    """Breaks the convention: the field meets `[..., B]` and not `[..., B, D]`."""
    return (prediction - target).square().mean(-1) * scale


CASES = [
    (free, {}, "broadcast"),
    (one_batch_only, {}, "fold"),
    (wrong_on_stacks, {}, "fold"),
    (coupled_by_axis, {"batch_level": True}, "vmap"),
    (counts_with_item, {"batch_level": True}, "loop"),
    (masked, {"batch_level": True}, "loop"),
    (plain_field, {}, "broadcast"),
    (field_on_the_value, {}, "vmap"),
]


@pytest.mark.parametrize(("function", "facts", "route"), CASES, ids=lambda x: getattr(x, "__name__", None))
def test_the_route(function, facts, route):
    kind = lossbench.loss(tasks=("regression",), **facts)(function)
    del registry.losses._entries[function.__name__]
    field = next(iter(kind.__dataclass_fields__), None)
    group = [kind(**({field: v} if field else {})) for v in (0.5, 1.0, 2.0)]
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(3, 4, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    assert choose_route(group, prediction, target, {}) == route


def test_only_fields_that_differ_are_stacked():
    group = [losses.get("focal", gamma=g, alpha=0.5) for g in (0.0, 1.0)]
    assert find_differing_fields(group) == {"gamma": [0.0, 1.0]}


@pytest.mark.parametrize("differ", [True, False])
@pytest.mark.parametrize("name", [*BUILT_IN, "hard triplets"])
def test_built_in_losses_are_one_call_for_all_replicas(name, differ):
    loss = losses.get("triplet", mining="hard") if name == "hard triplets" else losses.get(name)
    group = replicas(loss, differ)
    together = stack_calls([draw_call(group[0], seed) for seed in range(3)])
    assert choose_route(group, together.prediction, together.target, together.requires) == "broadcast"


def test_no_field_of_a_built_in_loss_parts_its_replicas():
    assert [name for name in BUILT_IN if registry.losses.find(name).static_fields] == []
