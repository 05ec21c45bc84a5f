"""What was chosen, validated: a name of a group with its fields; whether choices fit; the experiment they make."""

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from lossbench import registry
from lossbench.config.presets import load_preset
from lossbench.config.schema import LISTS
from lossbench.errors import Incompatible, InvalidValue
from lossbench.interfaces import Level, Loss, Misfit, Model, Scaling, Scheme, Task
from lossbench.losses.composition.combined import Combined
from lossbench.losses.composition.external import External
from lossbench.losses.composition.external.infer import infer_fields
from lossbench.registry import GROUPS
from lossbench.seeds import hash_values
from lossbench.types import Choice, Problem, Requirement, Trial, list_settings


@dataclass(frozen=True)
class Experiment:
    """A trial with its seed and rate left open, and the seeds and rates to fill in."""

    template: Trial
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    output: Path

    def list_trials(self) -> tuple[Trial, ...]:
        """One trial per rate and seed."""
        return tuple(replace(self.template, corruption_rate=r, seed=s) for r in self.rates for s in self.seeds)

    @cached_property
    def folder(self) -> Path:
        """Where its records are: named for people, with a hash of all settings but seeds and rates."""
        t = self.template
        loss = t.loss.label if t.weighting.name == "none" else f"{t.loss.label}+{t.weighting.label}"
        detail = f"{t.data.name}-{t.model.name}-{hash_values('experiment', t)[:8]}"
        return self.output / t.task.name / _path_safe(loss) / detail

    def to_config(self) -> dict[str, Any]:
        """The resolved configuration, in the shape of the schema."""
        t = self.template
        found: dict[str, Any] = {group: expand_choice(group, getattr(t, group)) for group in GROUPS}
        found |= {"seeds": list(self.seeds), "rates": list(self.rates)}
        for owner in (t, t.optimizer):
            for one in list_settings(owner):
                home = found.setdefault(one.group, {}) if one.group else found
                home[one.key] = getattr(owner, one.name)
        return found


def expand_choice(group: str, choice: Choice) -> dict[str, Any]:
    """A choice's name and all its fields, defaults included."""
    plain = json.loads(json.dumps(asdict(GROUPS[group].build(choice))))  # enums to texts, tuples to lists
    return {"name": choice.name, **plain}


def _path_safe(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+=,()\-]+", "_", label)[:120]


N_LABELS = 3
"""Outputs of the random labels on which a loss is tried."""


def check_outputs(loss_name: str, loss: Loss, task_name: str, task: Task) -> None:
    """Raise `Incompatible` for terms on some outputs in a task that has no outputs side by side."""
    if isinstance(loss, Combined) and any(term.outputs for term in loss.parsed_terms) and not task.side_by_side:
        told = f"task={task_name} predicts one thing per example: a term of loss={loss_name} cannot have outputs."
        raise Incompatible(told, loss_name, "the task has no outputs side by side")


def check_pair(loss_name: str, loss: Loss, weighting_name: str, weighting: Scheme, task: Task) -> None:
    """Raise `Incompatible`, with the reason, for a loss that cannot be weighed like this."""
    misfit = weighting.find_misfit(loss, loss_name)
    if misfit is None and weighting.get_level(task, N_LABELS) is Level.LABEL and not is_mean_over_labels(loss, task):
        misfit = Misfit(
            f"weighs each label, and loss={loss_name} is no mean of one value per label. Use a loss that is, as bce.",
            "labels cannot be weighed in a loss that is no mean over them",
        )
    if misfit is not None:
        told = f"weighting={weighting_name} {misfit.message}"
        raise Incompatible(told, f"{loss_name} + {weighting_name}", misfit.reason)


def check_scheme(weighting: Choice, built: Scheme, task: str, data: Choice) -> None:
    """Raise `Incompatible` for one that wraps a weighting of other tasks, or wants weights that data do not have."""
    if not {task, "*", *registry.tasks.find(task).like} & set(built.tasks):
        told = f"weighting={weighting.label} is for {' and '.join(built.tasks)}, not for task={task}."
        raise Incompatible(told, weighting.label, "for another task")
    if Requirement.SAMPLE_WEIGHT in built.requires and not registry.datasets.build(data).weighted:
        told = f"weighting={weighting.label} needs data that come with weights, and data={data.label} does not."
        raise Incompatible(told, weighting.label, "the data come without weights")


def is_mean_over_labels(loss: Loss, task: Task) -> bool:
    """Whether each label by itself, and then the mean, gives the same: tried on random scores and labels."""
    if loss.requires or loss.batch_level or isinstance(loss, Combined):
        return False
    draw = torch.Generator().manual_seed(0)
    raw = 3 * torch.randn(16, N_LABELS, generator=draw, dtype=torch.float64)
    labels = torch.randint(2, raw.shape, generator=draw)
    scaling = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    prediction = task.convert(raw, loss.space, scaling)
    target = task.encode(labels, loss.encoding, Problem((1,), N_LABELS, len(raw)), scaling)
    try:
        apart = loss(prediction.unsqueeze(-1), target.unsqueeze(-1))
        return torch.allclose(apart.mean(-1), loss(prediction, target), rtol=1e-9, atol=1e-12)
    except Exception:  # a stranger's loss may raise anything on one label
        return False


ALL, SHORTLIST = "all", "shortlist"
COMBINED = "combined"


