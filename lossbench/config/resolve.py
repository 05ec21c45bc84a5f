"""From what was set to experiments: presets and defaults filled in, everything validated before anything is written.

One way for all doors: Hydra and Python give a mapping, which is all that this module knows of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import numpy as np
from omegaconf import OmegaConf

from lossbench import plugins, registry
from lossbench.config.choices import (
    Experiment,
    check_outputs,
    check_pair,
    check_scheme,
    check_task,
    list_choices,
    make_choice,
)
from lossbench.config.presets import (
    EXPERIMENT,
    PROTOCOL,
    list_presets,
    load_experiment,
    load_preset,
    load_protocol,
    merge,
    merge_settings,
)
from lossbench.config.protocol import Protocol, check_used
from lossbench.config.schema import LISTS, THE_EXPERIMENT, check_setting, check_types, parse_numbers
from lossbench.errors import Incompatible, InvalidValue, make_unknown
from lossbench.interfaces import Task
from lossbench.registry import GROUPS, compute_fingerprint
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Choice, Head, Optimizer, Setting, Trial, list_settings
from lossbench.validation import check_count, check_share


def parse_plugins(given: Any) -> list[str]:
    """What the setting names, as a list: one text is a list of one."""
    plain = to_plain(given)
    listed = [] if plain is None else [plain] if isinstance(plain, str) else plain
    if not isinstance(listed, list) or not all(isinstance(one, str) and one for one in listed):
        raise InvalidValue(
            "plugins must be a list of files and modules, as in 'plugins=[my_losses.py,my_package.losses]'. "
            f"Got {given!r} instead."
        )
    return listed


def load_plugins(settings: Mapping[str, Any]) -> None:
    """Load the plug-ins that settings name; if none, those that their preset of an experiment names."""
    given, preset = settings.get("plugins"), settings.get(EXPERIMENT)
    if given is None and preset is not None:
        given = load_experiment(str(preset)).get("plugins")
    if asked := parse_plugins(given):
        plugins.load(asked)


FALLBACKS = {"task": "regression", "weighting": "none", PROTOCOL: "quick"}
"""Choices where neither the settings nor the task name one."""


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration for some settings: what is not among them is the preset's, the task's or usual.

    A setting is spelt as on the command line, in one mapping (`{"optimizer.name": "sgd"}`) or several
    (`{"optimizer": {"name": "sgd"}}`). A choice is a name, a mapping with the name and fields, or a mapping of fields
    of the usual choice. A whole configuration comes back as it is.

    Raises `LossbenchError` for what is unknown or of the wrong type.
    """
    given = nest(to_plain(settings))
    if (preset := given.pop(EXPERIMENT, None)) is not None:
        given = merge_settings(load_experiment(str(preset)), given)
    given = merge_settings({}, given)
    found: dict[str, Any] = {}
    found["task"] = _chosen("task", given.pop("task", None), {})
    usual = dict(registry.tasks.find(found["task"]["name"]).defaults)
    for group in GROUPS:
        if group != "task":
            found[group] = _chosen(group, given.pop(group, None), usual)
    found[PROTOCOL] = _protocol(given.pop(PROTOCOL, None))
    return check_types(given | found)


