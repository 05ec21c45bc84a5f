"""Classification: one of two classes, or one of C."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling, Task
from lossbench.numerics.softmax import log_softmax, softmax
from lossbench.tasks.refusals import make_refusal
from lossbench.types import EMBEDDING_WIDTH, Array, Encoding, Examples, Head, Problem, Space


@dataclass(frozen=True)
class Binary(Task):
    """One of two classes: targets `[N]` of 0 and 1, 1 being the positive class.

    Raw output: `[..., 1]`, the log-odds of the positive class. Class 1 is predicted where it is above 0.
    """

    spaces: ClassVar[tuple[Space, ...]] = (Space.LOGIT, Space.PROBABILITY, Space.LOG_PROBABILITY, Space.SCORE)
    encodings: ClassVar[tuple[Encoding, ...]] = (
        Encoding.INDEX,
        Encoding.ONE_HOT,
        Encoding.MULTI_HOT,
        Encoding.SIGNED,
    )
    metrics: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "auroc",
        "balanced_accuracy",
        "f1",
        "log_loss",
        "brier_score",
    )
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "bce",
        "data": "breast_cancer",
        "model": "mlp",
        "corruption": "symmetric_flips",
    }
    settings: ClassVar[Mapping[str, float]] = {"epochs": 50, "batch_size": 64, "lr": 0.003}
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "corruption": ("symmetric_flips", "asymmetric_flips", "feature_outliers"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("bce", "focal", "brier", "hinge")
    target_share: ClassVar[float] = 0.8

    def count_outputs(self, examples: Examples) -> int:
        """Return 1; raises `Incompatible` unless the targets are `[N]` of 0 and 1 and the names, if any, are two."""
        check_whole_numbers("binary", examples, n_classes=2)
        if len(examples.class_names) not in {0, 2}:
            raise Incompatible(f"The binary task has two classes. Got {len(examples.class_names)} class names.")
        return 1

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return 1."""
        if head not in self.heads:
            raise make_refusal("binary", head, self.heads)
        return 1

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Return zero and one: labels have no scale."""
        return np.zeros(1), np.ones(1)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Return the score unchanged, its sigmoid, or the logarithm of that without overflow; `[..., 1]`."""
        match space:
            case Space.LOGIT | Space.SCORE:
                return raw
            case Space.PROBABILITY:
                return raw.sigmoid()
            case Space.LOG_PROBABILITY:
                return logsigmoid(raw)
        raise make_refusal("binary", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the index `[...]`; or 0 and 1, or -1 and 1, `[..., 1]`."""
        match encoding:
            case Encoding.INDEX:
                return target.long()
            case Encoding.ONE_HOT | Encoding.MULTI_HOT:
                return target.unsqueeze(-1).to(scaling.shift.dtype)
            case Encoding.SIGNED:
                return 2 * target.unsqueeze(-1).to(scaling.shift.dtype) - 1
        raise make_refusal("binary", encoding, self.encodings)

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for an encoding that the task does not offer."""
        if encoding not in self.encodings:
            raise make_refusal("binary", encoding, self.encodings)

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the score of the positive class, `[..., 1]`, whatever space the loss takes."""
        return raw

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return the log-odds of the share of positives, `[n, 1]`; an absent class counts as half an example."""
        negatives, positives = np.maximum(count_classes(targets, 2), 0.5)
        return np.full((n, 1), np.log(positives / negatives))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Return the number of negatives and positives, `[2]`."""
        return count_classes(targets, 2)


@dataclass(frozen=True)
class Multiclass(Task):
    """One of C classes: targets `[N]` of whole numbers below C.

    Raw output: `[..., C]`, a score per class (its logit); with an embedding head `[..., 32]`, which the loss itself
    turns into scores.
    """

    spaces: ClassVar[tuple[Space, ...]] = (
        Space.LOGIT,
        Space.PROBABILITY,
        Space.LOG_PROBABILITY,
        Space.SCORE,
        Space.EMBEDDING,
    )
    encodings: ClassVar[tuple[Encoding, ...]] = (Encoding.INDEX, Encoding.ONE_HOT)
    heads: ClassVar[tuple[Head, ...]] = (Head.LINEAR, Head.COSINE, Head.EMBEDDING)
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier_score")
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "cross_entropy",
        "data": "digits",
        "model": "mlp",
        "corruption": "symmetric_flips",
    }
    settings: ClassVar[Mapping[str, float]] = {"epochs": 50, "batch_size": 64, "lr": 0.003}
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "data": ("digits", "breast_cancer"),
        "corruption": ("symmetric_flips", "asymmetric_flips", "feature_outliers"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("cross_entropy", "generalized_cross_entropy", "brier", "multi_margin")
    target_share: ClassVar[float] = 0.8

    def count_outputs(self, examples: Examples) -> int:
        """Return C: the number of class names, or one more than the largest target.

        Raises `Incompatible` unless the targets are `[N]` of whole numbers below C, and C at least 2.
        """
        n_classes = len(examples.class_names) or int(examples.targets.max(initial=0)) + 1
        check_whole_numbers("multiclass", examples, n_classes)
        if n_classes < 2:
            raise Incompatible("The multiclass task needs at least two classes. Got 1.")
        return n_classes

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return C, or the embedding's width."""
        if head not in self.heads:
            raise make_refusal("multiclass", head, self.heads)
        return EMBEDDING_WIDTH if head is Head.EMBEDDING else problem.n_outputs

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Return zero and one: labels have no scale."""
        return np.zeros(1), np.ones(1)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Return scores and embeddings unchanged, their softmax, or the logarithm of that without overflow."""
        match space:
            case Space.LOGIT | Space.SCORE | Space.EMBEDDING:
                return raw
            case Space.PROBABILITY:
                return softmax(raw)
            case Space.LOG_PROBABILITY:
                return log_softmax(raw)
        raise make_refusal("multiclass", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the index `[...]`, or one-hot `[..., C]`."""
        match encoding:
            case Encoding.INDEX:
                return target.long()
            case Encoding.ONE_HOT:
                # F.one_hot reads the values on the host, which makes a GPU wait
                classes = torch.arange(problem.n_outputs, device=target.device)
                return (target.unsqueeze(-1) == classes).to(scaling.shift.dtype)
        raise make_refusal("multiclass", encoding, self.encodings)

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for an encoding that the task does not offer."""
        if encoding not in self.encodings:
            raise make_refusal("multiclass", encoding, self.encodings)

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the class scores, `[..., C]`; for an embedding head those that the loss computed."""
        return raw

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return the logarithm of each class's share, `[n, C]`; an absent class counts as half an example."""
        counts = np.maximum(count_classes(targets, problem.n_outputs), 0.5)
        return np.tile(np.log(counts / counts.sum()), (n, 1))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Return the number of examples per class, `[C]`."""
        return count_classes(targets, problem.n_outputs)


def count_classes(targets: Array, n_classes: int) -> Array:
    """Count the examples of each class, `[C]`."""
    return np.bincount(targets.astype(np.int64), minlength=n_classes)


def check_whole_numbers(task: str, examples: Examples, n_classes: int) -> None:
    """Raise `Incompatible` unless the targets are `[N]` of whole numbers below C."""
    targets = examples.targets
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
        raise Incompatible(
            f"The {task} task takes whole-number targets of shape [N]. Got {targets.dtype} of shape "
            f"{list(targets.shape)}."
        )
    if len(targets) and (targets.min() < 0 or targets.max() >= n_classes):
        raise Incompatible(
            f"The {task} task takes targets from 0 to {n_classes - 1}. Got {targets.min()} to {targets.max()}."
        )
