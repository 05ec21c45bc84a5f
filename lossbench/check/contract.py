"""What a check is: a function of a loss that returns, or raises what it found and what it wanted."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch

from lossbench.errors import describe_error
from lossbench.interfaces.loss import Loss


class CheckFailed(Exception):
    """A loss breaks the contract: what was found and what was wanted."""


class NotApplicable(Exception):
    """A check says nothing about a loss, and why."""


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    KNOWN = "known flaw"  # it fails, as the loss itself says
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Result:
    """One check of one loss."""

    check: str
    demand: str
    status: Status
    seconds: float
    message: str = ""  # what was found and wanted, why it is not applicable, or what there is to tell


@dataclass(frozen=True)
class Check:
    """One demand of the contract. The function's name is its name, the first line of its docstring the demand."""

    function: Callable[[Loss], str | None]

    @property
    def name(self) -> str:
        """`leading_axes_are_free`."""
        return self.function.__name__

    @property
    def demand(self) -> str:
        """One sentence."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def __str__(self) -> str:
        return self.name

    def run(self, loss: Loss) -> Result:
        """Whether `loss` meets the demand; whatever a stranger's loss raises is a failure with that message.

        A failure that the loss's `flaws` name, with the reason, is a known flaw.
        """
        start = time.perf_counter()
        status, message = self._outcome(loss)
        if status is Status.FAILED and (why := loss.flaws.get(self.name)):
            status, message = Status.KNOWN, f"{why} ({message})"
        return Result(self.name, self.demand, status, time.perf_counter() - start, message)

    def verify(self, loss: Loss) -> Result:
        """The same, for a test suite: raises `CheckFailed` where it fails."""
        result = self.run(loss)
        if result.status is Status.FAILED:
            raise CheckFailed(f"{type(loss).__name__}: {self.name}: {result.message}")
        return result

    def _outcome(self, loss: Loss) -> tuple[Status, str]:
        try:
            # a loss that draws from the global generator changes no result but its own
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.default_generator.manual_seed(0)
                return Status.PASSED, self.function(loss) or ""
        except NotApplicable as reason:
            return Status.NOT_APPLICABLE, str(reason)
        except CheckFailed as failure:
            return Status.FAILED, str(failure)
        except Exception as error:  # a stranger's loss may raise anything
            return Status.FAILED, f"it raises {describe_error(error)}"


def built_in(loss: Loss) -> bool:
    """Whether it is lossbench's own, of which more is asked."""
    return type(loss).__module__.startswith("lossbench.")
