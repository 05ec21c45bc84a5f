"""The names under which a module's classes are registered."""

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import torch

from lossbench.interfaces import Weighting
from lossbench.registry import Registry


@dataclass(frozen=True)
class Plain(Weighting):
    tasks: ClassVar = ("*",)

    def __call__(self, losses, prediction, target, **requires):
        return torch.ones_like(losses)


@dataclass(frozen=True)
class Named(Plain):
    name: ClassVar[str] = "other"


@dataclass(frozen=True)
class OfNamed(Named):
    pass


def test_a_class_fact_overrides_the_derived_name_and_is_not_inherited():
    module = ModuleType("offering")
    module.__dict__.update(Plain=Plain, Named=Named, OfNamed=OfNamed)
    registry = Registry("weightings", "weighting", Weighting)
    assert dict(registry.list_public(module)) == {"plain": Plain, "other": Named, "of_named": OfNamed}
