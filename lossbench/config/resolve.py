"""Resolve settings to experiments: fill in presets and defaults, and validate all before anything is written.

The command line and Python share this module: both pass a mapping.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from lossbench.config.protocol import Protocol, check_search_space
from lossbench.config.schema import LISTS, THE_EXPERIMENT, check_setting, check_types, parse_numbers
from lossbench.errors import Incompatible, InvalidValue, make_unknown
from lossbench.interfaces import Task
from lossbench.notation import format_setting
from lossbench.records import RecordError
from lossbench.registry import GROUPS, compute_fingerprint
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Choice, Head, Optimizer, Trial, list_settings
from lossbench.validation import check_count, check_share

FALLBACKS = {"task": "regression", "weighting": "none", PROTOCOL: "quick"}
"""Choices where neither the settings nor the task name one."""
T = TypeVar("T")
U = TypeVar("U")


def parse_plugins(value: Any) -> list[str]:
    """Return the files and modules that the setting names: one text is a list of one."""
    plain = to_plain(value)
    places = [] if plain is None else [plain] if isinstance(plain, str) else plain
    if not isinstance(places, list) or not all(isinstance(place, str) and place for place in places):
        example = format_setting("plugins", ["my_losses.py", "my_package.losses"])
        raise InvalidValue(f"plugins must be a list of files and modules, as in {example}. Got {value!r} instead.")
    return places


def load_plugins(settings: Mapping[str, Any]) -> None:
    """Load the plug-ins that settings name; if none, those that their preset of an experiment names."""
    value, preset = settings.get("plugins"), settings.get(EXPERIMENT)
    if value is None and preset is not None:
        value = load_experiment(str(preset)).get("plugins")
    if places := parse_plugins(value):
        plugins.load(places)


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete configuration: settings, then those of their preset, then the task's, then general defaults.

    A setting is spelt as on the command line, in one mapping (`{"optimizer.name": "sgd"}`) or nested
    (`{"optimizer": {"name": "sgd"}}`). A choice is a name, a mapping with the name and fields, or a mapping of fields
    of the default choice. A complete configuration is returned unchanged.

    Raises `LossbenchError` for an unknown name and for a value of the wrong type.
    """
    # 1. the preset of an experiment, under what is set beside it
    nested = nest(to_plain(settings))
    if (preset := nested.pop(EXPERIMENT, None)) is not None:
        nested = merge_settings(load_experiment(str(preset)), nested)
    nested = merge_settings({}, nested)
    # 2. the task, which has defaults for the other choices
    config: dict[str, Any] = {"task": _complete_choice("task", nested.pop("task", None), {})}
    defaults = dict(registry.tasks.find(config["task"]["name"]).defaults)
    for group in GROUPS:
        if group != "task":
            config[group] = _complete_choice(group, nested.pop(group, None), defaults)
    # 3. the protocol's settings, under what is set beside its name
    protocol = nested.pop(PROTOCOL, None)
    protocol = {} if protocol is None else protocol
    if not isinstance(protocol, Mapping):
        raise InvalidValue(f"protocol must be one name, or a mapping of its settings. Got {protocol!r} instead.")
    config[PROTOCOL] = merge(load_protocol(str(protocol.get("name", FALLBACKS[PROTOCOL]))), protocol)
    # 4. the schema's defaults for all else
    return check_types(nested | config)


