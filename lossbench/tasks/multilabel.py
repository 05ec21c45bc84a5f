"""Multilabel: any number of L labels per example."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling, Task
from lossbench.tasks.refusals import make_refusal
from lossbench.types import Array, Encoding, Examples, Head, Picture, Problem, Space


@dataclass(frozen=True)
class Multilabel(Task):
    """Any number of L labels: targets `[N, L]` of 0 and 1, whole numbers; 1 where the label applies.

    Raw output: `[..., L]`, the log-odds of each label. A label is predicted where it is above 0.
    """

    spaces: ClassVar[tuple[Space, ...]] = (Space.LOGIT, Space.PROBABILITY, Space.LOG_PROBABILITY, Space.SCORE)
    encodings: ClassVar[tuple[Encoding, ...]] = (Encoding.MULTI_HOT, Encoding.SIGNED)
    metrics: ClassVar[tuple[str, ...]] = (
        "mean_average_precision",
        "macro_f1",
        "subset_accuracy",
        "hamming_accuracy",
        "log_loss",
    )
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "bce",
        "data": "digit_canvases",
        "model": "cnn_max",
        "corruption": "missing_positives",
    }
    settings: ClassVar[Mapping[str, float]] = {"epochs": 20, "batch_size": 64, "lr": 0.003}
    side_by_side: ClassVar[bool] = True
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "corruption": ("missing_positives", "label_flips"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("bce", "asymmetric", "zlpr", "two_way")
    picture: ClassVar[Picture] = Picture.LABELS
    target_share: ClassVar[float] = 0.6

    def count_outputs(self, examples: Examples) -> int:
        """Return L; raises `Incompatible` unless the targets are `[N, L]` of 0 and 1 and the names, if any, are L."""
        targets = examples.targets
        if targets.ndim != 2 or not np.issubdtype(targets.dtype, np.integer):
            raise Incompatible(
                f"The multilabel task takes whole-number targets of shape [N, L]. Got {targets.dtype} of shape "
                f"{list(targets.shape)}."
            )
        if targets.size and (targets.min() < 0 or targets.max() > 1):
            raise Incompatible(f"The multilabel task takes targets of 0 and 1. Got {targets.min()} to {targets.max()}.")
        n_labels = targets.shape[1]
        if len(examples.class_names) not in {0, n_labels}:
            raise Incompatible(
                f"The targets of the multilabel task have {n_labels} labels. Got {len(examples.class_names)} names."
            )
        return int(n_labels)

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return L."""
        if head not in self.heads:
            raise make_refusal("multilabel", head, self.heads)
        return problem.n_outputs

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Return zero and one: labels have no scale."""
        return np.zeros(1), np.ones(1)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Return the scores unchanged, the sigmoid of each, or the logarithm of that without overflow; `[..., L]`."""
        match space:
            case Space.LOGIT | Space.SCORE:
                return raw
            case Space.PROBABILITY:
                return raw.sigmoid()
            case Space.LOG_PROBABILITY:
                return logsigmoid(raw)
        raise make_refusal("multilabel", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Return 0 and 1, or -1 and 1, `[..., L]`."""
        match encoding:
            case Encoding.MULTI_HOT:
                return target.to(scaling.shift.dtype)
            case Encoding.SIGNED:
                return 2 * target.to(scaling.shift.dtype) - 1
        raise make_refusal("multilabel", encoding, self.encodings)

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for an encoding that the task does not offer."""
        if encoding not in self.encodings:
            raise make_refusal("multilabel", encoding, self.encodings)

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the score of each label, `[..., L]`, whatever space the loss takes."""
        return raw

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return the log-odds of each label's share, `[n, L]`; an absent label counts as half an example."""
        positives = targets.sum(0)
        odds = np.maximum(positives, 0.5) / np.maximum(len(targets) - positives, 0.5)
        return np.tile(np.log(odds), (n, 1))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Return the number of positives per label, `[L]`."""
        counts: Array = targets.sum(0)
        return counts
