"""Losses on embeddings, lists, teachers and next tokens in a stack: one call for all rows."""

from dataclasses import fields, replace

import pytest

from lossbench import registry
from lossbench.check.samples import call_for, stack
from lossbench.training.routes import choose

FILES = ["pairs", "contrastive", "embedding", "proxies"]
FILES += ["ranking", "ranking_pairs", "distillation", "autoregressive"]
NAMES = [n for n, e in registry.losses.entries().items() if e.kind.__module__.rpartition(".")[2] in FILES]


def rows(loss, differ):
    """Three losses, whose float fields differ or not."""
    free = [f.name for f in fields(loss) if f.type is float] if differ else []
    return [replace(loss, **{n: (getattr(loss, n) or 0.1) * s for n in free}) for s in (1.0, 1.02, 1.05)]


@pytest.mark.parametrize("differ", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_route_is_the_fastest(name, differ):
    losses = rows(registry.losses.get(name), differ)
    together = stack([call_for(losses[0], seed) for seed in range(3)])
    assert choose(losses, together.prediction, together.target, together.needs) == "broadcast"


def test_hard_triplets_share_a_call():
    losses = rows(registry.losses.get("triplet", mining="hard"), differ=True)
    together = stack([call_for(losses[0], seed) for seed in range(3)])
    assert choose(losses, together.prediction, together.target, together.needs) == "broadcast"


def test_all_fields_share_a_call():
    assert len(NAMES) == 26
    assert not any(registry.losses.find(n).scalar_fields for n in NAMES)
