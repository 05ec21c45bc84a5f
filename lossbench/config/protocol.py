"""Protocols: how losses are tuned before they are compared, and on how many seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self

from lossbench.config.choices import Experiment
from lossbench.config.schema import THE_EXPERIMENT, check_word, parse_numbers
from lossbench.errors import Incompatible, InvalidValue
from lossbench.notation import format_setting, format_value
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Choice, Optimizer
from lossbench.validation import check_count, check_number, check_positive

EACH_RATE, CLEAN = "each_rate", "clean"
RANGE_KEYS = frozenset(("low", "high", "log"))
Contender = tuple[object, ...]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high` that a search may try; `log`: evenly by their logarithms. Whole if both ends are."""

    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return self.low, self.high

    @property
    def whole(self) -> bool:
        """True if it holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


FieldSpace = tuple[Any, ...] | Range
"""The values that a field may take: listed, or a range."""
SearchSpace = tuple[tuple[str, tuple[tuple[str, FieldSpace], ...]], ...]
"""The values that are tried, by loss and field; tuples, so that a protocol is hashable."""


@dataclass(frozen=True)
class Protocol:
    """The work before losses are compared, the same for each of them.

    seeds: the reported seeds, where a command names none.
    tuning_seeds: seeds that only choose learning rates (and `search_space`), by validation. 0: nothing is tuned.
    lrs: the learning-rate grid. clean: choose once, at corruption rate 0, and not at each corruption rate.
    grid_extensions: how often the grid may grow where its best value lies at an edge.
    search_space: the fields of losses that are tuned.
    search: candidates of a search in place of the grid, per loss and corruption rate; `batch` of them train together.
        0: the grid.
    """

    name: str
    seeds: int
    tuning_seeds: int = 0
    lrs: tuple[float, ...] = ()
    clean: bool = False
    grid_extensions: int = 0
    search_space: SearchSpace = ()
    search: int = 0
    batch: int = 1

    @classmethod
    def from_config(cls, config: Mapping[str, Any], lr: float) -> Self:
        """Return the protocol of a configuration; `lr`: the task's learning rate. Raises `InvalidValue`."""
        protocol = config["protocol"]
        check_count(THE_EXPERIMENT, **{"protocol.seeds": protocol["seeds"]})
        # 1. nothing is tuned without tuning seeds: settings that would have no effect are refused
        if not protocol["tuning_seeds"]:
            for name in ("search_space", "search"):
                if protocol[name]:
                    raise InvalidValue(
                        f"protocol.{name} is tuned on tuning seeds, of which protocol={protocol['name']} has none. "
                        f"Use {format_setting('protocol', 'tuned')}, "
                        f"or set {format_setting('protocol.tuning_seeds', 10)}."
                    )
            return cls(protocol["name"], protocol["seeds"])
        # 2. numbers and words; 0 means none of them, and is valid
        counts = {f"protocol.{n}": protocol[n] for n in ("tuning_seeds", "grid_extensions", "search") if protocol[n]}
        check_count(THE_EXPERIMENT, **counts, **{"protocol.batch": protocol["batch"]})
        check_word("protocol.tune_at", protocol["tune_at"], (EACH_RATE, CLEAN))
        # 3. the grid and the search space
        return cls(
            protocol["name"],
            protocol["seeds"],
            protocol["tuning_seeds"],
            _make_grid(config["lr"], lr, protocol["lr_grid"]),
            protocol["tune_at"] == CLEAN,
            protocol["grid_extensions"],
            _parse_search_space(protocol["search_space"], bool(protocol["search"])),
            protocol["search"],
            protocol["batch"],
        )

    @property
    def grid(self) -> tuple[float, ...]:
        """The learning rates to begin with; for a search the middle one alone, which it replaces."""
        return self.lrs[len(self.lrs) // 2 :][:1] if self.search else self.lrs

    @property
    def tunes(self) -> bool:
        """True if anything is chosen before losses are compared."""
        return self.tuning_seeds > 0

    def get_search_space(self, loss: str) -> dict[str, FieldSpace]:
        """Return the fields of a loss that are tuned, with the values that are tried."""
        return dict(dict(self.search_space).get(loss, ()))

    def list_variants(self, loss: str) -> list[dict[str, Any]]:
        """Return all combinations of the tuned fields on the grid; for a search, the two ends of its space."""
        space = self.get_search_space(loss)
        if self.search:
            ends = {name: s.ends if isinstance(s, Range) else s for name, s in space.items()}
            return [{name: values[i] for name, values in ends.items()} for i in (0, -1)]
        return [dict(zip(space, values, strict=True)) for values in product(*space.values())]  # type: ignore[arg-type]

    def make_tuning_experiment(self, experiment: Experiment) -> Experiment:
        """Return the experiment on the tuning seeds, whose trials choose settings and are not reported."""
        seeds = tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.tuning_seeds))
        return replace(experiment, seeds=seeds, rates=(0.0,) if self.clean else experiment.rates)