def _complete_choice(group: str, value: Any, defaults: Mapping[str, str]) -> dict[str, Any]:
    """Return one choice as a mapping with its name; a preset's fields are overridden by those that are set."""
    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise InvalidValue(f"{group} must be one name, or a mapping with a name and fields. Got {value!r} instead.")
    fields = {str(field): v for field, v in value.items() if field != "name"}
    name = str(value.get("name") or defaults.get(group) or FALLBACKS[group])
    if name not in GROUPS[group].entries() and name in list_presets(group):
        return merge(load_preset(group, name) or {}, fields)
    return {"name": name, **fields}


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"clip.mode": "norm"}` as `{"clip": {"mode": "norm"}}`."""
    nested: dict[str, Any] = {}
    for path, value in settings.items():
        *groups, name = str(path).split(".")
        branch = {name: value}
        for group in reversed(groups):
            branch = {group: branch}
        nested = merge_settings(nested, branch)
    return nested


def to_plain(value: Any) -> Any:
    """Return a value as YAML knows it: scripts pass tuples, ranges, paths, and NumPy's arrays and numbers."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [to_plain(item) for item in cast(Iterable[Any], value)]
    return value


def make_optimizers(config: Mapping[str, Any], task: Task) -> list[Optimizer]:
    """Return one optimizer per combination of the listed numbers, in their order."""
    # 1. the values of each setting: several only where replicas of a stack may differ
    values: dict[str, list[Any]] = {}
    for setting in list_settings(Optimizer):
        value = setting.read(config)
        value = task.settings[setting.name] if value is None else value
        if setting.per_replica:
            values[setting.name] = parse_numbers(setting.path, value)
        else:
            check_setting(setting, value)
            values[setting.name] = [value]
    # 2. their combinations; settings without effect are put to their defaults, so that equal trainings have equal ids
    defaults, optimizers = Optimizer(), []
    for combination in product(*values.values()):
        optimizer = Optimizer(**dict(zip(values, combination, strict=True)))
        unused = ["beta1", "beta2", "eps"] if optimizer.name == "sgd" else ["momentum"]
        unused += ["clip"] if optimizer.clip_mode == "none" else []
        optimizers.append(replace(optimizer, **{name: getattr(defaults, name) for name in unused}))
    return list(dict.fromkeys(optimizers))


def read_sizes(config: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return the settings that all trials of a command share, as fields of `Trial`: all but head and metric."""
    if config["workers"] is not None:
        check_count(THE_EXPERIMENT, workers=config["workers"])
    sizes = {}
    for setting in list_settings(Trial):
        value = setting.read(config)
        if value is None:
            if setting.name not in task.settings:
                continue  # head and metric, whose defaults depend on loss and task
            value = setting.type(task.settings[setting.name])
        check_setting(setting, value)
        sizes[setting.name] = float(value) if setting.type is float else value
    return sizes


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Return the seeds of a setting: their number, or the seeds themselves, none of them twice."""
    if isinstance(value, bool) or not isinstance(value, int | Sequence) or isinstance(value, str):
        raise InvalidValue(f"seeds must be a number of seeds, or a list such as [3,7]. Got {value!r} instead.")
    seeds = range(value) if isinstance(value, int) else value
    if not len(seeds) or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in seeds):
        raise InvalidValue(f"seeds must be a number from 1, or a list of whole numbers from 0. Got {value!r} instead.")
    if max(seeds) >= FIRST_TUNING_SEED:
        raise InvalidValue(
            f"Seeds from {FIRST_TUNING_SEED} on are for tuning: trials that choose settings and are not reported. "
            f"Got {max(seeds)}: use lower ones."
        )
    if repeated := [seed for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]:
        raise InvalidValue(f"seeds must differ from each other: {repeated[0]} is listed twice. Got {value!r} instead.")
    return tuple(seeds)


def parse_rates(rates: Sequence[float], corruption: Choice) -> tuple[float, ...]:
    """Return the corruption rates in rising order; without corruption only 0."""
    if not rates:
        example = format_setting("rates", [0, 0.2])
        raise InvalidValue(f"rates must hold at least one corruption rate, for example {example}. Got [] instead.")
    for rate in rates:
        check_share(THE_EXPERIMENT, rates=rate)
    if corruption.name == "none":
        return (0.0,)
    return tuple(sorted(set(map(float, rates))))


@dataclass(frozen=True)
class ExperimentPlan:
    """The experiments of one configuration, at least one, and the combinations that do not fit."""

    experiments: tuple[Experiment, ...]
    skipped: tuple[Incompatible, ...]
    protocol: Protocol  # where it tunes, experiments are its candidates
    workers: int | None = None  # processes; None chooses


def resolve(settings: Mapping[str, Any]) -> tuple[Experiment, ...]:
    """Return the experiments of some settings. Raises `LossbenchError` for anything that is wrong."""
    return make_plan(settings).experiments


@contextmanager
def explain_output() -> Iterator[None]:
    """Name the setting in the error about a folder of records that cannot be written."""
    try:
        yield
    except RecordError as error:
        if isinstance(error.__cause__, OSError) and str(error).startswith("Cannot write"):
            raise RecordError(f"{error} Choose another folder with output=.") from error
        raise


def make_plan(settings: Mapping[str, Any]) -> ExperimentPlan:
    """Return one experiment per fitting combination of data, loss, weighting, corruption and numbers, in list order.

    settings: as `complete` takes them; Hydra's composed configuration is one such mapping.

    Raises `Incompatible` if no combination fits, and `LossbenchError` for anything else that is wrong.
    """
    if OmegaConf.is_config(settings):
        settings = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True))
    load_plugins(settings)  # before their choices are looked up
    config = complete(settings)
    builder = _ExperimentBuilder(config)
    protocol = builder.protocol
    skipped: list[Incompatible] = []
    # 1. the parts: of each group, those that fit the task
    datasets, losses, weightings, corruptions = (
        _make_fitting(list_choices(group, config, builder.task.name), partial(builder.make_part, group), skipped)
        for group in LISTS
    )
    check_search_space(protocol, [loss.choice.name for loss in losses])
    # 2. the candidates of tuning: losses with their tuned fields, and learning rates of the grid
    variants = [variant for loss in losses for variant in builder.make_variants(loss)]
    grid = {"lr": list(protocol.grid)} if protocol.tunes else {}
    optimizers = make_optimizers({**config, **grid}, builder.kind)
    # 3. all combinations that fit
    combinations = product(datasets, variants, weightings, corruptions, optimizers)
    experiments = _make_fitting(combinations, lambda parts: builder.make_experiment(*parts), skipped)
    reasons = tuple({str(error): error for error in skipped}.values())  # each once
    return ExperimentPlan(tuple(dict.fromkeys(experiments)), reasons, protocol, config["workers"])


def _make_fitting(items: Iterable[T], make: Callable[[T], U], skipped: list[Incompatible]) -> list[U]:
    """Return `make(item)` for items that fit; add the errors of the others to `skipped`, or raise one if none fits."""
    results, errors = [], []
    for item in items:
        try:
            results.append(make(item))
        except Incompatible as error:
            errors.append(error)
    if errors and not results:
        raise errors[0]
    skipped += errors
    return results


@dataclass(frozen=True)
class _Part:
    """A choice and its instance, which is built once and not for each combination."""

    choice: Choice
    built: Any
    contender: str = ""


class _ExperimentBuilder:
    """Makes the experiments of one configuration from their parts; holds all that they share."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.task = make_choice("task", config["task"])
        self.kind: Task = registry.tasks.build(self.task)
        self.model = make_choice("model", config["model"], self.task.name)
        self.metric = self.kind.metrics[0] if config["metric"] is None else str(config["metric"])
        if config["metric"] is not None:
            metric = registry.metrics.find(self.metric, self.task.name)
            check_task(registry.metrics, self.metric, metric, self.task.name)
        self.sizes = read_sizes(config, self.kind)
        self.protocol = Protocol.from_config(config, self.kind.settings["lr"])
        self.seeds = parse_seeds(self.protocol.seeds if config["seeds"] is None else config["seeds"])
        self.output = Path(config["output"])

    def make_part(self, group: str, value: Any) -> _Part:
        """Return a choice with its instance. Raises `Incompatible` if it does not fit the task."""
        choice = make_choice(group, value, self.task.name)
        built = GROUPS[group].build(choice)
        if group == "loss":
            check_outputs(choice.label, built, self.task.name, self.kind)
        return _Part(choice, built)

    def make_variants(self, loss: _Part) -> list[_Part]:
        """Return the loss with each combination of its tuned fields."""
        name = loss.choice.name
        if not self.protocol.get_search_space(name):
            return [loss]
        parts = [
            replace(
                self.make_part("loss", {"name": name, **loss.choice.fields, **variant}), contender=loss.choice.label
            )
            for variant in self.protocol.list_variants(name)
        ]
        return parts[:1] if self.protocol.search else parts  # a search begins with one; the others are checked only

    def make_experiment(
        self, data: _Part, loss: _Part, weighting: _Part, corruption: _Part, optimizer: Optimizer
    ) -> Experiment:
        """Return the experiment of one combination. Raises `Incompatible`."""
        check_scheme(weighting.choice, weighting.built, self.task.name, data.choice)
        check_pair(loss.choice.name, loss.built, weighting.choice.name, weighting.built, self.kind)
        choices: dict[str, Any] = {
            "task": self.task,
            "data": data.choice,
            "model": self.model,
            "loss": loss.choice,
            "weighting": weighting.choice,
            "corruption": corruption.choice,
        }
        sources = [(GROUPS[group].group, choice) for group, choice in choices.items()]
        template = Trial(
            **choices,
            corruption_rate=0.0,
            seed=0,
            optimizer=optimizer,
            **self.sizes | {"head": self._select_head(loss), "metric": self.metric},
            contender=loss.contender,
            fingerprint=compute_fingerprint(*sources, ("metrics", Choice(self.metric))),
        )
        return Experiment(template, self.seeds, parse_rates(self.config["rates"], corruption.choice), self.output)

    def _select_head(self, loss: _Part) -> str:
        """Return the head that is set, or the loss's. Raises `Incompatible` if the loss cannot read its outputs."""
        head, needed = self.config["head"], loss.built.head
        if head is None:
            return str(needed)
        heads = [str(option) for option in self.kind.heads]
        if head not in heads:
            raise make_unknown("head", head, heads, f"Heads of {self.task.name}")
        # losses for the other heads can take means for values
        needs_its_own = needed in (Head.MEAN_SCALE, Head.EMBEDDING)
        if head != needed and (needs_its_own or head == Head.EMBEDDING):
            message = f"loss={loss.choice.name} needs head={needed}; it cannot read the outputs of head={head}."
            raise Incompatible(message, loss.choice.name, f"cannot read the outputs of head={head}")
        return str(head)
