"""Choices and experiments: validate a name of a group with its fields, and check that choices fit together."""

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from lossbench import registry
from lossbench.config.presets import EXPERIMENT, PROTOCOL, list_presets, load_preset
from lossbench.config.schema import LISTS
from lossbench.errors import Incompatible, InvalidValue
from lossbench.interfaces import Level, Loss, Misfit, Model, Scaling, Scheme, Task
from lossbench.losses.composition.combined import Combined
from lossbench.losses.composition.external import External
from lossbench.losses.composition.external.infer import infer_fields
from lossbench.notation import format_setting
from lossbench.registry import GROUPS
from lossbench.seeds import hash_values
from lossbench.types import Choice, Problem, Requirement, Trial, list_settings

ALL, SHORTLIST = "all", "shortlist"
COMBINED = "combined"
N_LABELS = 3
"""Outputs of the random labels on which a loss is tried."""
LONGEST_FOLDER = 120
"""Characters of a loss's folder."""


@dataclass(frozen=True)
class Experiment:
    """A trial whose seed and corruption rate are left open, and the seeds and rates that fill them in."""

    template: Trial
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    output: Path

    def list_trials(self) -> tuple[Trial, ...]:
        """Return one trial per corruption rate and seed."""
        return tuple(
            replace(self.template, corruption_rate=rate, seed=seed) for rate in self.rates for seed in self.seeds
        )

    @cached_property
    def folder(self) -> Path:
        """The folder of its records: its name is readable, and ends in a hash of all settings but seeds and rates."""
        t = self.template
        loss = t.loss.label if t.weighting.name == "none" else f"{t.loss.label}+{t.weighting.label}"
        safe_loss = re.sub(r"[^A-Za-z0-9_.+=,()\-]+", "_", loss)[:LONGEST_FOLDER]
        detail = f"{t.data.name}-{t.model.name}-{hash_values('experiment', t)[:8]}"
        return self.output / t.task.name / safe_loss / detail

    def to_config(self) -> dict[str, Any]:
        """Return the resolved configuration, in the shape of the schema."""
        t = self.template
        config: dict[str, Any] = {group: expand_choice(group, getattr(t, group)) for group in GROUPS}
        config |= {"seeds": list(self.seeds), "rates": list(self.rates)}
        for owner in (t, t.optimizer):
            for setting in list_settings(owner):
                parent = config.setdefault(setting.group, {}) if setting.group else config
                parent[setting.key] = getattr(owner, setting.name)
        return config


def expand_choice(group: str, choice: Choice) -> dict[str, Any]:
    """Return a choice's name and all its fields, defaults included."""
    plain = json.loads(json.dumps(asdict(GROUPS[group].build(choice))))  # enums to texts, tuples to lists
    return {"name": choice.name, **plain}


def check_outputs(loss_name: str, loss: Loss, task_name: str, task: Task) -> None:
    """Raise `Incompatible` for terms on some outputs in a task that has no outputs side by side."""
    if isinstance(loss, Combined) and any(term.outputs for term in loss.parsed_terms) and not task.side_by_side:
        raise Incompatible(
            f"task={task_name} predicts one thing per example: a term of loss={loss_name} cannot have outputs.",
            loss_name,
            "the task has no outputs side by side",
        )


def check_pair(loss_name: str, loss: Loss, weighting_name: str, weighting: Scheme, task: Task) -> None:
    """Raise `Incompatible`, with the reason, for a loss that the weighting cannot weigh."""
    misfit = weighting.find_misfit(loss, loss_name)
    if misfit is None and weighting.get_level(task, N_LABELS) is Level.LABEL and not is_mean_over_labels(loss, task):
        misfit = Misfit(
            f"weighs each label, and loss={loss_name} is no mean of one value per label. Use a loss that is, as bce.",
            "labels cannot be weighed in a loss that is no mean over them",
        )
    if misfit is not None:
        message = f"weighting={weighting_name} {misfit.message}"
        raise Incompatible(message, f"{loss_name} + {weighting_name}", misfit.reason)


