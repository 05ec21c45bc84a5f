"""Plain values that all layers share: enums and frozen dataclasses, without torch; and the definition of settings."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from typing import Any

import numpy.typing as npt

from lossbench.validation import (
    check_below_one,
    check_count,
    check_inside_one,
    check_nonnegative,
    check_positive,
    check_share,
)

KEY = "setting"
"""The key of a setting in a field's metadata."""


@dataclass(frozen=True)
class Setting:
    """A number or word of a trial: its name, default, check, column and description."""

    name: str  # of the field
    path: str  # as users type it: optimizer.weight_decay
    default: Any  # None: that of the task or the loss
    text: str  # one line for people
    type: type
    check: Callable[..., None] | None = None  # called as check(owner, **{path: value})
    options: tuple[str, ...] = ()  # the words that are allowed
    per_replica: bool = False  # replicas of a stack may differ in it, so it takes a list
    column: str = ""  # of trials.parquet
    added_later: bool = False  # after ids were first made: it enters them only where it is not at its default

    @property
    def group(self) -> str:
        """The mapping of the configuration that holds it; empty at the top level."""
        return self.path.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Its name in that mapping."""
        return self.path.rpartition(".")[2]

    def read(self, config: Mapping[str, Any]) -> Any:
        """Return its value in a complete configuration."""
        return (config[self.group] if self.group else config)[self.key]


def define_setting(
    path: str,
    text: str,
    *,
    default: Any = MISSING,
    unset: Any = MISSING,
    check: Callable[..., None] | None = None,
    options: tuple[str, ...] = (),
    per_replica: bool = False,
    column: str = "",
    added_later: bool = False,
) -> Any:
    """Return a dataclass field that is a setting.

    default: of the field, and of the configuration unless `unset` gives that another one (None: the task's own).
    """
    facts = {
        "path": path,
        "text": text,
        "check": check,
        "options": options,
        "per_replica": per_replica,
        "column": column,
        "added_later": added_later,
        "default": default if unset is MISSING else unset,
    }
    return field(default=default, metadata={KEY: facts})


def list_settings(kind: Any) -> tuple[Setting, ...]:
    """Return the settings among the fields of a dataclass, in their order."""
    settings = []
    for f in fields(kind):
        if KEY in f.metadata:
            facts = dict(f.metadata[KEY])
            facts["column"] = facts["column"] or f.name
            assert isinstance(f.type, type)  # these classes are annotated with plain types
            settings.append(Setting(name=f.name, type=f.type, **facts))
    return tuple(settings)


def enters_hashes(f: "Field[Any]", value: Any) -> bool:
    """Return True if a field's value is part of hashes: a field that was added later only if it is not at its default.

    Trials that were recorded before the field existed so keep their ids.
    """
    facts = f.metadata.get(KEY, {})
    return f.compare and not (facts.get("added_later") and value == facts["default"])


def list_columns(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the columns of `trials.parquet` that hold an instance's settings, with its values."""
    for setting in list_settings(owner):
        yield setting.column, getattr(owner, setting.name)


Array = npt.NDArray[Any]


class Space(StrEnum):
    """The form of a prediction that a loss takes; the task converts the head's raw output."""

    VALUE = "value"  # [..., D] in standardised units
    ORIGINAL = "original"  # [..., D] in original units
    POSITIVE = "positive"  # [..., D] > 0 in original units, through softplus
    LOG_RATE = "log_rate"  # [..., D], logarithms of positive values in original units
    MEAN_LOG_SCALE = "mean_log_scale"  # [..., 2 D]: D means, then D log scales, standardised
    ZERO_INFLATED = "zero_inflated"  # [..., 2 D]: D log rates, then D logits of a zero that no rate explains
    LOGIT = "logit"  # [..., C], or [..., L] with one sigmoid each
    PROBABILITY = "probability"  # the same in [0, 1]
    LOG_PROBABILITY = "log_probability"  # the same, logarithm taken safely
    SCORE = "score"  # unbounded margin: above zero is the positive class
    EMBEDDING = "embedding"  # [..., E]; the loss itself turns it into scores
    BOX_XYXY = "box_xyxy"  # [..., 4] corners x1, y1, x2, y2 in original units, x1 < x2 and y1 < y2
    SEQUENCE_LOGIT = "sequence_logit"  # [..., T, C], a logit per time step and token, token 0 being the blank
    NEXT_TOKEN = "next_token"  # [..., T, C], at each position a logit per token that may come next
    LIST_SCORE = "list_score"  # [..., N], a score per item of one list, unbounded: the highest comes first
    PAIR_SCORE = "pair_score"  # [..., 2], the scores of two items


class Encoding(StrEnum):
    """The form of a target that a loss takes."""

    VALUE = "value"  # [..., D] in standardised units
    ORIGINAL = "original"  # [..., D] in original units
    POSITIVE = "positive"  # [..., D] in original units, which must not be negative
    ABOVE_ZERO = "above_zero"  # [..., D] in original units, which must not be negative or 0
    INDEX = "index"  # [...] whole numbers below C
    ONE_HOT = "one_hot"  # [..., C] of 0 and 1 with one 1 (a single output: that output's 0 or 1)
    MULTI_HOT = "multi_hot"  # [..., L] of 0 and 1
    SIGNED = "signed"  # [..., L] of -1 and 1
    BOX_XYXY = "box_xyxy"  # [..., 4] corners in original units, x1 < x2 and y1 < y2
    TOKENS = "tokens"  # [..., S] whole numbers from 1 below C, then PADDING up to the longest
    SEQUENCE = "sequence"  # [..., T] whole numbers from 0 below C, the token at each position, PADDING where none is
    RELEVANCE = "relevance"  # [..., N] grades from 0, the higher the better, PADDING where a list has no item
    ORDER = "order"  # [...] of 1 where the first of two items is to come first, and -1 where the second
    TEACHER = "teacher"  # [..., 2, C]: a teacher's logits, and below them 0 and 1 with one 1 for the class


class Head(StrEnum):
    """The last layer of the network, which a loss chooses."""

    LINEAR = "linear"
    MEAN_SCALE = "mean_scale"
    COSINE = "cosine"
    EMBEDDING = "embedding"


BLANK = 0
"""The token that stands for "nothing here" in a sequence of predictions; no target holds it."""
PADDING = -1
"""The token that fills a sequence up behind its end."""
EMBEDDING_WIDTH = 32
"""The number of outputs of the embedding head."""


class Requirement(StrEnum):
    """A keyword argument that a loss or weighting asks for beyond prediction and target."""

    CLASS_COUNTS = "class_counts"  # [..., 1, C]: training examples per class, after corruption
    RESIDUAL_SCALE = "residual_scale"  # [..., 1, D]: 1.4826 MAD of the residuals, refreshed as training goes
    PROGRESS = "progress"  # share of training done, 0 to 1
    PARAMETERS = "parameters"  # trainable tensors by name, made by `init_parameters()`
    STATE = "state"  # a tensor made by `init_state()`; the call returns the next one beside the losses
    INDEX = "index"  # [...]: each example's position in the training split
    SAMPLE_WEIGHT = "sample_weight"  # [...]: the data's own weights, of mean 1 over the training split
    CLASS_NAMES = "class_names"  # tuple of str
    N_EXAMPLES = "n_examples"  # of the training split
    EPOCH = "epoch"  # completed passes over the training split
    GRAMIAN = "gramian"  # [..., K, K]: inner products of the gradients of a combined loss's K terms


class Picture(StrEnum):
    """The kind of picture of a task's example: its input, with target and prediction on or above it."""

    NONE = "none"
    LABELS = "labels"  # the names of the classes
    BOX = "box"  # a rectangle
    TEXT = "text"  # the tokens in a line


@dataclass(frozen=True)
class Choice:
    """A registered name with the fields that were set: plain, hashable, serialisable."""

    name: str
    settings: str = "{}"  # JSON with sorted keys, so that equal choices are equal values
    local: str = field(default="{}", compare=False)  # more fields, which no number depends on: paths of files

    @staticmethod
    def from_fields(
        name: str, fields: Mapping[str, Any] | None = None, local: Mapping[str, Any] | None = None
    ) -> "Choice":
        """Make a choice from mappings of fields (plain values, lists and mappings)."""
        return Choice(name, *(json.dumps(dict(f or {}), sort_keys=True, default=str) for f in (fields, local)))

    @property
    def fields(self) -> dict[str, Any]:
        """The fields as keyword arguments."""
        return dict(json.loads(self.settings) | json.loads(self.local))

    @property
    def label(self) -> str:
        """For people: `huber`, `huber(delta=2.0)`, `combined(mse+0.5*mae)`."""
        return _format_value({"name": self.name, **json.loads(self.settings)})


def _format_value(value: Any) -> str:
    """Return a field's value as text; choices, alone or as the terms of another choice, as their labels."""
    # terms with their weights: mse+0.5*mae
    if isinstance(value, list) and value and all(isinstance(v, dict) and "name" in v for v in value):
        return "+".join(f"{v['weight']:g}*{_format_value(v)}" if "weight" in v else _format_value(v) for v in value)
    # a plain value
    if not isinstance(value, dict) or "name" not in value:
        return str(value).replace("'", "")
    # a choice; `terms` needs no field name: combined(mse+mae)
    fields = {n: v for n, v in value.items() if n not in ("name", "weight")}
    inside = ", ".join(_format_value(v) if n == "terms" else f"{n}={_format_value(v)}" for n, v in fields.items())
    return f"{value['name']}({inside})" if inside else str(value["name"])


@dataclass(frozen=True)
class Optimizer:
    """The optimizer. `lr`, decay, schedule, warm-up and `clip` may differ between the replicas of a stack."""

    name: str = define_setting(
        "optimizer.name", "the rule of a step", default="adamw", options=("adamw", "sgd"), column="optimizer"
    )
    lr: float = define_setting(
        "lr", "the learning rate, after warm-up", default=1e-3, unset=None, check=check_positive, per_replica=True
    )
    weight_decay: float = define_setting(  # decoupled: theta <- theta (1 - lr decay)
        "optimizer.weight_decay", "decoupled weight decay", default=0.0, check=check_nonnegative, per_replica=True
    )
    momentum: float = define_setting("optimizer.momentum", "of sgd", default=0.9, check=check_below_one)
    beta1: float = define_setting("optimizer.beta1", "of adamw", default=0.9, check=check_below_one)
    beta2: float = define_setting("optimizer.beta2", "of adamw", default=0.999, check=check_below_one)
    eps: float = define_setting("optimizer.eps", "of adamw", default=1e-8, check=check_positive)
    schedule: str = define_setting(
        "optimizer.schedule", "of the learning rate over the steps", default="cosine", options=("constant", "cosine")
    )
    warmup: float = define_setting(
        "optimizer.warmup",
        "share of the steps with a linearly rising learning rate",
        default=0.0,
        check=check_share,
        per_replica=True,
    )
    clip_mode: str = define_setting(
        "clip.mode",
        "clipping of gradients, per trial",
        default="none",
        options=("none", "norm", "value", "per_tensor"),
    )
    clip: float = define_setting(
        "clip.threshold", "above which gradients are clipped", default=1.0, check=check_positive, per_replica=True
    )

    @property
    def family(self) -> tuple[object, ...]:
        """The settings that all replicas of a stack must share."""
        return (self.name, self.momentum, self.beta1, self.beta2, self.eps, self.clip_mode)


@dataclass(frozen=True)
class Trial:
    """One training: everything that its numbers depend on, as plain values."""

    task: Choice
    data: Choice
    model: Choice
    loss: Choice
    weighting: Choice
    corruption: Choice
    corruption_rate: float
    seed: int
    optimizer: Optimizer
    head: str = define_setting("head", "the last layer", unset=None)
    batch_size: int = define_setting("batch_size", "examples per step", unset=None, check=check_count)
    epochs: float = define_setting("epochs", "passes over the training split", unset=None, check=check_positive)
    evaluations: int = define_setting("evaluations", "points of the learning curve", unset=25, check=check_count)
    metric: str = define_setting("metric", "that losses are compared by", unset=None)
    validation: str = define_setting(
        "validation",
        "whether validation examples are corrupted like training",
        unset="corrupted",
        options=("corrupted", "clean"),
    )
    split_test: float = define_setting(
        "split.test", "share of the test split; the data's own is kept", unset=0.25, check=check_inside_one
    )
    split_validation: float = define_setting(
        "split.validation", "share of what is not test", unset=0.2, check=check_inside_one
    )
    precision: str = define_setting(
        "precision", "of the network's arithmetic", unset="32", options=("32", "bf16", "64")
    )
    fingerprint: str = ""  # versions, and the sources of what is not built in
    contender: str = ""  # where fields of the loss are tuned: the common name of its variants

    @property
    def stack_key(self) -> tuple[object, ...]:
        """Trials with equal keys differ only in values and train as replicas of one stack."""
        shared = (self.task, self.data, self.model, self.head, self.batch_size, self.epochs, self.evaluations)
        return (*shared, self.metric, self.split_test, self.split_validation, self.precision, self.optimizer.family)


@dataclass(frozen=True)
class Stack:
    """Trials that train together, replica r being `trials[r]`. Serialisable: a worker needs nothing else."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Examples:
    """A data set as arrays: inputs `[N, ...]` and targets as the task defines them.

    Targets: `[N, D]` float values, `[N]` class indices, `[N, L]` of 0 and 1, `[N, 4]` float corners, or `[N, S]` tokens
    from 1 with `PADDING` behind.
    """

    inputs: Array
    targets: Array
    class_names: tuple[str, ...] = ()  # of the C classes, L labels, D targets, or tokens from 1 on
    test: Array | None = None  # positions of the data set's own test split
    groups: Array | None = None  # [N] whole numbers: examples of one group (a patient, a writer) share a split
    weights: Array | None = None  # [N], at least 0: weight of each example, for weighting=sample


@dataclass(frozen=True)
class Problem:
    """The sizes that heads, losses and metrics are made for."""

    input_shape: tuple[int, ...]
    n_outputs: int  # D targets, C classes or tokens, L labels
    n_examples: int  # of the training split
    class_names: tuple[str, ...] = ()
    n_steps: int = 0  # T, where a task predicts something at each time step
