"""Settings of a command, with types and defaults. None stands for the task's default.

The settings of a trial come from the fields of `Trial` and `Optimizer`, where each is written once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from numbers import Real
from types import NoneType
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossbench.config.omegaconf_errors import convert_omegaconf_error
from lossbench.errors import InvalidValue, make_unknown
from lossbench.notation import format_paths, format_setting
from lossbench.types import Optimizer, Setting, Trial, list_settings

THE_EXPERIMENT = type("the experiment", (), {})()
"""Named in messages: The 'lr' parameter of the experiment must be ..."""
SETTINGS: Mapping[str, Setting] = {
    setting.path: setting for setting in (*list_settings(Trial), *list_settings(Optimizer))
}
"""Settings of a trial, by the path that is typed: `optimizer.warmup`."""
LISTED = tuple(path for path, setting in SETTINGS.items() if setting.per_replica)
"""Numbers in which replicas of a stack may differ: each takes a list."""
CHOICES = ("task", "data", "model", "loss", "weighting", "corruption")
"""Config groups whose choices are registered names."""
LISTS = {"data": "datasets", "loss": "losses", "weighting": "weightings", "corruption": "corruptions"}
"""Groups of which a command can take several choices, and the setting that lists them."""


def _make_fields(group: str) -> list[tuple[str, Any, Any]]:
    """Return the schema's fields for a group of settings, as `make_dataclass` takes them; "" is the top level."""
    columns: list[tuple[str, Any, Any]] = []
    for setting in SETTINGS.values():
        if setting.group == group:
            optional = setting.type if setting.default is not None else setting.type | None
            columns.append((setting.key, Any if setting.per_replica else optional, field(default=setting.default)))
    return columns


@dataclass
class ProtocolConfig:
    """`protocol.*`: how losses are tuned before they are compared. `protocol=quick|tuned|rigorous` sets them."""

    name: str = "quick"
    seeds: int = 5  # the number of reported seeds, unless seeds= sets it
    tuning_seeds: int = 0  # the number of further seeds on which settings are chosen; 0: untuned
    lr_grid: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0, 10.0])  # factors of lr
    tune_at: str = "each_rate"  # each_rate | clean: once, at corruption rate 0
    grid_extensions: int = 0  # how often the grid may grow where its best value lies at an edge
    search_space: Any = None  # fields of losses that are tuned, too: {huber: {delta: [0.5, 1, 2]}}
    search: int = 0  # candidates of an Optuna search, per loss and corruption rate; 0: the grid
    batch: int = 8  # candidates that train together
    variety: bool = False  # the task's several data sets and corruptions


@dataclass
class _Choices:
    """Settings of a command that are not those of a trial."""

    task: Any = None
    data: Any = None
    model: Any = None
    loss: Any = None
    weighting: Any = None
    corruption: Any = None
    losses: Any = None  # several losses, an experiment each, in shared stacks: a list, all or shortlist
    weightings: Any = None  # likewise
    corruptions: Any = None
    datasets: Any = None
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    seeds: Any = None  # their number, or a list; null: the protocol's number
    rates: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.2, 0.4])
    output: str = "results"
    workers: int | None = None  # worker processes; null chooses
    plugins: Any = field(default_factory=list)  # files and modules that define losses and other choices


_GROUP_CLASSES = {
    group: make_dataclass(f"{group.capitalize()}Config", _make_fields(group))
    for group in dict.fromkeys(setting.group for setting in SETTINGS.values() if setting.group)
}
Schema: Any = make_dataclass(
    "Schema",
    [
        *_make_fields(""),
        *((group, kind, field(default_factory=kind)) for group, kind in _GROUP_CLASSES.items()),
    ],
    bases=(_Choices,),
)
"""The whole configuration of a command."""
_GROUPS: Mapping[str, Any] = {f.name: f.default_factory for f in fields(Schema) if is_dataclass(f.default_factory)}
"""Settings that are mappings, and the classes of their fields."""


def check_types(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, as nested mappings, with the schema's defaults and types; interpolations are followed.

    Raises `LossbenchError` for an unknown setting, and for a value of the wrong type.
    """
    for name, owner in _GROUPS.items():  # for these OmegaConf does not say which setting is wrong
        if not isinstance(value := settings.get(name, {}), Mapping | NoneType):
            raise InvalidValue(
                f"{name} must be set by its fields: {format_paths(name, [f.name for f in fields(owner)])}. "
                f"Got {value!r} instead."
            )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Schema), OmegaConf.create(dict(settings)))
        return cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))
    except OmegaConfBaseException as error:
        raise convert_omegaconf_error(error, CHOICES) from error


def refuse_ignored_choices(choices: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Raise `InvalidValue` for a choice that has no effect because its list is set, perhaps by a preset.

    choices: choices that are set, as the message writes them, by group. settings: all settings.
    """
    for group, plural in LISTS.items():
        if group in choices and settings.get(plural) is not None:
            raise InvalidValue(
                f"{choices[group]} would not count, as {plural} is set, which lists what is compared. "
                f"Put it into {format_setting(plural, [...])}, or add {format_setting(plural, None)}."
            )


def parse_numbers(path: str, value: Any) -> list[float]:
    """Return the value of a setting in `LISTED` as a list: a single number is a list of one. Raises `InvalidValue`."""
    numbers = value if isinstance(value, list) else [value]
    if not numbers:
        raise InvalidValue(f"{path} must be a number, or a list with at least one number. Got [] instead.")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise InvalidValue(f"{path} must be a number, or a list of numbers. Got {number!r} instead.")
        check_setting(SETTINGS[path], float(number))
    return [float(number) for number in numbers]


def check_setting(setting: Setting, value: Any) -> None:
    """Raise `InvalidValue` or `UnknownName` for a value that the setting does not allow."""
    if setting.options:
        check_word(setting.path, value, setting.options)
    if setting.check:
        setting.check(THE_EXPERIMENT, **{setting.path: value})


def check_word(path: str, word: str, options: Sequence[str]) -> None:
    """Raise `UnknownName` for a word that is not among the options."""
    if word not in options:
        raise make_unknown(path, word, options, "Its values")
