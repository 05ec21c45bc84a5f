"""Weightings: one multiplier per example, from the labels or the residuals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossbench import registry
from lossbench.errors import InvalidValue, unknown
from lossbench.interfaces import Weighting
from lossbench.types import Encoding, Need, Space
from lossbench.validation import check_choice, check_nonnegative


def get(name: str, **fields: Any) -> Weighting:
    """The weighting called `name` with its fields set; raises `UnknownName` with the nearest name and all of them."""
    return registry.weightings.get(name, **fields)


def names(task: str | None = None) -> list[str]:
    """The names of all weightings, or of those that fit `task`."""
    return registry.weightings.names(task)


@dataclass(frozen=True)
class NoWeighting(Weighting):
    """Every example counts the same: weights of 1."""

    name: ClassVar[str] = "none"
    tasks: ClassVar[tuple[str, ...]] = ("*",)
    per_example: ClassVar[bool] = False

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **needs: Any) -> Tensor:
        """Ones like `losses`."""
        return torch.ones_like(losses)


def _of_examples(class_weights: Tensor, class_counts: Tensor, target: Tensor, losses: Tensor) -> Tensor:
    """The weight `[..., B]` of each target's class, scaled to mean 1 over the training split; weights `[..., 1, C]`."""
    class_counts = class_counts.to(class_weights.dtype)
    total = (class_weights * class_counts).sum(-1, keepdim=True)
    normalised = class_weights * class_counts.sum(-1, keepdim=True) / total
    return torch.take_along_dim(normalised.squeeze(-2), target, -1).to(losses.dtype)


def _wide(losses: Tensor) -> torch.dtype:
    return torch.promote_types(losses.dtype, torch.float32)  # half precision cannot hold counts


@dataclass(frozen=True)
class Balanced(Weighting):
    r"""Every class counts the same in sum.

    .. math:: w_c = N / (K \, n_c)

    N examples, n_c of class c, K classes that occur; mean 1 over the training split. target: class indices `[..., B]`;
    class_counts: `[..., 1, C]`. Returns `[..., B]`. A class that does not occur in training is weighted as if it
    occurred once.
    Reference: King, Zeng, Logistic Regression in Rare Events Data, 2001, https://doi.org/10.1093/oxfordjournals.pan.a004868
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    encoding: ClassVar[Encoding | None] = Encoding.INDEX
    needs: ClassVar[tuple[Need, ...]] = (Need.CLASS_COUNTS,)
    use_when: ClassVar[str] = "classes differ much in size and the small ones matter as much as the large ones"

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **needs: Any) -> Tensor:
        """The weight of each target's class."""
        class_counts = needs[Need.CLASS_COUNTS]
        return _of_examples(1 / class_counts.clamp_min(1).to(_wide(losses)), class_counts, target, losses)


