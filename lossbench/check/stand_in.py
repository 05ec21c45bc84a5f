"""Losses of others may take less than ours: one output, or float32. The checks call each as it can be called."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.check.samples import call_for
from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import find_space
from lossbench.losses.composition.external import External
from lossbench.types import Encoding, Head, Problem, Requirement, Space


@dataclass(frozen=True)
class StandIn(Loss):
    """An External with what comes between it and the checks.

    single: it is given one output at a time, all outputs of a batch being so many examples. single_precision: it is
    given float32. of_steps: it is given a prediction per time step, such as log probabilities, and the checks draw the
    logits of them.
    """

    loss: External
    single: bool = False
    single_precision: bool = False
    of_steps: bool = False

    tasks = ("*",)

    @property
    def target(self) -> str:
        """What messages call it."""
        return self.loss.target

    @property
    def space(self) -> Space:  # type: ignore[override]
        """Logits of steps where it wants what is made of them."""
        return find_space(self.loss.encoding_facts.kind) if self.of_steps else self.loss.space  # type: ignore[return-value]

    @property
    def encoding(self) -> Encoding:  # type: ignore[override]
        """A class of two as 0 or 1 for each output."""
        single = self.loss.encoding_facts.single
        return single if self.single and single else self.loss.encoding  # type: ignore[return-value]

    @property
    def batch_level(self) -> bool:  # type: ignore[override]
        """As the loss is."""
        return bool(self.loss.batch_level)

    @property
    def head(self) -> Head:  # type: ignore[override]
        """As the loss wants it."""
        return self.loss.head

    @property
    def requires(self) -> tuple[Requirement, ...]:  # type: ignore[override]
        """As the loss has them."""
        return self.loss.requires

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Those of the loss."""
        return self.loss.init_parameters(problem, generator)

    def __call__(self, prediction: Tensor, target: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Its values, in the type of the prediction."""
        dtype, shape = prediction.dtype, prediction.shape
        if self.of_steps:
            prediction = self.loss.space_facts.apply_link(prediction, exclusive=True)
        if self.single:
            prediction, target = self._singly(prediction, target)
        if self.single_precision:
            prediction = prediction.float()
            target = target.float() if target.is_floating_point() else target
        values = self.loss(prediction, target, parameters).to(dtype)
        return values.unflatten(0, shape).mean(-1) if self.single and not self.batch_level else values

    def _singly(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, D]` to `[N D, 1]`."""
        if prediction.ndim != 2:
            raise InvalidValue(f"{self.target} takes one batch [N, D]. Got {list(prediction.shape)}.")
        flat = target.flatten()
        whole = self.loss.encoding_facts.whole
        return prediction.reshape(-1, 1), flat.long() if whole else flat[:, None]

    def given(self) -> str:
        """What it is given, in words."""
        how = {
            "one output at a time": self.single,
            "float32": self.single_precision,
            f"{self.loss.space_facts.words} of time steps": self.of_steps,
        }
        return ", ".join(what for what, so in how.items() if so)

    def told(self) -> str:
        """The same, in one line."""
        return f"The checks give it {self.given()}, as it takes nothing else."


def is_external(loss: Loss) -> bool:
    """Whether it is a loss of others, called as it is."""
    return isinstance(loss, External | StandIn)


def make_stand_in(loss: Loss) -> Loss:
    """What the checks call instead of a loss: the loss, if it can be called as ours can, or if nothing else can."""
    if not isinstance(loss, External) or _callable(loss):
        return loss
    return next((way for way in _ways(loss) if _callable(way)), loss)


def _ways(loss: External) -> list[StandIn]:
    encoding = loss.encoding_facts
    if encoding.per_step:
        return [StandIn(loss, of_steps=loss.space_facts.link is not None, single_precision=p) for p in (False, True)]
    single = [False, True] if encoding.single else [False]
    return [StandIn(loss, single=s, single_precision=p) for s in single for p in (False, True) if s or p]


def _callable(loss: Loss) -> bool:
    with torch.random.fork_rng(devices=[]):
        try:
            call_for(loss).of(loss)
        except Exception:  # a stranger's loss may raise anything on what it does not take
            return False
    return True
