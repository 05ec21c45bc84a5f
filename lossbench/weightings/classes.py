"""Weights from the labels alone: by the frequency of each class or label in training, or set by hand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces import Weighting
from lossbench.types import Encoding, Requirement
from lossbench.validation import check_below_one, check_nonnegative


def _weigh_examples(class_weights: Tensor, class_counts: Tensor, target: Tensor, losses: Tensor) -> Tensor:
    """Return the weight `[..., B]` of each target's class, of mean 1 over the training split; weights `[..., 1, C]`."""
    class_counts = class_counts.to(class_weights.dtype)
    # mean 1: sum_c w_c n_c = N
    total = (class_weights * class_counts).sum(-1, keepdim=True)
    normalised = class_weights * class_counts.sum(-1, keepdim=True) / total
    return torch.take_along_dim(normalised.squeeze(-2), target, -1).to(losses.dtype)


def _get_wide_dtype(losses: Tensor) -> torch.dtype:
    return torch.promote_types(losses.dtype, torch.float32)  # half precision cannot hold counts


def _get_counts(losses: Tensor, *, class_counts: Tensor, **_: Any) -> Tensor:
    return class_counts.to(_get_wide_dtype(losses))


@dataclass(frozen=True)
class Balanced(Weighting):
    r"""Every class counts the same in sum.

    .. math:: w_c = N / (K \, n_c)

    N examples, n_c of class c, K classes that occur; mean 1 over the training split. target: class indices `[..., B]`;
    class_counts: `[..., 1, C]`. Returns `[..., B]`. A class that does not occur in training is weighted as if it
    occurred once. An example of several labels has no one class: there, `pos_weight` weighs each label.
    Reference: King, Zeng, Logistic Regression in Rare Events Data, 2001, https://doi.org/10.1093/oxfordjournals.pan.a004868
    """

    tasks = ("binary", "multiclass")
    encodings = (Encoding.INDEX,)
    requires = (Requirement.CLASS_COUNTS,)
    aliases = ("class_weight='balanced' of scikit-learn",)
    use_when = "classes differ much in size and the small ones matter as much as the large ones"

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the weight of each target's class."""
        counts = _get_counts(losses, **requires)
        return _weigh_examples(1 / counts.clamp_min(1), counts, target, losses)


@dataclass(frozen=True)
class InverseSqrt(Weighting):
    r"""Half way (in logarithms) between every example and every class counting the same.

    .. math:: w_c \propto n_c^{-1/2}

    Mean 1 over the training split. target: class indices `[..., B]`; class_counts n: `[..., 1, C]`. Returns `[..., B]`.
    A class that does not occur in training is weighted as if it occurred once. (The authors draw examples with these
    chances; in the mean over batches that is the same.)
    Reference: Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining, 2018,
    https://arxiv.org/abs/1805.00932
    """

    tasks = ("binary", "multiclass")
    encodings = (Encoding.INDEX,)
    requires = (Requirement.CLASS_COUNTS,)
    aliases = ("square-root sampling",)
    use_when = "classes differ much in size, and balanced gives a few examples of small classes too much weight"

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the weight of each target's class."""
        counts = _get_counts(losses, **requires)
        return _weigh_examples(counts.clamp_min(1).rsqrt(), counts, target, losses)


@dataclass(frozen=True)
class EffectiveNumber(Weighting):
    r"""One over the number of examples of a class that tell something new.

    .. math:: w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}

    beta in [0, 1): at 0 all examples count the same, towards 1 all classes do (`balanced`). Mean 1 over the training
    split (the authors: over the classes). target: class indices `[..., B]`; class_counts n: `[..., 1, C]`. Returns
    `[..., B]`. A class that does not occur in training is weighted as if it occurred once. Raises `InvalidValue` if
    beta is not in [0, 1).
    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019,
    https://arxiv.org/abs/1901.05555
    """

    tasks = ("binary", "multiclass")
    encodings = (Encoding.INDEX,)
    requires = (Requirement.CLASS_COUNTS,)
    static_fields = ("beta",)  # single precision would lose most of 1 - beta
    aliases = ("class-balanced loss",)
    use_when = "classes differ much in size, and in large ones many examples are alike"
    pitfall = "beta must be near 1 - 1/n: far below, large and small classes count alike; above, it is balanced"
    beta: float = 0.999

    def __post_init__(self) -> None:
        check_below_one(self, beta=self.beta)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the weight of each target's class."""
        counts = _get_counts(losses, **requires)
        log_beta = math.log(self.beta) if self.beta else -math.inf
        # 1 - beta^n as expm1: the difference would lose its digits near beta = 1
        return _weigh_examples(-1 / (counts.clamp_min(1) * log_beta).expm1(), counts, target, losses)


