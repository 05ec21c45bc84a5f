"""Weightings: one multiplier per example or label, or per term of a combined loss."""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES
from lossbench.interfaces.task import Task
from lossbench.types import Encoding, Requirement, Space


class Level(StrEnum):
    """The values that a scheme's weights multiply, which decides where in training it is called."""

    EXAMPLE = "example"
    LABEL = "label"
    TERM = "term"


class Misfit(NamedTuple):
    """The reason for which a scheme cannot weigh a loss."""

    message: str  # what the scheme does, and what to use instead
    reason: str  # in short


class Scheme(ABC):
    """A choice of `weighting`: a `Weighting` or a `TermWeighting`. A frozen dataclass, as losses are.

    Fields in a stack are as for `Loss`, with a 1 for each axis of the losses but the first.
    """

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it fits."""
    requires: ClassVar[tuple[Requirement, ...]] = ()
    """Keyword arguments that `__call__` takes beyond its positional ones."""
    static_fields: ClassVar[tuple[str, ...]] = ()
    """Float fields that cannot be tensors."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Its names in other libraries."""
    use_when: ClassVar[str] = ""
    """One line of advice."""
    pitfall: ClassVar[str] = ""
    """Its best-known trap."""

    @abstractmethod
    def __call__(self, losses: Tensor, *_: Any, **requires: Any) -> Any:
        """Return the weights of detached losses."""

    @abstractmethod
    def get_level(self, task: Task, n_outputs: int) -> Level:
        """Return what its weights multiply in `task` with so many outputs."""

    @abstractmethod
    def find_misfit(self, loss: Loss, name: str) -> Misfit | None:
        """Return why it cannot weigh a loss that is called `name`; None if it can."""


class Weighting(Scheme):
    """One multiplier per example, from the labels, the losses or the residuals.

    Weights that depend on the labels have mean 1 over the training split (not over the batch), so that the learning
    rate means the same. What else is done is said by each scheme.

    A scheme whose target is one per label weighs each label: it takes losses `[..., B, L]` and returns as many weights.
    Then the loss must be a mean over labels, which is taken after weighing.
    """

    space: ClassVar[Space | None] = None
    """The space of `prediction`; None if the scheme does not use it."""
    encodings: ClassVar[tuple[Encoding, ...]] = ()
    """Encodings that `target` may have: the first that the task has is taken; none if the scheme does not use it."""
    per_example: ClassVar[bool] = True
    """It needs one loss per example, so it refuses batch-level losses."""
    differentiable: ClassVar[bool] = False
    """Its weights carry a gradient to the prediction; those of others are constants."""

    @abstractmethod
    def __call__(self, losses: Tensor, prediction: Any, target: Any, **requires: Any) -> Any:
        """Return weights like losses `[..., B]`, or `[..., B, L]` where each label is weighed, and of their type.

        Losses are detached, the prediction too unless `differentiable`; it and the target are None unless declared.
        """

    def select_encoding(self, task: Task) -> Encoding | None:
        """Return the encoding of its target in `task`: the first that both have; None if there is none."""
        return next((e for e in self.encodings if e in task.encodings), None)

    def get_level(self, task: Task, n_outputs: int) -> Level:
        """Return LABEL if its target is one of several labels, none of which excludes another, else EXAMPLE."""
        encoding = self.select_encoding(task)
        of_labels = encoding is not None and ENCODINGS[encoding].per_label
        several = n_outputs > 1 and not any(ENCODINGS[e].exclusive for e in task.encodings)
        return Level.LABEL if of_labels and several else Level.EXAMPLE

    def find_misfit(self, loss: Loss, name: str) -> Misfit | None:
        """Refuse losses of whole batches, and embeddings where scores are looked at."""
        if self.per_example and loss.batch_level:
            return Misfit(
                f"weighs single examples, and loss={name} gives one value for a whole batch. Use weighting=none, or a "
                "loss that is not batch-level.",
                "single examples cannot be weighed in a loss of whole batches",
            )
        if self.space is not None and SPACES[loss.space].scored_by_loss:
            return Misfit(
                f"looks at scores, and loss={name} trains an embedding, whose scores only the loss itself makes.",
                "an embedding has no scores to weigh by",
            )
        return None


class TermWeighting(Scheme):
    """One multiplier per term of a combined loss, from the terms' means over the batch.

    Replicas of a stack share nothing here either: each weighs the terms of its own loss. With `Requirement.GRAMIAN` it
    gets the inner products of the terms' gradients, which costs a backward pass per term.
    """

    tasks = ("*",)

    @abstractmethod
    def __call__(self, losses: Tensor, **requires: Any) -> Any:
        """Return weights `[..., K]` of detached losses `[..., K]` of K terms; with `Requirement.STATE` also the state.

        Weights carry gradients to the parameters only.
        """

    def get_level(self, task: Task, n_outputs: int) -> Level:
        """Return TERM."""
        return Level.TERM

    def find_misfit(self, loss: Loss, name: str) -> Misfit | None:
        """Refuse a loss without terms."""
        if loss.has_terms:
            return None
        return Misfit(
            f"weighs the terms of a combined loss, and loss={name} is one loss. Use loss=combined, or a weighting of "
            "examples.",
            "there are no terms to weigh",
        )

    def init_parameters(self, n_terms: int) -> dict[str, Tensor]:
        """Return trainable tensors of one trial, by name. In a stack each gets a leading `[R]`."""
        return {}

    def init_state(self, n_terms: int, generator: torch.Generator) -> Tensor | None:
        """Return what one trial carries on, if it declares `Requirement.STATE`. In a stack it gets a leading `[R]`."""
        return None

    def penalty(self, parameters: dict[str, Tensor]) -> Tensor | float:
        """Return what is added to the weighted sum, `[...]`, so that the parameters cannot run away."""
        return 0.0
