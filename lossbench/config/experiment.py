"""An experiment: the trials of one loss and weighting over seeds and corruption rates."""

import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lossbench import registry
from lossbench.seeds import stable_hash
from lossbench.types import Choice, Trial

GROUPS: dict[str, registry.Registry[Any]] = {
    "task": registry.tasks,
    "data": registry.datasets,
    "model": registry.models,
    "loss": registry.losses,
    "weighting": registry.weightings,
    "corruption": registry.corruptions,
}
"""Config groups and where their choices come from."""
SETTINGS = ("epochs", "batch_size", "metric", "head", "validation", "evaluations", "precision")


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
        t, o = self.template, asdict(self.template.optimizer)
        clip = {"mode": o.pop("clip_mode"), "threshold": o.pop("clip")}
        o["beta1"], o["beta2"] = o.pop("betas")
        return {
            **{group: full_fields(group, getattr(t, group)) for group in GROUPS},
            "seeds": list(self.seeds),
            "rates": list(self.rates),
            "lr": o.pop("lr"),
            **{n: getattr(t, n) for n in SETTINGS},
            "optimizer": o,
            "clip": clip,
            "split": {"test": t.split_test, "validation": t.split_validation},
        }


def full_fields(group: str, choice: Choice) -> dict[str, Any]:
    """A choice's name and all its fields, defaults included."""
    plain = json.loads(json.dumps(asdict(GROUPS[group].build(choice))))  # enums to texts, tuples to lists
    return {"name": choice.name, **plain}


def _path_safe(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+=,()\-]+", "_", label)[:120]