@dataclass(frozen=True)
class Classes(Weighting):
    r"""A weight for each class, by hand.

    .. math:: w_c \, N / \sum_k w_k n_k

    weights: a list in the classes' order, or a mapping from class names (or numbers from 0) to weights, where a class
    that is not named has weight 1; none negative, not all 0. Scaled to mean 1 over the training split, so that only
    their ratios count. target: class indices `[..., B]`; class_counts: `[..., 1, C]`. Returns `[..., B]`.
    Raises `InvalidValue` for weights that are no such thing, `UnknownName` for an unknown class.
    """

    tasks = ("binary", "multiclass")
    encodings = (Encoding.INDEX,)
    requires = (Requirement.CLASS_COUNTS, Requirement.CLASS_NAMES)
    aliases = ("class_weight of scikit-learn and keras", "weight of torch.nn.CrossEntropyLoss, but for the scale")
    use_when = "you know what a mistake in each class costs"
    weights: Any  # a list or a mapping

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Mapping | list | tuple):
            raise InvalidValue(
                "The 'weights' parameter of Classes must be a list in the classes' order or a mapping from class "
                f"names. Got {self.weights!r} instead."
            )
        values = self.weights.values() if isinstance(self.weights, Mapping) else self.weights
        check_nonnegative(self, **{f"weights[{i}]": value for i, value in enumerate(values)})
        if not values:
            raise InvalidValue("The 'weights' parameter of Classes must not be empty.")

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the weight of each target's class."""
        class_counts = requires[Requirement.CLASS_COUNTS]
        by_class = self.sort_weights(class_counts.shape[-1], tuple(requires[Requirement.CLASS_NAMES]))
        weights = _make_constant(by_class, _get_wide_dtype(losses), losses.device)  # [1, C]
        return _weigh_examples(weights, class_counts, target, losses)

    def sort_weights(self, n_classes: int, class_names: tuple[str, ...]) -> tuple[float, ...]:
        """Return the weights by class index; raise for names that are no class, a wrong number, or nothing above 0."""
        if isinstance(self.weights, Mapping):
            # a class is called by its number or its name; the name wins where it is another class's number
            numbers = [str(i) for i in range(n_classes)]
            places = {number: i for i, number in enumerate(numbers)} | {name: i for i, name in enumerate(class_names)}
            weights = [1.0] * n_classes
            for name, weight in self.weights.items():
                if str(name) not in places:
                    raise make_unknown("class", name, class_names or numbers, "Classes")
                weights[places[str(name)]] = weight
        else:
            weights = list(self.weights)
        if len(weights) != n_classes:
            raise InvalidValue(f"Classes needs one weight for each of {n_classes} classes. Got {len(weights)}.")
        if not any(weights):
            raise InvalidValue("At least one weight of Classes must be above 0.")
        return tuple(map(float, weights))


@lru_cache(maxsize=64)
def _make_constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # kept, because a copy from the host in every step makes a GPU wait and cannot be captured in a graph
    return torch.tensor([values], dtype=dtype, device=device)


@dataclass(frozen=True)
class PosWeight(Weighting):
    r"""In each label, the positives count by a factor: in sum as much as the negatives, or as you say.

    .. math:: w = a\,\omega_l \;\text{if}\; y_l = 1, \quad a \;\text{otherwise}, \quad
        \omega_l = n^-_l / n^+_l \;\text{or ratio}

    with a such that the mean over the training split and all labels is 1: one number, by which it differs from
    torch's. In a binary task with ratio 0 it is `balanced`.

    ratio: that of a positive to a negative; 0 for each label's own, n_neg / n_pos. target: 0 and 1, `[..., B, L]`;
    class_counts: positives `[..., 1, L]`, or negatives and positives `[..., 1, 2]` of a single label; n_examples: of
    the training split. Returns `[..., B, L]`. A label that always or never holds in training is weighted as if it did
    not, or did, once. The loss must be a mean over labels; of several classes there is no positive one. Raises
    `InvalidValue` if ratio is negative.
    Reference: torch.nn.BCEWithLogitsLoss,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html
    """

    tasks = ("binary", "multilabel")
    encodings = (Encoding.MULTI_HOT,)
    requires = (Requirement.CLASS_COUNTS, Requirement.N_EXAMPLES)
    static_fields = ("ratio",)  # 0 stands for other numbers
    aliases = ("pos_weight of torch.nn.BCEWithLogitsLoss, but for the scale", "scale_pos_weight of XGBoost")
    use_when = "labels hold rarely, and a positive that is missed costs more than a false alarm"
    pitfall = "probabilities come out too high by design"
    ratio: float = 0.0

    def __post_init__(self) -> None:
        check_nonnegative(self, ratio=self.ratio)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the weight of each label's target."""
        counts, n, n_labels = _get_counts(losses, **requires), requires[Requirement.N_EXAMPLES], target.shape[-1]
        # the last n_labels counts: of [negatives, positives] in a binary task the positives
        positives = counts.narrow(-1, counts.shape[-1] - n_labels, n_labels)
        ratio = (n - positives).clamp_min(1) / positives.clamp_min(1)
        ratio = torch.full_like(ratio, self.ratio) if self.ratio else ratio
        # a label's mean weight is (n_pos ratio + n_neg) / n = (ratio - 1) n_pos / n + 1; then the mean over labels
        mean = ((ratio - 1) * positives / n + 1).mean(-1, keepdim=True)
        return (torch.where(target > 0.5, ratio, 1) / mean).to(losses.dtype)