def _chosen(group: str, given: Any, usual: Mapping[str, str]) -> dict[str, Any]:
    """Return one choice as a mapping with its name; a preset's fields come before those that are given."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise InvalidValue(f"{group} must be one name, or a mapping with a name and fields. Got {given!r} instead.")
    fields = {str(n): v for n, v in given.items() if n != "name"}
    name = str(given.get("name") or usual.get(group) or FALLBACKS[group])
    if name not in GROUPS[group].entries() and name in list_presets(group):
        return merge(load_preset(group, name) or {}, fields)
    return {"name": name, **fields}


def _protocol(given: Any) -> dict[str, Any]:
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise InvalidValue(f"protocol must be one name, or a mapping of its settings. Got {given!r} instead.")
    return merge(load_protocol(str(given.get("name", FALLBACKS[PROTOCOL]))), given)


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"clip.mode": "norm"}` as `{"clip": {"mode": "norm"}}`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = str(key).split(".")
        inside = {name: value}
        for group in reversed(groups):
            inside = {group: inside}
        found = merge_settings(found, inside)
    return found


def to_plain(value: Any) -> Any:
    """Return containers and numbers as YAML knows them: people's scripts have tuples, ranges, paths and NumPy's."""
    if isinstance(value, Mapping):
        return {key: to_plain(one) for key, one in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [to_plain(one) for one in cast(Iterable[Any], value)]
    return value


def make_optimizers(plain: Mapping[str, Any], task: Task) -> list[Optimizer]:
    """One per combination of the listed numbers, in their order."""
    values = {one.name: _values(one, plain, task) for one in list_settings(Optimizer)}
    made = [Optimizer(**dict(zip(values, own, strict=True))) for own in product(*values.values())]
    return list(dict.fromkeys(map(_without_the_unused, made)))


def _values(one: Setting, plain: Mapping[str, Any], task: Task) -> list[Any]:
    given = one.read(plain)
    given = task.settings[one.name] if given is None else given
    if one.per_replica:
        return parse_numbers(one.path, given)
    check_setting(one, given)
    return [given]


def _without_the_unused(given: Optimizer) -> Optimizer:
    """What does not act is set to its default, so that equal trainings are equal settings."""
    plain = Optimizer()
    unused = [*(("beta1", "beta2", "eps") if given.name == "sgd" else ("momentum",))]
    unused += ["clip"] if given.clip_mode == "none" else []
    return replace(given, **{name: getattr(plain, name) for name in unused})


def read_sizes(plain: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The settings that all trials of a command share, as fields of `Trial`: all but head and metric."""
    if plain["workers"] is not None:
        check_count(THE_EXPERIMENT, workers=plain["workers"])
    found = {}
    for one in list_settings(Trial):
        value = one.read(plain)
        if value is None:
            if one.name not in task.settings:
                continue  # the loss's own, or chosen elsewhere
            value = one.type(task.settings[one.name])
        check_setting(one, value)
        found[one.name] = float(value) if one.type is float else value
    return found


def read_seeds(given: Any) -> tuple[int, ...]:
    """A number of seeds, or the seeds themselves."""
    if isinstance(given, bool) or not isinstance(given, int | Sequence) or isinstance(given, str):
        raise InvalidValue(f"seeds must be a number of seeds, or a list such as [3,7]. Got {given!r} instead.")
    found = range(given) if isinstance(given, int) else given
    if not len(found) or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in found):
        raise InvalidValue(f"seeds must be a number from 1, or a list of whole numbers from 0. Got {given!r} instead.")
    if max(found) >= FIRST_TUNING_SEED:
        raise InvalidValue(
            f"Seeds from {FIRST_TUNING_SEED} on are for tuning: trials that choose settings and are not reported. "
            f"Got {max(found)}: use lower ones."
        )
    return tuple(dict.fromkeys(found))


def read_rates(given: Sequence[float], corruption: Choice) -> tuple[float, ...]:
    """Corruption rates, rising; without corruption there is but one."""
    if not given:
        raise InvalidValue("rates=[] asks for nothing. Give at least one, for example rates=[0,0.2].")
    for rate in given:
        check_share(THE_EXPERIMENT, rates=rate)
    if corruption.name == "none":
        return (0.0,)
    return tuple(sorted(set(map(float, given))))


T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class ExperimentPlan:
    """What the lists of one configuration make together: at least one experiment, and what does not fit."""

    experiments: tuple[Experiment, ...]
    skipped: tuple[Incompatible, ...]
    protocol: Protocol  # where it tunes, experiments are its candidates
    workers: int | None = None  # processes; None chooses


def resolve(settings: Mapping[str, Any]) -> tuple[Experiment, ...]:
    """Return the experiments of some settings. Raises `LossbenchError` for anything that is off."""
    return make_plan(settings).experiments


def make_plan(settings: Mapping[str, Any]) -> ExperimentPlan:
    """One experiment per loss, weighting, corruption and set of numbers that fit together, in the order of the lists.

    settings: as `complete` takes them; Hydra's composed configuration is one such mapping.

    Raises `Incompatible` if none fit, and `LossbenchError` for anything else that is off.
    """
    if OmegaConf.is_config(settings):
        settings = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True))
    load_plugins(settings)  # before their choices are looked up
    plain = complete(settings)
    shared = _Shared(plain)
    skipped: list[Incompatible] = []
    options = [_fitting(list_choices(g, plain, shared.task.name), partial(shared.part, g), skipped) for g in LISTS]
    datasets, losses, weightings, corruptions = options
    check_used(shared.protocol, [loss.choice.name for loss in losses])
    variants = [variant for loss in losses for variant in shared.variants(loss)]
    wanted = product(datasets, variants, weightings, corruptions, shared.optimizers())
    found = _fitting(wanted, lambda combination: shared.experiment(*combination), skipped)
    told = tuple({str(error): error for error in skipped}.values())
    return ExperimentPlan(tuple(dict.fromkeys(found)), told, shared.protocol, plain["workers"])


