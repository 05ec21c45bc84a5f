"""From what was typed to experiments: defaults filled in, everything validated before anything is written."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf

from lossbench import plugins, registry
from lossbench.config import numbers
from lossbench.config.choices import check_fits, choice, listed
from lossbench.config.defaults import complete
from lossbench.config.experiment import GROUPS, Experiment
from lossbench.config.own import places
from lossbench.config.pairs import check_outputs, check_pair, check_scheme
from lossbench.config.protocol import Protocol, check_used
from lossbench.config.schema import LISTS
from lossbench.errors import Incompatible, unknown
from lossbench.interfaces import Task
from lossbench.types import Choice, Head, Optimizer, Trial
from lossbench.versions import fingerprint

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Combinations:
    """What the lists of one configuration make together: at least one experiment, and what does not fit."""

    experiments: tuple[Experiment, ...]
    skipped: tuple[Incompatible, ...]
    protocol: Protocol  # where it tunes, experiments are its candidates


def resolve(settings: Mapping[str, Any]) -> tuple[Experiment, ...]:
    """Return the experiments of some settings. Raises `LossbenchError` for anything that is off."""
    return combinations(settings).experiments


def combinations(settings: Mapping[str, Any]) -> Combinations:
    """One experiment per loss, weighting, corruption and set of numbers that fit together, in the order of the lists.

    settings: as `complete` takes them; Hydra's composed configuration is one such mapping.

    Raises `Incompatible` if none fit, and `LossbenchError` for anything else that is off.
    """
    if OmegaConf.is_config(settings):
        settings = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True))
    plugins.load(places(settings.get("plugins")))  # before its choices are looked up
    plain = complete(settings)
    shared = _Shared(plain)
    skipped: list[Incompatible] = []
    options = [_fitting(listed(g, plain, shared.task.name), partial(shared.part, g), skipped) for g in LISTS]
    datasets, losses, weightings, corruptions = options
    check_used(shared.protocol, [loss.choice.name for loss in losses])
    variants = [variant for loss in losses for variant in shared.variants(loss)]
    wanted = product(datasets, variants, weightings, corruptions, shared.optimizers())
    found = _fitting(wanted, lambda combination: shared.experiment(*combination), skipped)
    told = tuple({str(error): error for error in skipped}.values())
    return Combinations(tuple(dict.fromkeys(found)), told, shared.protocol)


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
        self.task = choice("task", plain["task"])
        self.kind: Task = registry.tasks.build(self.task)
        self.model = choice("model", plain["model"], self.task.name)
        self.metric = self._metric(plain["metric"])
        self.sizes = numbers.sizes(plain, self.kind)
        self.protocol = Protocol.of(plain, self.kind.settings["lr"])
        self.seeds = numbers.seeds(self.protocol.seeds if plain["seeds"] is None else plain["seeds"])
        self.output = Path(plain["output"])

    def part(self, group: str, given: Any) -> _Part:
        found = choice(group, given, self.task.name)
        built = GROUPS[group].build(found)
        if group == "loss":
            check_outputs(found.label, built, self.task.name, self.kind)
        return _Part(found, built)

    def optimizers(self) -> list[Optimizer]:
        """One per learning rate of the grid, and combination of the other numbers that are listed."""
        lrs = {"lr": list(self.protocol.grid)} if self.protocol.tunes else {}
        return numbers.optimizers({**self.plain, **lrs}, self.kind)

    def variants(self, loss: _Part) -> list[_Part]:
        """The loss with each combination of the fields that are tuned."""
        if not self.protocol.space(loss.choice.name):
            return [loss]
        given = [
            {"name": loss.choice.name, **loss.choice.fields, **v} for v in self.protocol.variants(loss.choice.name)
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
            rate=0.0,
            seed=0,
            optimizer=optimizer,
            **self.sizes | {"head": self._head(loss), "metric": self.metric},
            contender=loss.contender,
            fingerprint=fingerprint(
                *((GROUPS[g].group, c) for g, c in parts.items()), ("metrics", Choice(self.metric))
            ),
        )
        return Experiment(template, self.seeds, numbers.rates(self.plain["rates"], corruption.choice), self.output)

    def _metric(self, asked: str | None) -> str:
        if asked is None:
            return self.kind.metrics[0]
        check_fits(registry.metrics, asked, registry.metrics.find(asked, self.task.name), self.task.name)
        return asked

    def _head(self, loss: _Part) -> str:
        asked, wanted = self.plain["head"], loss.built.head
        if asked is None:
            return str(wanted)
        heads = [str(h) for h in self.kind.heads]
        if asked not in heads:
            raise unknown("head", asked, heads, f"Heads of {self.task.name}")
        reads_only_its_own = wanted in (Head.MEAN_SCALE, Head.EMBEDDING)  # others can take means for values
        if asked != wanted and (reads_only_its_own or asked == Head.EMBEDDING):
            told = f"loss={loss.choice.name} needs head={wanted}; it cannot read the outputs of head={asked}."
            raise Incompatible(told, loss.choice.name, f"cannot read the outputs of head={asked}")
        return str(asked)