def check_scheme(weighting: Choice, scheme: Scheme, task: str, data: Choice) -> None:
    """Raise `Incompatible` for a weighting that wraps one of other tasks, or needs weights that the data lack."""
    if not {task, "*", *registry.tasks.find(task).like} & set(scheme.tasks):
        message = f"weighting={weighting.label} is for {' and '.join(scheme.tasks)}, not for task={task}."
        raise Incompatible(message, weighting.label, "for another task")
    if Requirement.SAMPLE_WEIGHT in scheme.requires and not registry.datasets.build(data).weighted:
        message = f"weighting={weighting.label} needs data that come with weights, and data={data.label} does not."
        raise Incompatible(message, weighting.label, "the data come without weights")


def is_mean_over_labels(loss: Loss, task: Task) -> bool:
    """Return True if the loss of all labels is the mean of the losses of each label.

    It is tried on random scores and labels: no loss declares it.
    """
    if loss.requires or loss.batch_level or isinstance(loss, Combined):
        return False
    generator = torch.Generator().manual_seed(0)
    raw = 3 * torch.randn(16, N_LABELS, generator=generator, dtype=torch.float64)  # [B, C]
    labels = torch.randint(2, raw.shape, generator=generator)  # [B, C]
    scaling = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    prediction = task.convert(raw, loss.space, scaling)
    target = task.encode(labels, loss.encoding, Problem((1,), N_LABELS, len(raw)), scaling)
    try:
        per_label = loss(prediction.unsqueeze(-1), target.unsqueeze(-1))  # [B, C]: each label is an output by itself
        return torch.allclose(per_label.mean(-1), loss(prediction, target), rtol=1e-9, atol=1e-12)
    except Exception:  # a third-party loss may raise anything on one label
        return False