def _fitting(wanted: Iterable[T], make: Callable[[T], U], skipped: list[Incompatible]) -> list[U]:
    """What can be made of `wanted`; what is incompatible is added to `skipped`, and raised if there is no other."""
    found, misfits = [], []
    for one in wanted:
        try:
            found.append(make(one))
        except Incompatible as error:
            misfits.append(error)
    if misfits and not found:
        raise misfits[0]
    skipped += misfits
    return found


@dataclass(frozen=True)
class _Part:
    """A choice, and the instance that it describes: built once, and not for each combination."""

    choice: Choice
    built: Any
    contender: str = ""


class _Shared:
    """What all experiments of a configuration have in common."""

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self.plain = plain
        self.task = make_choice("task", plain["task"])
        self.kind: Task = registry.tasks.build(self.task)
        self.model = make_choice("model", plain["model"], self.task.name)
        self.metric = self._metric(plain["metric"])
        self.sizes = read_sizes(plain, self.kind)
        self.protocol = Protocol.from_config(plain, self.kind.settings["lr"])
        self.seeds = read_seeds(self.protocol.seeds if plain["seeds"] is None else plain["seeds"])
        self.output = Path(plain["output"])

    def part(self, group: str, given: Any) -> _Part:
        found = make_choice(group, given, self.task.name)
        built = GROUPS[group].build(found)
        if group == "loss":
            check_outputs(found.label, built, self.task.name, self.kind)
        return _Part(found, built)

    def optimizers(self) -> list[Optimizer]:
        """One per learning rate of the grid, and combination of the other numbers that are listed."""
        lrs = {"lr": list(self.protocol.grid)} if self.protocol.tunes else {}
        return make_optimizers({**self.plain, **lrs}, self.kind)

    def variants(self, loss: _Part) -> list[_Part]:
        """The loss with each combination of the fields that are tuned."""
        if not self.protocol.get_search_space(loss.choice.name):
            return [loss]
        given = [
            {"name": loss.choice.name, **loss.choice.fields, **v} for v in self.protocol.list_variants(loss.choice.name)
        ]
        made = [replace(self.part("loss", one), contender=loss.choice.label) for one in given]
        return made[:1] if self.protocol.search else made

    def experiment(
        self, data: _Part, loss: _Part, weighting: _Part, corruption: _Part, optimizer: Optimizer
    ) -> Experiment:
        """One combination. Raises `Incompatible`."""
        check_scheme(weighting.choice, weighting.built, self.task.name, data.choice)
        check_pair(loss.choice.name, loss.built, weighting.choice.name, weighting.built, self.kind)
        parts: dict[str, Any] = {
            "task": self.task,
            "data": data.choice,
            "model": self.model,
            "loss": loss.choice,
            "weighting": weighting.choice,
            "corruption": corruption.choice,
        }
        template = Trial(
            **parts,
            corruption_rate=0.0,
            seed=0,
            optimizer=optimizer,
            **self.sizes | {"head": self._head(loss), "metric": self.metric},
            contender=loss.contender,
            fingerprint=compute_fingerprint(
                *((GROUPS[g].group, c) for g, c in parts.items()), ("metrics", Choice(self.metric))
            ),
        )
        return Experiment(template, self.seeds, read_rates(self.plain["rates"], corruption.choice), self.output)

    def _metric(self, asked: str | None) -> str:
        if asked is None:
            return self.kind.metrics[0]
        check_task(registry.metrics, asked, registry.metrics.find(asked, self.task.name), self.task.name)
        return asked

    def _head(self, loss: _Part) -> str:
        asked, wanted = self.plain["head"], loss.built.head
        if asked is None:
            return str(wanted)
        heads = [str(h) for h in self.kind.heads]
        if asked not in heads:
            raise make_unknown("head", asked, heads, f"Heads of {self.task.name}")
        reads_only_its_own = wanted in (Head.MEAN_SCALE, Head.EMBEDDING)  # others can take means for values
        if asked != wanted and (reads_only_its_own or asked == Head.EMBEDDING):
            told = f"loss={loss.choice.name} needs head={wanted}; it cannot read the outputs of head={asked}."
            raise Incompatible(told, loss.choice.name, f"cannot read the outputs of head={asked}")
        return str(asked)
