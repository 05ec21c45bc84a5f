"""Guards around third-party losses: what one does to its inputs, or to the process, harms no other."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from typing import Any

import torch
from torch import Tensor

from lossbench.interfaces import Loss

BUILT_IN = "lossbench.losses."
COMPOSITION = "lossbench.losses.composition."


def needs_input_guard(loss: Loss) -> bool:
    """Return True for a loss that is not built in, or that calls one."""
    parts = getattr(loss, "parsed_terms", None)
    if parts is not None:
        return any(needs_input_guard(term.loss) for term in parts)
    return not type(loss).__module__.startswith(BUILT_IN) or type(loss).__module__.startswith(COMPOSITION)


class InputGuard:
    """Copies of the inputs of one call, and a check afterwards of what the loss has done to them.

    A loss that changes the stack's own outputs in place would spoil the graph of all its neighbours.
    """

    def __init__(self, prediction: Tensor, target: Tensor) -> None:
        self.prediction, self.target = prediction.clone(), target.clone()
        self._versions = self._get_versions()
        self._is_differentiable = prediction.requires_grad

    def _get_versions(self) -> tuple[int, int]:
        return self.prediction._version, self.target._version  # torch counts changes in place

    def find_problem(self, result: Any) -> str:
        """Return what the loss has done that it must not do, as the end of a sentence; empty if nothing."""
        if self._is_differentiable and not torch.is_grad_enabled():
            return "switches gradients off for the whole process (torch.set_grad_enabled)"
        prediction, target = (new != old for new, old in zip(self._get_versions(), self._versions, strict=True))
        if prediction or target:
            return f"changes its {'prediction' if prediction else 'target'} in place"
        losses = result[0] if isinstance(result, tuple) else result
        if not isinstance(losses, Tensor):
            return ""  # the shape is checked elsewhere
        if not losses.is_floating_point():
            return f"returns {losses.dtype}, and must return real numbers that have a gradient"
        if self._is_differentiable and not losses.requires_grad:
            return "returns losses without a gradient: they are detached from the prediction"
        return ""


@contextmanager
def restore_process_state() -> Iterator[None]:
    """Restore what third-party code may change for the whole process, and print its output to standard error.

    Only in the main thread: two threads that did so at once would restore each other's state.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    environment, streams, dtype = dict(os.environ), (sys.stdout, sys.stderr), torch.get_default_dtype()
    n_threads = torch.get_num_threads()
    try:
        with chdir(os.getcwd()), redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout, sys.stderr = streams
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != n_threads:
            torch.set_num_threads(n_threads)
