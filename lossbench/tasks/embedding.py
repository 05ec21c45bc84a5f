"""Embeddings: examples of a class lie close together, also of classes that were never seen in training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling, Task
from lossbench.tasks.classification import check_whole_numbers, count_classes
from lossbench.tasks.refusals import make_refusal
from lossbench.types import EMBEDDING_WIDTH, Array, Encoding, Examples, Head, Problem, Space

MIN_CLASSES = 6
"""Two classes in each split."""


@dataclass(frozen=True)
class Embedding(Task):
    """An embedding in which classes lie apart: targets `[N]` of whole numbers below C, the class (identity) of each.

    Raw output: `[..., 32]`, the embedding; the metrics take it as it is. Training, validation and test share no class.
    """

    spaces: ClassVar[tuple[Space, ...]] = (Space.EMBEDDING,)
    encodings: ClassVar[tuple[Encoding, ...]] = (Encoding.INDEX,)
    heads: ClassVar[tuple[Head, ...]] = (Head.EMBEDDING,)
    held_out_classes: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("recall_at_1", "map_at_r")
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "supcon",
        "data": "digit_pairs",
        "model": "cnn_flat",
        "corruption": "wrong_identities",
    }
    settings: ClassVar[Mapping[str, float]] = {"epochs": 20, "batch_size": 64, "lr": 0.003}
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "corruption": ("wrong_identities", "feature_outliers"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("supcon", "triplet", "contrastive", "arcface")
    target_share: ClassVar[float] = 0.5

    def count_outputs(self, examples: Examples) -> int:
        """Return C, over all splits: the number of class names, or one more than the largest target.

        Raises `Incompatible` unless the targets are `[N]` of whole numbers below C, of at least 6 classes.
        """
        n_classes = len(examples.class_names) or int(examples.targets.max(initial=0)) + 1
        check_whole_numbers("embedding", examples, n_classes)
        if (n_present := len(np.unique(examples.targets))) < MIN_CLASSES:
            raise Incompatible(
                f"The embedding task holds classes out: it needs at least {MIN_CLASSES}, two for each split. "
                f"Got {n_present}."
            )
        return n_classes

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return 32, the embedding's width."""
        if head not in self.heads:
            raise make_refusal("embedding", head, self.heads)
        return EMBEDDING_WIDTH

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Return zero and one: classes have no scale."""
        return np.zeros(1), np.ones(1)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Return the embedding unchanged."""
        if space not in self.spaces:
            raise make_refusal("embedding", space, self.spaces)
        return raw

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the index, `[...]`."""
        self.check(np.zeros(0), encoding)
        return target.long()

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for an encoding that the task does not offer."""
        if encoding not in self.encodings:
            raise make_refusal("embedding", encoding, self.encodings)

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the embedding, `[..., 32]`."""
        return raw

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return the same point for all, `[n, 32]`: equal distances are ranked at random, so it is at chance."""
        return np.zeros((n, EMBEDDING_WIDTH))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Return the number of training examples per class, `[C]`; it is 0 for held-out classes."""
        return count_classes(targets, problem.n_outputs)
