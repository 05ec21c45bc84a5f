"""The interface of tasks: the kind of target, and everything that depends on it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from lossbench.types import Array, Encoding, Examples, Head, Picture, Problem, Space


class Scaling(NamedTuple):
    """The affine map from standardised to original targets, `y = shift + scale * u`; `[R, 1, D]` in a stack."""

    shift: Tensor
    scale: Tensor


def robust_scale(values: Array) -> tuple[Array, Array]:
    """Return median and 1.4826 MAD of each column of `[N, D]`, in float64.

    The factor makes the MAD of normal values their standard deviation.

    Where more than half of a column is one value the MAD is 0: then its standard deviation, then 1.
    """
    values = np.asarray(values, dtype=np.float64)
    median = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - median), axis=0)
    spread = np.where(spread > 0, spread, values.std(axis=0))
    return median, np.where(spread > 0, spread, 1.0)


class Task(ABC):
    """Owns the head's size, the target's form, the conversions, the metrics and the defaults. A frozen dataclass."""

    spaces: ClassVar[tuple[Space, ...]]
    """Spaces that it can convert the head's raw output to."""
    encodings: ClassVar[tuple[Encoding, ...]]
    """Encodings that it can give targets in."""
    heads: ClassVar[tuple[Head, ...]] = (Head.LINEAR,)
    """Heads that make sense."""
    sequence: ClassVar[bool] = False
    """It predicts something at each time step, so it takes models that do: the head's raw output is `[..., T, K]`."""
    held_out_classes: ClassVar[bool] = False
    """Its splits share no class (targets are `[N]` indices), and what is measured is the embedding itself: no loss has
    scores for classes that it never saw."""
    like: ClassVar[tuple[str, ...]] = ()
    """Tasks of which it is a variant: whatever fits one of them fits it, too."""
    side_by_side: ClassVar[bool] = False
    """Its targets are `[N, D]` columns of one kind, so that a loss can be taken of some of them."""
    shortlist: ClassVar[tuple[str, ...]] = ()
    """Names of the losses of a first comparison (`losses=shortlist`): of different kinds, the default one first."""
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Names of the data sets and corruptions of a rigorous comparison, by `data` and `corruption`."""
    picture: ClassVar[Picture] = Picture.NONE
    """The part of a picture of an example beside its input, if that is an image."""
    metrics: ClassVar[tuple[str, ...]]
    """Names of its metrics, the primary one first."""
    defaults: ClassVar[Mapping[str, str]]
    """Names of its default loss, data, model and corruption."""
    settings: ClassVar[Mapping[str, float]]
    """Default epochs, batch_size and lr."""
    target_share: ClassVar[float]
    """The aim of "steps to target": this share of the way from the baseline predictor to a perfect one."""

    @abstractmethod
    def count_outputs(self, examples: Examples) -> int:
        """Count the outputs: D targets, C classes or tokens, L labels (a binary task has one)."""

    @abstractmethod
    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return the number of values that the head puts out per example."""

    @abstractmethod
    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Fit shift and scale `[D]` to the (corrupted) training targets; zeros and ones where there is none."""

    @abstractmethod
    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Convert the head's raw output `[..., K]` to `space`, in a numerically safe way."""

    @abstractmethod
    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Encode raw targets in `encoding`."""

    @abstractmethod
    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` if training targets cannot be given in `encoding` (negative counts, say)."""

    @abstractmethod
    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """Return what metrics take, values in original units or class scores, for a replica trained in `space`."""

    def decode_for_picture(self, point: Tensor) -> Tensor:
        """Decode point predictions for a picture, `[..., n, K]`: corners, label scores, or tokens and `PADDING`."""
        return point

    @abstractmethod
    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return the best constant prediction from clean training targets, repeated `n` times, as `point` gives it."""

    @abstractmethod
    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Count training examples per class, `[C]` (positives per label, `[L]`); None where there are no classes."""