def make_choice(group: str, given: Any, task: str | None = None) -> Choice:
    """A validated choice with only the fields that differ from the defaults, so that equal settings are equal."""
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or "name" not in given:
        raise InvalidValue(f"{group} must be a name, or a mapping with a name and fields. Got {given!r} instead.")
    given = dict(given)
    name = str(given.pop("name"))
    names = GROUPS[group]
    kind = names.find(name, task)
    if task is not None and issubclass(kind, External) and not _is_open(kind, given):
        given = infer_fields(given, task, kind)
    if (group, name) == ("loss", COMBINED) and isinstance(given.get("terms"), list):
        given["terms"] = [_term(one, task) for one in given["terms"]]
    check_task(names, name, kind, task)
    if missing := [f"{group}.{n}" for n, v in given.items() if v == "???"]:
        told = f"{group}={name} needs {' and '.join(f'{n}=<value>' for n in missing)}."
        raise Incompatible(told, f"{name} ({', '.join(missing)})", "needs a value")
    part = names.get(name, **given)
    set_to = {n: _plain(getattr(part, n)) for n in given if _differs(kind, n, getattr(part, n))}
    local = {f.name for f in fields(kind) if not f.compare}
    return Choice.from_fields(
        name, {n: v for n, v in set_to.items() if n not in local}, {n: v for n, v in set_to.items() if n in local}
    )


def _is_open(kind: type[External], given: Mapping[str, Any]) -> bool:
    """Whether an adapter has not been told what it adapts."""
    return not kind.payload and given.get("target") in (None, "???")


def _term(given: Any, task: str | None) -> dict[str, Any]:
    """A term of a combined loss: a validated choice, and beside it what is the combination's own."""
    given = _entry("loss", given)
    given = {"name": given} if isinstance(given, str) else given
    if not isinstance(given, Mapping):
        raise InvalidValue(f"A term must be a loss's name, or a mapping with name and fields. Got {given!r} instead.")
    own = {name: given[name] for name in ("weight", "outputs") if name in given}
    made = make_choice("loss", {n: v for n, v in given.items() if n not in own}, task)
    return {"name": made.name, **made.fields, **own}


def check_task(names: registry.Registry[Any], name: str, kind: type, task: str | None) -> None:
    """Raise `Incompatible` for what is of another task."""
    if task is None or registry.fits_task(kind, task):
        return
    raise Incompatible(
        f"The {names.word} {name!r} {_made_for(kind)}, not for task={task}. "
        f"{names.group.capitalize()} for {task}: {', '.join(names.names(task)) or 'none'}.",
        name,
        "for another task",
    )


def _made_for(kind: type) -> str:
    if issubclass(kind, Model):
        return f"is for tasks that predict something {'at each time step' if kind.sequence else 'per example'}"
    return f"is for {' and '.join(getattr(kind, 'tasks', ()))}"


def list_choices(group: str, plain: Mapping[str, Any], task: str) -> list[Any]:
    """What is asked for of `group`: the list if there is one, all that needs no value for `all`, else the one.

    `losses=shortlist`: the task's few losses of different kinds.
    """
    setting = LISTS[group]
    given = plain[setting]
    if given is None:
        return _varied(group, plain, task) if plain["protocol"]["variety"] else [plain[group]]
    if (group, given) == ("loss", SHORTLIST):
        kind = registry.tasks.find(task)
        return list(kind.shortlist or [kind.defaults["loss"]])
    if given == ALL:
        return [name for name in GROUPS[group].names(task) if not registry.list_required(GROUPS[group].find(name))]
    if not isinstance(given, list):
        raise InvalidValue(
            f"{setting} must be a list in brackets, as in '{setting}=[{given}]', or {setting}=all. "
            f"Got {given!r} instead."
        )
    if not given:
        examples = ",".join(GROUPS[group].names(task)[:2])
        raise InvalidValue(f"{setting}=[] names nothing. Give at least one, for example {setting}=[{examples}].")
    return [_entry(group, one) for one in given]


def _varied(group: str, plain: Mapping[str, Any], task: str) -> list[Any]:
    """The task's several of `group`, unless another one than its default is chosen."""
    kind = registry.tasks.find(task)
    is_default = isinstance(plain[group], Mapping) and plain[group].get("name") == kind.defaults.get(group)
    return list(kind.variety.get(group, ())) if is_default and group in kind.variety else [plain[group]]


def _entry(group: str, given: Any) -> Any:
    """`huber`, `{name: huber, delta: 2}` or `{huber: {delta: 2}}`; of a preset, its fields."""
    if isinstance(given, Mapping) and "name" not in given and len(given) == 1:
        ((name, own),) = given.items()
        if not isinstance(own, Mapping | NoneType):
            raise InvalidValue(
                f"{name} must be followed by its fields, as in {{{name}: {{...}}}}. Got {own!r} instead."
            )
        given = {"name": name, **(own or {})}
    name = given.get("name") if isinstance(given, Mapping) else given
    if not isinstance(name, str) or name in GROUPS[group].entries():
        return given
    own = {n: v for n, v in given.items() if n != "name"} if isinstance(given, Mapping) else {}
    return {**found, **own} if (found := load_preset(group, name)) else given


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _differs(kind: type, name: str, value: Any) -> bool:
    f = next(f for f in fields(kind) if f.name == name)
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    return bool(default is MISSING or value != default)
