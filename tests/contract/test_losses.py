"""One contract for every loss: whoever writes one only registers it. The demands are those of `lossbench check`."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from registered import built_in

from lossbench import registry
from lossbench.check import CHECKS, Status
from lossbench.check.gradients import extremes_are_finite
from lossbench.interfaces.loss import Loss
from lossbench.types import Encoding, Space

SETTINGS: dict[str, dict[str, Any]] = {
    "external": {"target": "torch.nn.HuberLoss"},
    "combined": {"terms": ["mse", {"name": "huber", "weight": 0.5}]},
}
"""Fields without a default."""
ONE_BATCH = {"external"}
"""Losses that take `[N, ...]` only; the engine folds."""
HELD_STILL = {"ciou", "wiou_v1", "circle"}
"""Losses with a factor that has no gradient, which gradcheck would miss; their own tests check the gradient."""
HOT = (Encoding.INDEX, Encoding.ONE_HOT, Encoding.MULTI_HOT, Encoding.SIGNED)


def has_scores(loss: Loss) -> bool:
    return loss.space == Space.EMBEDDING and type(loss).scores is not Loss.scores


def certain(loss: Loss) -> bool:
    return loss.space in (Space.LOGIT, Space.SCORE) and loss.encoding in HOT


def float_fields(loss: Loss) -> bool:
    return any(f.type is float and f.name not in loss.scalar_fields for f in fields(loss))


SPARED: dict[str, Callable[[str, Loss], bool]] = {
    "fields_are_documented": lambda name, loss: not fields(loss),
    "fields_are_validated": lambda name, loss: not fields(loss),
    "whole_numbers_are_floats": lambda name, loss: not float_fields(loss),
    "fields_may_differ_by_row": lambda name, loss: not float_fields(loss),
    "embeddings_give_scores": lambda name, loss: not has_scores(loss),
    "leading_axes_are_free": lambda name, loss: name in ONE_BATCH,
    "broadcasting_is_refused": lambda name, loss: name in ONE_BATCH,
    "batch_axis_is_free": lambda name, loss: name in ONE_BATCH or loss.coupled or bool(loss.needs),
    "examples_are_independent": lambda name, loss: loss.coupled,
    "gradient_is_that_of_the_value": lambda name, loss: name in HELD_STILL,
    "certainty_does_not_fall_forever": lambda name, loss: not certain(loss),
    "convex_as_claimed": lambda name, loss: loss.convex is None,
    "bounded_as_claimed": lambda name, loss: loss.bounded is None,
    "robust_as_claimed": lambda name, loss: loss.robust is None,
    "symmetric_as_claimed": lambda name, loss: loss.symmetric is None,
}
"""Where a check may say that it is not applicable; and there it must."""


@pytest.mark.parametrize("name", built_in(registry.losses))
def test_contract(name: str) -> None:
    """All checks of a loss in one test, of which there would be 4,000 otherwise."""
    loss = registry.losses.get(name, **SETTINGS.get(name, {}))
    spared = {check for check, is_spared in SPARED.items() if is_spared(name, loss)}
    results = {check.name: check.run(loss) for check in CHECKS}
    failed = {check: result.message for check, result in results.items() if result.status is Status.FAILED}
    assert failed == {}
    assert {check for check, result in results.items() if result.status is Status.NOT_APPLICABLE} == spared


def test_built_in_losses_say_their_family() -> None:
    assert [name for name in built_in(registry.losses) if not registry.losses.find(name).family] == []


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5])
def test_extremes_of_a_weak_focus_are_finite(gamma: float) -> None:
    extremes_are_finite(registry.losses.get("focal", gamma=gamma))
