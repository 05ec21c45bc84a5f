"""What can be set from the command line, with types and defaults. None: the task's default.

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
from lossbench.types import Optimizer, Setting, Trial, list_settings

THE_EXPERIMENT = type("the experiment", (), {})()
"""Named in messages: The 'lr' parameter of the experiment must be ..."""
SETTINGS: Mapping[str, Setting] = {one.path: one for one in (*list_settings(Trial), *list_settings(Optimizer))}
"""Those of a trial, by the path that is typed."""


LISTED = tuple(path for path, one in SETTINGS.items() if one.per_replica)
"""Numbers in which replicas of a stack may differ: each takes a list."""
CHOICES = ("task", "data", "model", "loss", "weighting", "corruption")
"""Config groups whose choices are registered names."""
LISTS = {"data": "datasets", "loss": "losses", "weighting": "weightings", "corruption": "corruptions"}
"""Groups of which one command can take several, and the setting that lists them."""


def _field_of(one: Setting) -> tuple[str, Any, Any]:
    kind: Any = Any if one.per_replica else one.type if one.default is not None else one.type | None
    return one.key, kind, field(default=one.default)


def _group_of(name: str) -> tuple[str, Any, Any]:
    members = [_field_of(one) for one in SETTINGS.values() if one.group == name]
    kind = make_dataclass(f"{name.capitalize()}Config", members)
    return name, kind, field(default_factory=kind)


@dataclass
class ProtocolConfig:
    """`protocol.*`: how losses are tuned before they are compared. `protocol=quick|tuned|rigorous` sets them."""

    name: str = "quick"
    seeds: int = 5  # that are reported, unless seeds= says otherwise
    tuning_seeds: int = 0  # of their own, on which settings are chosen; 0: untuned
    lr_grid: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0, 10.0])  # of lr, or of the task's
    tune_at: str = "each_rate"  # each_rate | clean: at rate 0 for all
    grid_extensions: int = 0  # how often the grid may be widened where the best of it lies at its edge
    search_space: Any = None  # of losses, tuned too: {huber: {delta: [0.5, 1, 2]}}
    search: int = 0  # candidates of a search by Optuna in place of the grid, per loss and rate; 0: the grid
    batch: int = 8  # of them that train together
    variety: bool = False  # several data sets and corruptions: the task's


@dataclass
class _Choices:
    """What a command takes beside the settings of a trial."""

    task: Any = None
    data: Any = None
    model: Any = None
    loss: Any = None
    weighting: Any = None
    corruption: Any = None
    losses: Any = None  # several losses, one experiment each, in shared stacks: a list, all or shortlist
    weightings: Any = None  # the same
    corruptions: Any = None
    datasets: Any = None
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    seeds: Any = None  # how many, or a list; null: as many as the protocol says
    rates: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.2, 0.4])
    output: str = "results"
    workers: int | None = None  # worker processes; null chooses
    plugins: Any = field(default_factory=list)  # files and modules with losses and other choices of your own


Schema: Any = make_dataclass(
    "Schema",
    [
        *(_field_of(one) for one in SETTINGS.values() if not one.group),
        *(_group_of(name) for name in dict.fromkeys(one.group for one in SETTINGS.values() if one.group)),
    ],
    bases=(_Choices,),
)
"""The whole configuration of a command."""
_GROUPS: Mapping[str, Any] = {f.name: f.default_factory for f in fields(Schema) if is_dataclass(f.default_factory)}
"""Settings that are set by their fields."""


def check_types(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, as nested mappings, with the schema's defaults and types; interpolations are followed.

    Raises `LossbenchError` for a setting that there is not, and for a value of another type.
    """
    for name, owner in _GROUPS.items():  # of a mapping, OmegaConf does not say which one it is
        if not isinstance(value := given.get(name, {}), Mapping | NoneType):
            fields_ = ", ".join(f"{name}.{f.name}=" for f in fields(owner))
            raise InvalidValue(f"{name} must be set by its fields: {fields_}. Got {value!r} instead.")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Schema), OmegaConf.create(dict(given)))
        return cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))
    except OmegaConfBaseException as error:
        raise convert_omegaconf_error(error, CHOICES) from error


def refuse_ignored_choices(given: Mapping[str, str], lists: Mapping[str, Any]) -> None:
    """Raise `InvalidValue` for a choice that would not count, as its list is set, maybe by a preset.

    given: choices, as they are spelt in the message, by their names. lists: all settings.
    """
    for one, several in LISTS.items():
        if one in given and lists.get(several) is not None:
            raise InvalidValue(
                f"{given[one]!r} would not count, as {several} is set, which lists what is compared. "
                f"Put it into '{several}=[...]', or add {several}=null."
            )


def parse_numbers(path: str, given: Any) -> list[float]:
    """One of `LISTED` as a list: a single number is a list of one. Raises `InvalidValue`."""
    values = given if isinstance(given, list) else [given]
    if not values:
        raise InvalidValue(f"{path}=[] asks for nothing. Give at least one number.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InvalidValue(f"{path} must be a number, or a list of numbers. Got {value!r} instead.")
        check_setting(SETTINGS[path], float(value))
    return [float(value) for value in values]


def check_setting(one: Setting, value: Any) -> None:
    """Raise `InvalidValue` or `UnknownName` for what a setting cannot be."""
    if one.options:
        check_value(one.path, value, one.options)
    if one.check:
        one.check(THE_EXPERIMENT, **{one.path: value})


def check_value(setting: str, given: str, allowed: Sequence[str]) -> None:
    """Raise `UnknownName` for what is not among the `allowed`."""
    if given not in allowed:
        raise make_unknown(setting, given, allowed, "Its values")