@dataclass(frozen=True)
class Classes(Weighting):
    r"""A weight for each class, by hand.

    .. math:: w_c \, N / \sum_k w_k n_k

    weights: a list in the classes' order, or a mapping from class names (or numbers from 0) to weights, where a class
    that is not named has weight 1; none negative, not all 0. Scaled to mean 1 over the training split, so that only
    their ratios count. target: class indices `[..., B]`; class_counts: `[..., 1, C]`. Returns `[..., B]`.
    Raises `InvalidValue` for weights that are no such thing, `UnknownName` for an unknown class.
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    encoding: ClassVar[Encoding | None] = Encoding.INDEX
    needs: ClassVar[tuple[Need, ...]] = (Need.CLASS_COUNTS, Need.CLASS_NAMES)
    use_when: ClassVar[str] = "you know what a mistake in each class costs"

    weights: Any  # a list or a mapping

    def __post_init__(self) -> None:
        values = self.weights.values() if isinstance(self.weights, Mapping) else _listed(self.weights)
        check_nonnegative(self, **{f"weights[{i}]": value for i, value in enumerate(values)})
        if not values:
            raise InvalidValue("The 'weights' parameter of Classes must not be empty.")

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **needs: Any) -> Tensor:
        """The weight of each target's class."""
        class_counts = needs[Need.CLASS_COUNTS]
        by_class = self.in_order(class_counts.shape[-1], tuple(needs[Need.CLASS_NAMES]))
        weights = _constant(by_class, _wide(losses), losses.device)
        return _of_examples(weights, class_counts, target, losses)

    def in_order(self, n_classes: int, class_names: tuple[str, ...]) -> tuple[float, ...]:
        """The weights by class index; raises for names that are no class, a wrong number, or nothing above 0."""
        listed = self._named(n_classes, class_names) if isinstance(self.weights, Mapping) else list(self.weights)
        if len(listed) != n_classes:
            raise InvalidValue(f"Classes needs one weight for each of {n_classes} classes. Got {len(listed)}.")
        if not any(listed):
            raise InvalidValue("At least one weight of Classes must be above 0.")
        return tuple(map(float, listed))

    def _named(self, n_classes: int, class_names: tuple[str, ...]) -> list[float]:
        numbers = [str(i) for i in range(n_classes)]
        places = dict(zip(numbers, range(n_classes), strict=True)) | {name: i for i, name in enumerate(class_names)}
        listed = [1.0] * n_classes
        for name, weight in self.weights.items():
            if str(name) not in places:
                raise unknown("class", name, class_names or numbers, "Classes")
            listed[places[str(name)]] = weight
        return listed


def _listed(weights: Any) -> list[Any]:
    if isinstance(weights, list | tuple):
        return list(weights)
    raise InvalidValue(
        f"The 'weights' parameter of Classes must be a list in the classes' order or a mapping from class names. "
        f"Got {weights!r} instead."
    )


@lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # kept, because a copy from the host in every step makes a GPU wait and cannot be captured in a graph
    return torch.tensor([values], dtype=dtype, device=device)


_USUAL = {"huber": 1.345, "tukey": 4.685, "cauchy": 2.385}  # 95% efficiency on normal residuals (Holland, Welsch 1977)


@dataclass(frozen=True)
class IRLS(Weighting):
    r"""Iteratively reweighted least squares: turns the squared error into a robust loss, step by step.

    .. math:: w = \psi(u) / u, \quad u = \sqrt{\tfrac1D \sum_d (r_d / s_d)^2}

    huber: min(1, k / u); tukey: (1 - (u/k)^2)^2 within k, else 0; cauchy: 1 / (1 + (u/k)^2). With mse / 2 the gradient
    is that of the robust loss with the constant k·s. prediction, target: `[..., B, D]`, standardised; residual_scale:
    `[..., 1, D]`, s = 1.4826 MAD of the residuals. Returns `[..., B]`, detached, in [0, 1]: *not* normalised, because
    the sum of the weights is what makes the losses agree.
    constant: k; 0 for the usual one (1.345, 4.685, 2.385: 95% efficiency on normal residuals).
    Reference: Holland, Welsch, Robust regression using iteratively reweighted least-squares, 1977,
    https://doi.org/10.1080/03610927708827533
    """

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    space: ClassVar[Space | None] = Space.VALUE
    encoding: ClassVar[Encoding | None] = Encoding.VALUE
    needs: ClassVar[tuple[Need, ...]] = (Need.RESIDUAL_SCALE,)
    scalar_fields: ClassVar[tuple[str, ...]] = ("constant",)  # 0 stands for another number
    use_when: ClassVar[str] = "some targets are wrong, and you want to keep mse"

    function: str = "huber"
    constant: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self, _USUAL, function=self.function)
        check_nonnegative(self, constant=self.constant)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **needs: Any) -> Tensor:
        """Weights from the residuals in units of their scale."""
        residual = (prediction - target).detach() / needs[Need.RESIDUAL_SCALE]
        k = self.constant or _USUAL[self.function]
        return self._weight(residual.square().mean(-1).sqrt() / k)

    def _weight(self, u: Tensor) -> Tensor:
        if self.function == "huber":
            return 1 / u.clamp_min(1)
        if self.function == "tukey":
            return (1 - u.square()).clamp_min(0).square()
        return 1 / (1 + u.square())
