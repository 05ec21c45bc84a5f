"""One contract for every loss: whoever writes one only registers it. The demands are those of `lossbench check`."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import yaml
from registered import built_in

from lossbench import losses, registry
from lossbench.check import CHECKS, Status
from lossbench.check.gradients import extremes_are_finite
from lossbench.interfaces.loss import Loss
from lossbench.types import Encoding, Space

ROOT = Path(__file__).parents[2]
ACROSS_FAMILIES = {"extremes_of_classes"}
"""Tests in the folder of the losses that are of several families."""
DOCS, TESTS = ROOT / "docs" / "losses", ROOT / "tests" / "unit" / "losses"
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
    return loss.space == Space.EMBEDDING and type(loss).score_classes is not Loss.score_classes


def certain(loss: Loss) -> bool:
    return loss.space in (Space.LOGIT, Space.SCORE) and loss.encoding in HOT


def float_fields(loss: Loss) -> bool:
    return any(f.type is float and f.name not in loss.static_fields for f in fields(loss))


SPARED: dict[str, Callable[[str, Loss], bool]] = {
    "fields_are_documented": lambda name, loss: not fields(loss),
    "fields_are_validated": lambda name, loss: not fields(loss),
    "whole_numbers_are_floats": lambda name, loss: not float_fields(loss),
    "fields_may_differ_by_replica": lambda name, loss: not float_fields(loss),
    "embeddings_give_scores": lambda name, loss: not has_scores(loss),
    "leading_axes_are_free": lambda name, loss: name in ONE_BATCH,
    "broadcasting_is_refused": lambda name, loss: name in ONE_BATCH,
    "batch_axis_is_free": lambda name, loss: name in ONE_BATCH or loss.batch_level or bool(loss.requires),
    "examples_are_independent": lambda name, loss: loss.batch_level,
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


@pytest.mark.parametrize("family", sorted({registry.losses.find(name).family for name in built_in(registry.losses)}))
def test_file_page_and_test_are_named_for_the_family(family: str) -> None:
    """A family that is a package has a folder of tests."""
    stem = family.replace(" ", "_")
    kinds = [kind for kind in map(registry.losses.find, built_in(registry.losses)) if kind.family == family]
    assert family
    assert [k for k in kinds if not f"{k.__module__}.".startswith(f"lossbench.losses.{stem}.")] == []
    assert (DOCS / f"{family.replace(' ', '-')}.md").is_file()
    assert family in yaml.safe_load((DOCS / "families.yaml").read_text())
    assert (TESTS / f"test_{stem}.py").is_file() or list((TESTS / stem).glob("test_*.py"))


def test_no_file_page_or_test_is_without_a_family() -> None:
    families = {registry.losses.find(name).family for name in built_in(registry.losses)}
    stems = {family.replace(" ", "_") for family in families}
    assert {module.name for module in iter_modules(losses.__path__)} == stems | {"primitives"}
    assert {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")} <= stems | {
        "primitives",
        *ACROSS_FAMILIES,
    }
    assert {path.stem for path in DOCS.glob("*.md")} == {family.replace(" ", "-") for family in families}
    assert set(yaml.safe_load((DOCS / "families.yaml").read_text())) == families


def test_all_built_in_losses_can_be_imported_from_the_package() -> None:
    kinds = {registry.losses.find(name) for name in built_in(registry.losses)}
    assert {kind for kind in kinds if getattr(losses, kind.__name__, None) is not kind} == set()
    assert {kind.__name__ for kind in kinds} | {"get", "list_names"} == set(losses.__all__)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5])
def test_extremes_of_a_weak_focus_are_finite(gamma: float) -> None:
    extremes_are_finite(registry.losses.get("focal", gamma=gamma))
