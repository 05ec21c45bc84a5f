"""A loss: one value per example from prediction and target; and the same as a module that reduces them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from lossbench.errors import InvalidValue
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.guards import Inputs
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Array, Encoding, Head, Problem, Requirement, Space

T = TypeVar("T")


class Loss(ABC):
    """One value per example (one per batch if `batch_level`). Never averages over examples, never weights.

    A loss is a frozen dataclass: its fields are its configuration, its class facts its documentation and contract,
    `__call__` the formula. Leading axes are free: a prediction `[B, C]` gives `[B]` and a stack `[R, B, C]` gives
    `[R, B]`. In a stack a float field may be a tensor with a 1 for each axis of the prediction but the first, so a
    formula keeps the last axis until its end and then `field * tensor` broadcasts.
    """

    family: ClassVar[str] = ""
    """The kind of loss in a word: `robust`, `margin`, `label noise`. Lists and pages are grouped by it."""
    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it fits."""
    space: ClassVar[Space]
    """The space of `prediction`, to which the task converts."""
    encoding: ClassVar[Encoding]
    """The encoding of `target`, to which the task converts."""
    head: ClassVar[Head] = Head.LINEAR
    """The last layer that it asks for."""
    requires: ClassVar[tuple[Requirement, ...]] = ()
    """Keyword arguments that `__call__` takes beyond prediction and target."""
    batch_level: ClassVar[bool] = False
    """It couples the examples of a batch: `[..., B, C]` gives `[...]`."""
    has_terms: ClassVar[bool] = False
    """It is a sum of other losses, which a `TermWeighting` can weigh."""
    static_fields: ClassVar[tuple[str, ...]] = ()
    """Float fields that the formula cannot take as tensors; replicas that differ in them do not share a call."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Its names in other libraries."""
    same_as: ClassVar[str] = ""
    """The loss that it is under another name, both with their default fields: to compare the two shows nothing."""
    use_when: ClassVar[str] = ""
    """One line of advice."""
    pitfall: ClassVar[str] = ""
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
    """The checks of the contract that another library's loss fails and is used all the same: names, and reasons."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor, *_: Any, **requires: Any) -> Any:
        """Return one value per example; with `Requirement.STATE` a pair of that and the next state."""

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Return trainable tensors of one trial, by name. In a stack each gets a leading `[R]`."""
        return {}

    def init_state(self, problem: Problem) -> Tensor | None:
        """Return what one trial carries from step to step (`Requirement.STATE`). A stack adds a leading `[R]`."""
        return None

    def score_classes(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Turn an embedding, where that is what it takes, into `[..., C]` class scores, for the metrics."""
        raise NotImplementedError(f"{type(self).__name__} takes {self.space}, which needs no scores")

    def split_parts(self, targets: Array, problem: Problem) -> "list[tuple[Loss, Array]]":
        """Return the losses that it is made of, each with those of the targets that it is taken of: itself, of all."""
        return [(self, targets)]

    def check(self, targets: Array, problem: Problem) -> None:  # noqa: B027  # most losses have nothing to add
        """Raise `Incompatible` if it cannot learn from raw training targets that its encoding would let pass."""

    def module(self, reduction: str = "mean", **extras: Any) -> "LossModule":
        """Return an ordinary `nn.Module` for your own training script: `module(prediction, target)`.

        `reduction` is mean, sum or none. `extras`: what the loss `requires` (`class_counts=...`), `problem=` for losses
        that have trainable parameters or a state, and `check=False` to leave out the look at the values.
        """
        return LossModule(self, reduction, **extras)


def check_same_shape(prediction: Tensor, target: Tensor) -> None:
    """Refuse what would broadcast: `(N, 1)` against `(N)` becomes `N x N` elsewhere, with only a warning."""
    if prediction.shape != target.shape:
        raise InvalidValue(
            f"prediction and target must have the same shape. Got {tuple(prediction.shape)} and {tuple(target.shape)}."
        )


def check_index_shape(prediction: Tensor, target: Tensor) -> None:
    """Refuse targets that do not hold one class index per vector of `prediction`."""
    if prediction.shape[:-1] != target.shape:
        raise InvalidValue(
            f"target must hold one class index per prediction, shape {tuple(prediction.shape[:-1])} for predictions "
            f"{tuple(prediction.shape)}. Got {tuple(target.shape)}."
        )


def is_set(mask: Tensor) -> bool:
    """Return True if a mask is set anywhere, before an error is raised; False inside vmap, which hides values."""
    hidden: bool = torch._C._functorch.is_functorch_wrapped_tensor(mask)
    return not hidden and bool(mask.any())


def replicate(part: T, **fields: Tensor) -> T:
    """Copy a loss or weighting, with tensors of one value per replica as float fields.

    The values are not validated again: each comes from a loss that was.
    """
    copy = object.__new__(type(part))
    copy.__dict__.update(part.__dict__ | fields)
    return copy


def check_values(loss: Loss, prediction: Tensor, target: Tensor, n_classes: int | None = None) -> None:
    """Raise `InvalidValue` for what the loss's space or encoding does not allow; a GPU waits once."""
    space, encoding = SPACES[loss.space], ENCODINGS[loss.encoding]
    inputs = Inputs(prediction, target, encoding.exclusive, n_classes, getattr(loss, "ignore_index", None))
    checks = [*space.guard(inputs), *encoding.guard(inputs)]
    # one answer for all checks: a GPU waits at each
    if not checks or not is_set(torch.stack([check.wrong.any() for check in checks])):
        return
    failed = next(check for check in checks if check.wrong.any())
    place = failed.wrong.nonzero()[0].tolist()
    value, values = failed.values[tuple(place)].item(), failed.values.double()
    raise InvalidValue(
        f"{type(loss).__name__} takes {failed.expected} Got {value:.4g} for example {place[0] if place else 0}, "
        f"and values from {values.min().item():.4g} to {values.max().item():.4g}."
    )


def _reduce_mean(losses: Tensor) -> Tensor:
    # torch's mean divides the gradient once for each of the losses
    wide = torch.promote_types(losses.dtype, torch.float32)
    return (losses.sum(dtype=wide) / losses.numel()).to(losses.dtype)


_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _reduce_mean,
    "sum": Tensor.sum,
    "none": lambda losses: losses,
}
REDUCTIONS = tuple(_REDUCE)
SCALE_MOMENTUM = 0.1
"""Weight of the newest batch in the running residual scale, as in BatchNorm."""


