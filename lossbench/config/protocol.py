"""Protocols: how losses are tuned before they are compared, and on how many seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self

from lossbench.config.choices import Experiment
from lossbench.config.schema import THE_EXPERIMENT, check_value, parse_numbers
from lossbench.errors import Incompatible, InvalidValue
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Choice, Optimizer
from lossbench.validation import check_count, check_number, check_positive

EACH_RATE, CLEAN = "each_rate", "clean"
RANGE = frozenset(("low", "high", "log"))
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
        """Whether it holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = tuple[Any, ...] | Range
"""What a field may be: some values, or a range."""


@dataclass(frozen=True)
class Protocol:
    """What is done before losses are compared, the same for each of them.

    seeds: the reported seeds, where a command names none.
    tuning_seeds: seeds that only choose learning rates (and `search_space`), by validation. 0: nothing is tuned.
    lrs: the learning-rate grid. clean: choose once, at corruption rate 0, and not at each rate.
    grid_extensions: how often the grid may grow where its best value lies at an edge.
    search_space: by loss, the fields of its own that are tuned.
    search: candidates of a search in place of the grid, per loss and rate; `batch` of them train together. 0: the grid.
    """

    name: str
    seeds: int
    tuning_seeds: int = 0
    lrs: tuple[float, ...] = ()
    clean: bool = False
    grid_extensions: int = 0
    search_space: tuple[tuple[str, tuple[tuple[str, Space], ...]], ...] = ()
    search: int = 0
    batch: int = 1

    @classmethod
    def from_config(cls, plain: Mapping[str, Any], lr: float) -> Self:
        """From a configuration; `lr` is the task's own. Raises `InvalidValue`."""
        given = plain["protocol"]
        check_count(THE_EXPERIMENT, **{"protocol.seeds": given["seeds"]})
        if not given["tuning_seeds"]:
            _check_unused(given)
            return cls(given["name"], given["seeds"])
        counts = {f"protocol.{n}": given[n] for n in ("tuning_seeds", "grid_extensions", "search") if given[n]}
        check_count(THE_EXPERIMENT, **counts, **{"protocol.batch": given["batch"]})
        check_value("protocol.tune_at", given["tune_at"], (EACH_RATE, CLEAN))
        return cls(
            given["name"],
            given["seeds"],
            given["tuning_seeds"],
            _grid(plain["lr"], lr, given["lr_grid"]),
            given["tune_at"] == CLEAN,
            given["grid_extensions"],
            _fields({} if given["search_space"] is None else given["search_space"], bool(given["search"])),
            given["search"],
            given["batch"],
        )

    @property
    def grid(self) -> tuple[float, ...]:
        """The learning rates to begin with; of a search, one, which it replaces."""
        return self.lrs[len(self.lrs) // 2 :][:1] if self.search else self.lrs

    @property
    def tunes(self) -> bool:
        """Whether anything is chosen before losses are compared."""
        return self.tuning_seeds > 0

    def get_search_space(self, loss: str) -> dict[str, Space]:
        """The fields of a loss that are tuned."""
        return dict(dict(self.search_space).get(loss, ()))

    def list_variants(self, loss: str) -> list[dict[str, Any]]:
        """All combinations of those fields on the grid; of a search, the two ends of what it may try."""
        space = self.get_search_space(loss)
        if self.search:
            return [{n: (s.ends if isinstance(s, Range) else s)[i] for n, s in space.items()} for i in (0, -1)]
        return [dict(zip(space, values, strict=True)) for values in product(*space.values())]  # type: ignore[arg-type]

    def make_tuning_experiment(self, experiment: Experiment) -> Experiment:
        """The trials of an experiment that choose, in place of those that are reported."""
        seeds = tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.tuning_seeds))
        return replace(experiment, seeds=seeds, rates=(0.0,) if self.clean else experiment.rates)


def get_contender(experiment: Experiment) -> Contender:
    """What of an experiment is not tuned: candidates with the same compete for being it."""
    t = experiment.template
    loss = t.contender or t.loss
    return replace(t, loss=Choice(""), optimizer=replace(t.optimizer, lr=1.0)), loss, experiment.output


def replace_lr(experiment: Experiment, lr: float) -> Experiment:
    """The same at another learning rate."""
    optimizer: Optimizer = replace(experiment.template.optimizer, lr=lr)
    return replace(experiment, template=replace(experiment.template, optimizer=optimizer))


def _check_unused(given: Mapping[str, Any]) -> None:
    """Nothing is tuned without tuning seeds: who asks for it is told."""
    for name in ("search_space", "search"):
        if given[name]:
            raise InvalidValue(
                f"protocol.{name} is tuned on tuning seeds, of which protocol={given['name']} has none. "
                "Use protocol=tuned, or set protocol.tuning_seeds=10."
            )


def _grid(given: Any, lr: float, factors: list[float]) -> tuple[float, ...]:
    """The listed learning rates; or one, the task's own if none is given, times the factors."""
    middles = parse_numbers("lr", lr if given is None else given)
    if isinstance(given, list):
        return tuple(sorted(set(middles)))
    if not factors:
        raise InvalidValue("protocol.lr_grid=[] leaves no learning rate to try. Give at least one, for example [1].")
    for factor in factors:
        check_positive(THE_EXPERIMENT, **{"protocol.lr_grid": factor})
    return tuple(sorted({round_value(middle * factor) for middle in middles for factor in factors}))


def round_value(value: float) -> float:
    """Three digits, which people can read and type."""
    return float(f"{value:.3g}")


def _fields(given: Any, search: bool) -> tuple[tuple[str, tuple[tuple[str, Space], ...]], ...]:
    if not isinstance(given, Mapping) or not all(isinstance(own, Mapping) and own for own in given.values()):
        raise InvalidValue(
            "protocol.search_space must say which fields of which losses are tuned, as in "
            f"'protocol.search_space={{huber:{{delta:[0.5,1,2]}}}}'. Got {given!r} instead."
        )
    return tuple(
        (loss, tuple((name, _space(f"{loss}.{name}", space, search)) for name, space in own.items()))
        for loss, own in given.items()
    )


def _space(name: str, given: Any, search: bool) -> Space:
    if isinstance(given, list) and given:
        return tuple(given)
    if isinstance(given, Mapping) and given.keys() <= RANGE and {"low", "high"} <= given.keys():
        if not search:
            raise InvalidValue(
                f"protocol.search_space: a range of {name} needs a search. Set protocol.search=20, or list its values."
            )
        return _range(name, Range(**given))
    raise InvalidValue(
        f"protocol.search_space: {name} must be a list of values, or a range as in {{low: 0.1, high: 10, log: true}}. "
        f"Got {given!r} instead."
    )


def _range(name: str, given: Range) -> Range:
    check_number(
        THE_EXPERIMENT, **{f"protocol.search_space.{name}.{end}": getattr(given, end) for end in ("low", "high")}
    )
    if not given.low < given.high or (given.log and given.low <= 0):
        wanted = "0 < low < high, as log is set" if given.log else "low < high"
        raise InvalidValue(f"protocol.search_space: {name} must have {wanted}. Got low={given.low}, high={given.high}.")
    return given


def check_used(protocol: Protocol, losses: list[str]) -> None:
    """Raise `Incompatible` for tuned fields of a loss that is not compared."""
    for name, _ in protocol.search_space:
        if name not in losses:
            raise Incompatible(
                f"protocol.search_space names {name!r}, which is not among the losses: {', '.join(losses)}.",
                name,
                "is not compared",
            )
