"""A wrapper around third-party losses that take less than the checks pass: only one output, or only float32."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.check.calls import draw_call
from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import find_space
from lossbench.losses.composition.external import External
from lossbench.types import Encoding, Head, Problem, Requirement, Space


@dataclass(frozen=True)
class ExternalWrapper(Loss):
    """An `External` and the conversions between the checks' predictions and the input that it takes.

    single_output: it gets one output at a time, so that all outputs of a batch are separate examples.
    single_precision: it gets float32.
    per_step: it gets a prediction per time step, such as log probabilities; the checks draw logits.
    """

    loss: External
    single_output: bool = False
    single_precision: bool = False
    per_step: bool = False

    tasks = ("*",)

    @property
    def target(self) -> str:
        """The wrapped function or class, as messages call it."""
        return self.loss.target

    @property
    def space(self) -> Space:  # type: ignore[override]
        """The space of the checks' predictions: logits per time step where the loss takes probabilities of them."""
        return find_space(self.loss.encoding_facts.kind) if self.per_step else self.loss.space  # type: ignore[return-value]

    @property
    def encoding(self) -> Encoding:  # type: ignore[override]
        """The encoding of the checks' targets: for one of two classes a 0 or 1 per output."""
        single = self.loss.encoding_facts.single
        return single if self.single_output and single else self.loss.encoding  # type: ignore[return-value]

    @property
    def batch_level(self) -> bool:  # type: ignore[override]
        """The wrapped loss's."""
        return bool(self.loss.batch_level)

    @property
    def head(self) -> Head:  # type: ignore[override]
        """The wrapped loss's."""
        return self.loss.head

    @property
    def requires(self) -> tuple[Requirement, ...]:  # type: ignore[override]
        """The wrapped loss's."""
        return self.loss.requires

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the wrapped loss's parameters."""
        return self.loss.init_parameters(problem, generator)

    def __call__(self, prediction: Tensor, target: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Call the wrapped loss with converted input and return its values in the type of the prediction."""
        dtype, shape = prediction.dtype, prediction.shape
        if self.per_step:
            prediction = self.loss.space_facts.apply_link(prediction, exclusive=True)
        if self.single_output:
            # [B, D] to [B D, 1]; class indices to [B D]
            if prediction.ndim != 2:
                raise InvalidValue(f"{self.target} takes one batch [N, D]. Got {list(prediction.shape)}.")
            prediction, flat = prediction.reshape(-1, 1), target.flatten()
            target = flat.long() if self.loss.encoding_facts.whole else flat[:, None]
        if self.single_precision:
            prediction = prediction.float()
            target = target.float() if target.is_floating_point() else target
        values = self.loss(prediction, target, parameters).to(dtype)
        if self.single_output and not self.batch_level:
            values = values.unflatten(0, shape).mean(-1)  # [B D] to [B]
        return values

    def describe_input(self) -> str:
        """Return the input that the loss gets, in words."""
        parts = {
            "one output at a time": self.single_output,
            "float32": self.single_precision,
            f"{self.loss.space_facts.words} of time steps": self.per_step,
        }
        return ", ".join(text for text, applies in parts.items() if applies)

    def describe(self) -> str:
        """Return one line for people on the input that the loss gets."""
        return f"The checks give it {self.describe_input()}, as it takes nothing else."


def is_external(loss: Loss) -> bool:
    """Return True for a third-party loss."""
    return isinstance(loss, External | ExternalWrapper)


def wrap_external(loss: Loss) -> Loss:
    """Return the loss in the first wrapper with which a third-party loss can be called.

    Return the loss itself if it can be called as built-in losses are, or if no wrapper helps.
    """
    if not isinstance(loss, External) or _try_call(loss):
        return loss
    encoding = loss.encoding_facts
    if encoding.per_step:
        takes_link = loss.space_facts.link is not None
        wrappers = [ExternalWrapper(loss, per_step=takes_link, single_precision=p) for p in (False, True)]
    else:
        # from few conversions to many; without any it has just failed
        options = [(s, p) for s in ((False, True) if encoding.single else (False,)) for p in (False, True) if s or p]
        wrappers = [ExternalWrapper(loss, single_output=s, single_precision=p) for s, p in options]
    return next((wrapper for wrapper in wrappers if _try_call(wrapper)), loss)


def _try_call(loss: Loss) -> bool:
    with torch.random.fork_rng(devices=[]):
        try:
            draw_call(loss).evaluate(loss)
        except Exception:  # a third-party loss may raise anything on input that it does not take
            return False
    return True