def get_contender(experiment: Experiment) -> Contender:
    """Return the part of an experiment that is not tuned: candidates with equal parts compete with each other."""
    t = experiment.template
    loss = t.contender or t.loss
    return replace(t, loss=Choice(""), optimizer=replace(t.optimizer, lr=1.0)), loss, experiment.output


def replace_lr(experiment: Experiment, lr: float) -> Experiment:
    """Return the experiment at another learning rate."""
    optimizer: Optimizer = replace(experiment.template.optimizer, lr=lr)
    return replace(experiment, template=replace(experiment.template, optimizer=optimizer))


def _make_grid(lr: Any, task_lr: float, factors: list[float]) -> tuple[float, ...]:
    """Return the learning rates that are listed; or one, that of the task if none is set, times the factors."""
    middles = parse_numbers("lr", task_lr if lr is None else lr)
    if isinstance(lr, list):
        return tuple(sorted(set(middles)))
    if not factors:
        raise InvalidValue("protocol.lr_grid must hold at least one factor of the learning rate. Got [] instead.")
    for factor in factors:
        check_positive(THE_EXPERIMENT, **{"protocol.lr_grid": factor})
    return tuple(sorted({round_value(middle * factor) for middle in middles for factor in factors}))


def round_value(value: float) -> float:
    """Round to three digits, which people can read and type."""
    return float(f"{value:.3g}")


def _parse_search_space(value: Any, search: bool) -> SearchSpace:
    space_by_loss = {} if value is None else value
    if not isinstance(space_by_loss, Mapping) or not all(isinstance(s, Mapping) and s for s in space_by_loss.values()):
        example = format_setting("protocol.search_space", {"huber": {"delta": [0.5, 1, 2]}})
        raise InvalidValue(
            f"protocol.search_space must map losses to those of their fields that are tuned, as in {example}. "
            f"Got {value!r} instead."
        )
    return tuple(
        (loss, tuple((field, _parse_field_space(f"{loss}.{field}", s, search)) for field, s in fields.items()))
        for loss, fields in space_by_loss.items()
    )


def _parse_field_space(field: str, value: Any, search: bool) -> FieldSpace:
    if isinstance(value, list) and value:
        return tuple(value)
    if not isinstance(value, Mapping) or not {"low", "high"} <= value.keys() <= RANGE_KEYS:
        raise InvalidValue(
            f"protocol.search_space: {field} must be a list of values, or a range as in "
            f"{format_value({'low': 0.1, 'high': 10, 'log': True})}. Got {value!r} instead."
        )
    if not search:
        raise InvalidValue(
            f"protocol.search_space: a range of {field} needs a search. "
            f"Set {format_setting('protocol.search', 20)}, or list its values."
        )
    limits = Range(**value)
    check_number(
        THE_EXPERIMENT, **{f"protocol.search_space.{field}.{end}": getattr(limits, end) for end in ("low", "high")}
    )
    if not limits.low < limits.high or (limits.log and limits.low <= 0):
        expected = "0 < low < high, as log is set" if limits.log else "low < high"
        raise InvalidValue(
            f"protocol.search_space: {field} must have {expected}. Got low={limits.low}, high={limits.high}."
        )
    return limits


def check_search_space(protocol: Protocol, losses: list[str]) -> None:
    """Raise `Incompatible` for tuned fields of a loss that is not compared."""
    for name, _ in protocol.search_space:
        if name not in losses:
            raise Incompatible(
                f"protocol.search_space names {name!r}, which is not among the losses: {', '.join(losses)}.",
                name,
                "is not compared",
            )