def make_choice(group: str, value: Any, task: str | None = None) -> Choice:
    """Return a validated choice with only the fields that differ from the defaults, so that equal settings are equal.

    value: a name, or a mapping with the name and fields. task: if given, the choice must fit it.
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or "name" not in value:
        raise InvalidValue(f"{group} must be a name, or a mapping with a name and fields. Got {value!r} instead.")
    # 1. its class, and the fields that the task decides
    values = dict(value)
    name = str(values.pop("name"))
    names = GROUPS[group]
    kind = names.find(name, task)
    if task is not None and issubclass(kind, External):
        has_target = kind.payload or values.get("target") not in (None, "???")
        if has_target:  # its arguments, space and encoding are inferred
            values = infer_fields(values, task, kind)
    if (group, name) == ("loss", COMBINED) and isinstance(values.get("terms"), list):
        values["terms"] = [_make_term(term, task) for term in values["terms"]]
    check_task(names, name, kind, task)
    # 2. values that have to be given; "???" is OmegaConf's mark of them
    if missing := [f"{group}.{field}" for field, v in values.items() if v == "???"]:
        message = f"{group}={name} needs {' and '.join(f'{field}=<value>' for field in missing)}."
        raise Incompatible(message, f"{name} ({', '.join(missing)})", "needs a value")
    # 3. validation by the class itself, which may convert values; then fields at their defaults are dropped
    part = names.get(name, **values)
    changed = {}
    for f in fields(kind):
        if f.name in values:
            converted = getattr(part, f.name)
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            if default is MISSING or converted != default:
                changed[f.name] = list(converted) if isinstance(converted, tuple) else converted
    local = {f.name for f in fields(kind) if not f.compare}  # of this machine, as paths: not part of the identity
    return Choice.from_fields(
        name,
        {field: v for field, v in changed.items() if field not in local},
        {field: v for field, v in changed.items() if field in local},
    )


def _make_term(value: Any, task: str | None) -> dict[str, Any]:
    """Return a term of a combined loss: a validated choice, with the fields that belong to the combination."""
    entry = _parse_entry("loss", value)
    entry = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping):
        raise InvalidValue(f"A term must be a loss's name, or a mapping with name and fields. Got {entry!r} instead.")
    combination = {name: entry[name] for name in ("weight", "outputs") if name in entry}
    choice = make_choice("loss", {name: v for name, v in entry.items() if name not in combination}, task)
    return {"name": choice.name, **choice.fields, **combination}


def check_task(names: registry.Registry[Any], name: str, kind: type, task: str | None) -> None:
    """Raise `Incompatible` for a choice that is for other tasks."""
    if task is None or registry.fits_task(kind, task):
        return
    if issubclass(kind, Model):
        made_for = f"tasks that predict something {'at each time step' if kind.sequence else 'per example'}"
    else:
        made_for = " and ".join(getattr(kind, "tasks", ()))
    raise Incompatible(
        f"The {names.word} {name!r} is for {made_for}, not for task={task}. "
        f"{names.group.capitalize()} for {task}: {', '.join(names.names(task)) or 'none'}.",
        name,
        "for another task",
    )


def list_choices(group: str, config: Mapping[str, Any], task: str) -> list[Any]:
    """Return the choices of `group` that are compared, as names or mappings, not validated yet.

    The list if one is set; the single choice otherwise. `losses=all` stands for all that need no value,
    `losses=shortlist` for the task's few losses of different kinds. A protocol with `variety` puts the task's several
    data sets and corruptions in place of its defaults.
    """
    setting = LISTS[group]
    value, single = config[setting], config[group]
    if value is None:
        if not config["protocol"]["variety"]:
            return [single]
        kind = registry.tasks.find(task)
        is_default = isinstance(single, Mapping) and single.get("name") == kind.defaults.get(group)
        return list(kind.variety[group]) if is_default and group in kind.variety else [single]
    if (group, value) == ("loss", SHORTLIST):
        kind = registry.tasks.find(task)
        return list(kind.shortlist or [kind.defaults["loss"]])
    names = GROUPS[group]
    if value == ALL:
        return [name for name in names.names(task) if not registry.list_required(names.find(name))]
    if not isinstance(value, list):
        raise InvalidValue(
            f"{setting} must be a list, as in {format_setting(setting, [value])}, or {format_setting(setting, ALL)}. "
            f"Got {value!r} instead."
        )
    if not value:
        example = format_setting(setting, names.names(task)[:2])
        raise InvalidValue(f"{setting} must name at least one choice, for example {example}. Got [] instead.")
    return [_parse_entry(group, entry) for entry in value]


def _parse_entry(group: str, value: Any) -> Any:
    """Return an entry of a list as a name or a mapping with the name; a preset is replaced by its fields.

    value: `huber`, `{name: huber, delta: 2}` or `{huber: {delta: 2}}`.
    """
    if isinstance(value, Mapping) and "name" not in value and len(value) == 1:
        ((name, values),) = value.items()
        if not isinstance(values, Mapping | NoneType):
            raise InvalidValue(
                f"{name} must be followed by its fields, as in {{{name}: {{...}}}}. Got {values!r} instead."
            )
        value = {"name": name, **(values or {})}
    name = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or name in GROUPS[group].entries():
        return value
    preset = load_preset(group, name)
    if not preset:
        return value  # unknown: make_choice raises
    changes = {field: v for field, v in value.items() if field != "name"} if isinstance(value, Mapping) else {}
    return {**preset, **changes}


def suggest_settings(word: str) -> list[str]:
    """Return the settings for which a bare word may stand, ready to be copied: `task=regression` for `regression`.

    Without any of this very name, those of the name that is spelt most alike.
    """
    groups = {group: [*names.entries(), *list_presets(group)] for group, names in GROUPS.items()}
    groups |= {group: list_presets(group) for group in (EXPERIMENT, PROTOCOL)}
    for name in (word, *get_close_matches(word, sorted({n for names in groups.values() for n in names}), n=1)):
        if settings := [format_setting(group, name) for group, names in groups.items() if name in names]:
            return settings
    return []
