"""A weighting: one multiplier per example."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from lossbench.types import Encoding, Need, Space


class Weighting(ABC):
    """One multiplier per example, from the labels, the losses or the residuals. A frozen dataclass, as losses are.

    Weights that depend on the labels have mean 1 over the training split (not over the batch), so that the learning
    rate means the same. What else is done is said by each scheme. Fields in a stack are as for `Loss`.
    """

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it fits."""
    space: ClassVar[Space | None] = None
    """What `prediction` must be; None if it does not look at it."""
    encoding: ClassVar[Encoding | None] = None
    """What `target` must be; None if it does not look at it."""
    needs: ClassVar[tuple[Need, ...]] = ()
    """Keyword arguments that `__call__` takes beyond the three."""
    per_example: ClassVar[bool] = True
    """It needs one loss per example, so it refuses coupled losses."""
    scalar_fields: ClassVar[tuple[str, ...]] = ()
    """Float fields that cannot be tensors."""
    use_when: ClassVar[str] = ""
    """One line of advice."""

    @abstractmethod
    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **needs: Any) -> Tensor:
        """Weights for losses `[..., B]` (detached; prediction and target are None unless declared), `[..., B]`."""
