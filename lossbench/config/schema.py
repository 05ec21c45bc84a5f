"""What can be set from the command line, with types and defaults. None: the task's default."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class OptimizerConfig:
    """`optimizer.*`: shared by all losses of a comparison."""

    name: str = "adamw"  # adamw | sgd
    weight_decay: Any = 0.0  # a number, or a list
    momentum: float = 0.9  # sgd
    beta1: float = 0.9  # adamw
    beta2: float = 0.999
    eps: float = 1e-8
    schedule: str = "cosine"  # constant | cosine
    warmup: Any = 0.0  # share of the steps; a number, or a list


@dataclass
class ClipConfig:
    """`clip.*`: per trial, never over the stack."""

    mode: str = "none"  # none | norm | value | per_tensor
    threshold: Any = 1.0  # a number, or a list


@dataclass
class SplitConfig:
    """`split.*`: shares of the data; a data set's own test split is kept."""

    test: float = 0.25
    validation: float = 0.2  # of what is not test


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
class Schema:
    """The whole configuration of a command."""

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
    epochs: float | None = None
    batch_size: int | None = None
    lr: Any = None  # a number, or a list
    metric: str | None = None
    head: str | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    validation: str = "corrupted"  # corrupted | clean
    evaluations: int = 25
    precision: str = "32"  # 32 | bf16 | 64
    output: str = "results"
    workers: int | None = None  # worker processes; null chooses
    plugins: Any = field(default_factory=list)  # files and modules with losses and other choices of your own
