"""Losses of classes in a stack: one call for all rows, whatever fields they differ in."""

from dataclasses import fields, replace

import pytest

from lossbench import registry
from lossbench.check.samples import call_for, stack
from lossbench.training.routes import choose

FILES = ["auc", "divergences", "imbalance", "margin", "modulated", "set_overlap", "tempered"]
FILES += ["noise", "noise_bounded", "noise_normalised"]
NAMES = [n for n, e in registry.losses.entries().items() if e.kind.__module__.rpartition(".")[2] in FILES]


def rows(name, differ):
    """Three losses, whose float fields differ (upwards: some must be above 1) or not."""
    loss = registry.losses.get(name)
    free = [f.name for f in fields(loss) if f.type is float] if differ else []
    return [replace(loss, **{n: (getattr(loss, n) or 0.1) * s for n in free}) for s in (1.0, 1.02, 1.05)]


@pytest.mark.parametrize("differ", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_route_is_the_fastest(name, differ):
    losses = rows(name, differ)
    together = stack([call_for(losses[0], seed) for seed in range(3)])
    assert choose(losses, together.prediction, together.target, together.needs) == "broadcast"


def test_all_fields_share_a_call():
    assert len(NAMES) > 35
    assert not any(registry.losses.find(n).scalar_fields for n in NAMES)
