"""A loss: one value per example from prediction and target."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from lossbench.errors import InvalidValue
from lossbench.types import Array, Encoding, Head, Need, Problem, Space

T = TypeVar("T")


class Loss(ABC):
    """One value per example (one per batch if `coupled`). Never averages over examples, never weights.

    A loss is a frozen dataclass: its fields are its configuration, its class facts its documentation and contract,
    `__call__` the formula. Leading axes are free: a prediction `[B, C]` gives `[B]` and a stack `[r, B, C]` gives
    `[r, B]`. In a stack a float field may be a tensor with a 1 for each axis of the prediction but the first, so a
    formula keeps the last axis until its end and then `field * tensor` broadcasts.
    """

    family: ClassVar[str] = ""
    """What kind of loss it is, in a word: `robust`, `margin`, `label noise`. Lists and pages are grouped by it."""
    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it fits."""
    space: ClassVar[Space]
    """What `prediction` must be; the task converts."""
    encoding: ClassVar[Encoding]
    """What `target` must be; the task converts."""
    head: ClassVar[Head] = Head.LINEAR
    """The last layer that it asks for."""
    needs: ClassVar[tuple[Need, ...]] = ()
    """Keyword arguments that `__call__` takes beyond prediction and target."""
    coupled: ClassVar[bool] = False
    """It couples the examples of a batch: `[..., B, C]` gives `[...]`."""
    scalar_fields: ClassVar[tuple[str, ...]] = ()
    """Float fields that the formula cannot take as tensors; rows that differ in them do not share a call."""
    known_as: ClassVar[tuple[str, ...]] = ()
    """Its names in other libraries."""
    same_as: ClassVar[str] = ""
    """The loss that it is under another name, both with their default fields: to compare the two shows nothing."""
    use_when: ClassVar[str] = ""
    """One line of advice."""
    beware: ClassVar[str] = ""
    """Its best-known trap."""
    convex: ClassVar[bool | None] = None
    """In the prediction, whatever the fields. None, here and below, claims nothing; the contract tries a claim."""
    bounded: ClassVar[bool | None] = None
    """The value stays below a bound, however wrong the prediction."""
    robust: ClassVar[bool | None] = None
    """The gradient stays below a bound, so that no example outweighs the others however wrong it is."""
    symmetric: ClassVar[bool | None] = None
    """Its values for all classes that a target could be add up to a constant."""
    held_still: ClassVar[Mapping[str, Any] | None] = None
    """Part of the formula has no gradient, on purpose: the fields at which that does not matter, if there are any."""
    flaws: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What another library's loss breaks of the contract and is used all the same: names of checks, and why."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor, *_: Any, **needs: Any) -> Any:
        """Return one value per example; with `Need.STATE` a pair of that and the next state."""

    def parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Trainable tensors of one trial, by name. In a stack each gets a leading `[r]`."""
        return {}

    def state(self, problem: Problem) -> Tensor | None:
        """What one trial carries from step to step, if it declares `Need.STATE`. In a stack it gets a leading `[r]`."""
        return None

    def scores(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Turn a prediction in `Space.EMBEDDING` into `[..., C]` class scores, for the metrics."""
        raise NotImplementedError(f"{type(self).__name__} takes {self.space}, which needs no scores()")

    def check(self, targets: Array, problem: Problem) -> None:  # noqa: B027  # most losses have nothing to add
        """Raise `Incompatible` if it cannot learn from raw training targets that its encoding would let pass."""

    def module(self, reduction: str = "mean", **extras: Any) -> nn.Module:
        """An ordinary `nn.Module` for your own training script: `module(prediction, target)`.

        `reduction` is mean, sum or none. `extras`: what the loss `needs` (`class_counts=...`), `problem=` for losses
        that have trainable parameters or a state, and `check=False` to leave out the look at the values.
        """
        from lossbench.interfaces.module import LossModule  # the module holds a loss; a loss only makes one

        return LossModule(self, reduction, **extras)


def same_shape(prediction: Tensor, target: Tensor) -> None:
    """Refuse what would broadcast: `(N, 1)` against `(N)` becomes `N x N` elsewhere, with only a warning."""
    if prediction.shape != target.shape:
        raise InvalidValue(
            f"prediction and target must have the same shape. Got {tuple(prediction.shape)} and {tuple(target.shape)}."
        )


def one_axis_less(prediction: Tensor, target: Tensor) -> None:
    """`target` must hold one class index per vector of `prediction`."""
    if prediction.shape[:-1] != target.shape:
        raise InvalidValue(
            f"target must hold one class index per prediction, shape {tuple(prediction.shape[:-1])} for predictions "
            f"{tuple(prediction.shape)}. Got {tuple(target.shape)}."
        )


def any_of(mask: Tensor) -> bool:
    """Whether a mask is set anywhere, to raise for what values must not be; False inside vmap, which hides values."""
    hidden: bool = torch._C._functorch.is_functorch_wrapped_tensor(mask)
    return not hidden and bool(mask.any())


def replicated(part: T, **fields: Tensor) -> T:
    """A copy of a loss or weighting whose float fields are tensors, one value per row, each validated already."""
    copy = object.__new__(type(part))
    copy.__dict__.update(part.__dict__ | fields)
    return copy
