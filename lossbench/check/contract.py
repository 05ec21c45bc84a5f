"""The parts of the contract: a check is a function of a loss that returns, or raises what it got and expected."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch

from lossbench.errors import describe_error
from lossbench.interfaces.loss import Loss


class CheckFailed(Exception):
    """A loss breaks the contract. The message says what the check got and what it expected."""


class NotApplicable(Exception):
    """A check does not apply to a loss. The message gives the reason."""


class Status(StrEnum):
    """The outcome of a check."""

    PASSED = "passed"
    FAILED = "failed"
    KNOWN = "known flaw"  # it fails, and the loss itself declares that
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Result:
    """The result of one check of one loss."""

    check: str
    demand: str
    status: Status
    seconds: float
    message: str = ""  # the result and the expected one, the reason why it does not apply, or a measurement


@dataclass(frozen=True)
class Check:
    """One demand of the contract. The function's name is its name, the first line of its docstring the demand."""

    function: Callable[[Loss], str | None]

    @property
    def name(self) -> str:
        """The function's name, such as `leading_axes_are_free`."""
        return self.function.__name__

    @property
    def demand(self) -> str:
        """The demand in one sentence."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def __str__(self) -> str:
        return self.name

    def run(self, loss: Loss) -> Result:
        """Check `loss` and return the result; any exception of a third-party loss is a failure with its message.

        A failure that the loss declares in `flaws`, with the reason, is a known flaw.
        """
        start = time.perf_counter()
        try:
            # a loss that draws from the global generator changes no result but its own
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.default_generator.manual_seed(0)
                status, message = Status.PASSED, self.function(loss) or ""
        except NotApplicable as error:
            status, message = Status.NOT_APPLICABLE, str(error)
        except CheckFailed as error:
            status, message = Status.FAILED, str(error)
        except Exception as error:  # a third-party loss may raise anything
            status, message = Status.FAILED, f"it raises {describe_error(error)}"
        if status is Status.FAILED and (reason := loss.flaws.get(self.name)):
            status, message = Status.KNOWN, f"{reason} ({message})"
        return Result(self.name, self.demand, status, time.perf_counter() - start, message)

    def verify(self, loss: Loss) -> Result:
        """Check `loss` in a test suite: as `run`, but raise `CheckFailed` if it fails."""
        result = self.run(loss)
        if result.status is Status.FAILED:
            raise CheckFailed(f"{type(loss).__name__}: {self.name}: {result.message}")
        return result


def is_built_in(loss: Loss) -> bool:
    """Return True for lossbench's own losses, which must fulfil more than others."""
    return type(loss).__module__.startswith("lossbench.")
