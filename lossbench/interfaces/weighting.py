"""A weighting: one multiplier per example, or per label."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossbench.interfaces.task import Task
from lossbench.types import Encoding, Need, Space


class Weighting(ABC):
    """One multiplier per example, from the labels, the losses or the residuals. A frozen dataclass, as losses are.

    Weights that depend on the labels have mean 1 over the training split (not over the batch), so that the learning
    rate means the same. What else is done is said by each scheme. Fields in a stack are as for `Loss`, with a 1 for
    each axis of the losses but the first.

    A scheme whose target is multi-hot weighs each label: it takes losses `[..., B, L]` and returns as many weights.
    Then the loss must be a mean over labels, which is taken after weighing.
    """

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it fits."""
    space: ClassVar[Space | None] = None
    """What `prediction` must be; None if it does not look at it."""
    encodings: ClassVar[tuple[Encoding, ...]] = ()
    """What `target` may be, of which it is given the first that the task has; none if it does not look at it."""
    needs: ClassVar[tuple[Need, ...]] = ()
    """Keyword arguments that `__call__` takes beyond the three."""
    per_example: ClassVar[bool] = True
    """It needs one loss per example, so it refuses coupled losses."""
    differentiable: ClassVar[bool] = False
    """Its weights carry a gradient to the prediction; those of others are constants."""
    scalar_fields: ClassVar[tuple[str, ...]] = ()
    """Float fields that cannot be tensors."""
    known_as: ClassVar[tuple[str, ...]] = ()
    """Its names in other libraries."""
    use_when: ClassVar[str] = ""
    """One line of advice."""
    beware: ClassVar[str] = ""
    """Its best-known trap."""

    @abstractmethod
    def __call__(self, losses: Tensor, prediction: Any, target: Any, **needs: Any) -> Any:
        """Weights like losses `[..., B]`, or `[..., B, L]` where each label is weighed, and of their type.

        Losses are detached, the prediction too unless `differentiable`; it and the target are None unless declared.
        """

    def encoding_in(self, task: Task) -> Encoding | None:
        """What it is given as target in `task`."""
        return next((e for e in self.encodings if e in task.encodings), None)


class TermWeighting(Weighting):
    """One multiplier per term of a combined loss, from the terms' means over the batch. A frozen dataclass.

    Rows of a stack share nothing here either: each weighs the terms of its own loss. With `Need.GRAMIAN` it is given
    the inner products of the terms' gradients, which costs a backward pass per term.
    """

    tasks = ("*",)
    per_example = False

    @abstractmethod
    def __call__(self, losses: Tensor, prediction: Any, target: Any, **needs: Any) -> Any:
        """Weights `[..., K]` for detached losses `[..., K]` of K terms; with `Need.STATE` a pair with the next state.

        Prediction and target are None. Weights carry gradients to the parameters only.
        """

    def parameters(self, n_terms: int) -> dict[str, Tensor]:
        """Trainable tensors of one trial, by name. In a stack each gets a leading `[r]`."""
        return {}

    def state(self, n_terms: int, generator: torch.Generator) -> Tensor | None:
        """What one trial carries from step to step, if it declares `Need.STATE`. In a stack it gets a leading `[r]`."""
        return None

    def penalty(self, parameters: dict[str, Tensor]) -> Tensor | float:
        """What is added to the weighted sum, `[...]`, so that the parameters cannot run away."""
        return 0.0
