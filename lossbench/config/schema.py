"""What can be set from the command line, with types and defaults. None: the task's default.

The settings of a trial come from the fields of `Trial` and `Optimizer`, where each is written once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from lossbench.settings import Setting, settings_of
from lossbench.types import Optimizer, Trial

SETTINGS: Mapping[str, Setting] = {one.path: one for one in (*settings_of(Trial), *settings_of(Optimizer))}
"""Those of a trial, by the path that is typed."""


def _field_of(one: Setting) -> tuple[str, Any, Any]:
    kind: Any = Any if one.listed else one.type if one.default is not None else one.type | None
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
    factors: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0, 10.0])  # of lr, or of the task's
    tune_at: str = "each_rate"  # each_rate | clean: at rate 0 for all
    widen: int = 0  # how often the grid may be widened where the best of it lies at its edge
    fields: Any = None  # of losses, tuned too: {huber: {delta: [0.5, 1, 2]}}
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