def refresh_scale(scale: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
    """Return the running robust scale of residuals, 1.4826 median |r| over the batch: `[..., B, D]` to `[..., 1, D]`.

    A scale of zero stands for "none yet". 1.4826 makes it the standard deviation of normal residuals.
    """
    residual = (prediction - target).detach().abs()
    new = 1.4826 * residual.median(-2, keepdim=True).values.clamp_min(1e-6)
    return torch.where(scale > 0, scale.lerp(new, SCALE_MOMENTUM), new)


class LossModule(nn.Module):
    """Reduces a loss over its examples, and holds what the loss needs: parameters are trained with the model's.

    `forward(prediction, target)`: in the loss's `space` and `encoding`; `index=` and `progress=` where it needs them.
    The residual scale and the state move on in training only. `check` looks for values that the space and encoding do
    not allow (`InvalidValue`), for which a GPU waits once in each call.
    """

    residual_scale: Tensor
    state: Tensor | None

    def __init__(
        self,
        loss: Loss,
        reduction: str = "mean",
        problem: Problem | None = None,
        seed: int = 0,
        check: bool = True,
        **extras: Any,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise InvalidValue(f"The 'reduction' must be one of {', '.join(REDUCTIONS)}. Got {reduction!r} instead.")
        self.loss, self.reduction, self.check = loss, reduction, check
        self.trainable = nn.ParameterDict()
        kind = type(loss).__name__

        # 1. constants: buffers, so that they move to a device with the module
        constants = {Requirement.CLASS_COUNTS, Requirement.RESIDUAL_SCALE} & set(loss.requires)
        for name in extras.keys() - constants:
            options = ", ".join(sorted(constants)) or "nothing"
            raise InvalidValue(f"{kind} has no use for {name!r}; it can be given: {options}.")
        if Requirement.CLASS_COUNTS in constants - extras.keys():
            raise InvalidValue(f"{kind} needs class_counts, the training examples per class.")
        self.fixed_scale = "residual_scale" in extras
        for constant in constants:
            default = torch.zeros(()) if constant == Requirement.RESIDUAL_SCALE else None
            self.register_buffer(str(constant), torch.as_tensor(extras.get(constant, default)))

        # 2. trainable parameters and state, whose sizes depend on the problem
        if {Requirement.PARAMETERS, Requirement.STATE} & set(loss.requires):
            if problem is None:
                raise InvalidValue(f"{kind} has trainable parameters or a state: give problem=Problem(...).")
            self.trainable.update(loss.init_parameters(problem, torch.Generator().manual_seed(seed)))
            self.register_buffer("state", loss.init_state(problem))

    def _collect_required(self, prediction: Tensor, target: Tensor, call: dict[str, Any]) -> dict[str, Any]:
        held: dict[str, Any] = {name: getattr(self, name, None) for name in map(str, self.loss.requires)} | call
        if Requirement.PARAMETERS in self.loss.requires:
            held["parameters"] = dict(self.trainable.items())
        if Requirement.RESIDUAL_SCALE in self.loss.requires:
            held["residual_scale"] = self._update_scale(prediction, target)
        if missing := [str(name) for name in self.loss.requires if held[name] is None]:
            raise InvalidValue(f"{type(self.loss).__name__} needs {', '.join(missing)} with each call.")
        return {str(name): held[name] for name in self.loss.requires}

    def _update_scale(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.fixed_scale:
            return self.residual_scale
        refreshed = refresh_scale(self.residual_scale, prediction, target)
        if self.training:
            self.residual_scale = refreshed
        # before any training there is no scale to hold on to
        return torch.where(self.residual_scale > 0, self.residual_scale, refreshed)

    def forward(self, prediction: Tensor, target: Tensor, **call: Any) -> Tensor:
        """Return the reduced loss; `[...]` if `reduction` is none."""
        if self.check:
            # of an embedding only the class vectors, if the loss has any, tell the number of classes
            n_classes: int | None = prediction.shape[-1]
            if SPACES[self.loss.space].scored_by_loss:
                n_classes = len(self.trainable["weight"]) if "weight" in self.trainable else None
            check_values(self.loss, prediction.detach(), target.detach(), n_classes)
        # class indices and tokens stay whole numbers, unless they are the shares of the classes
        shares = target.is_floating_point() and target.shape == prediction.shape
        if shares or not ENCODINGS[self.loss.encoding].whole:
            target = target.to(prediction.dtype)
        losses = self.loss(prediction, target, **self._collect_required(prediction, target, call))
        if Requirement.STATE in self.loss.requires:
            losses, state = losses
            if self.training:
                self.state = state.detach()
        return _REDUCE[self.reduction](losses)
