"""An experiment: the trials of one loss and weighting over seeds and corruption rates."""

import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lossbench import registry
from lossbench.config.schema import CHOICES
from lossbench.seeds import stable_hash
from lossbench.settings import settings_of
from lossbench.types import Choice, Trial

_REGISTRIES = (
    *(registry.tasks, registry.datasets, registry.models),
    *(registry.losses, registry.weightings, registry.corruptions),
)
GROUPS: dict[str, registry.Registry[Any]] = dict(zip(CHOICES, _REGISTRIES, strict=True))
"""Config groups and where their choices come from."""


@dataclass(frozen=True)
class Experiment:
    """A trial with its seed and rate left open, and the seeds and rates to fill in."""

    template: Trial
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    output: Path

    def trials(self) -> tuple[Trial, ...]:
        """One trial per rate and seed."""
        return tuple(replace(self.template, rate=r, seed=s) for r in self.rates for s in self.seeds)

    @cached_property
    def folder(self) -> Path:
        """Where its records are: named for people, with a hash of all settings but seeds and rates."""
        t = self.template
        loss = t.loss.label if t.weighting.name == "none" else f"{t.loss.label}+{t.weighting.label}"
        detail = f"{t.data.name}-{t.model.name}-{stable_hash('experiment', t)[:8]}"
        return self.output / t.task.name / _path_safe(loss) / detail

    def config(self) -> dict[str, Any]:
        """The resolved configuration, in the shape of the schema."""
        t = self.template
        found: dict[str, Any] = {group: full_fields(group, getattr(t, group)) for group in GROUPS}
        found |= {"seeds": list(self.seeds), "rates": list(self.rates)}
        for owner in (t, t.optimizer):
            for one in settings_of(owner):
                home = found.setdefault(one.group, {}) if one.group else found
                home[one.key] = getattr(owner, one.name)
        return found


def full_fields(group: str, choice: Choice) -> dict[str, Any]:
    """A choice's name and all its fields, defaults included."""
    plain = json.loads(json.dumps(asdict(GROUPS[group].build(choice))))  # enums to texts, tuples to lists
    return {"name": choice.name, **plain}


def _path_safe(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+=,()\-]+", "_", label)[:120]
