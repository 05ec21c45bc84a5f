"""A stack as one LightningModule."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lossbench.training.batches import Batch
from lossbench.training.build import Pieces
from lossbench.training.checkpoint import Unusable
from lossbench.training.optimizer import RowOptimizer
from lossbench.types import Trial

MEASURED = ("loss", "gradient_norm", "clipped_share")


class StackModule(pl.LightningModule):
    """Trains the rows of a stack. Sums over rows: they share nothing, so their gradients do not mix.

    Lightning's batch is a block of steps from one evaluation point to the next, under manual optimisation: its own
    bookkeeping, about 0.25 ms a step, would otherwise be a third of a small model's time.
    """

    def __init__(self, trials: Sequence[Trial], pieces: Pieces, resumed: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.resumed = resumed
        self.automatic_optimization = False
        self.trials, self.steps = list(trials), pieces.steps
        self.replicas, self.objective, self.feed = pieces.replicas, pieces.objective, pieces.feed
        self.evaluation = pieces.evaluation
        self.on_start: Callable[[], None] = lambda: None
        self.on_step: Callable[[int], None] = lambda step: None
        self.meter = Meter()

    def configure_optimizers(self) -> RowOptimizer:
        """One optimiser whose rows are independent."""
        sizes = [*self.replicas.sizes, *([self.replicas.n_extra] if self.replicas.n_extra else [])]
        settings = [t.optimizer for t in self.trials]
        self.row_optimizer = RowOptimizer(self.replicas.theta, settings, self.steps, sizes, self.replicas.decays())
        return self.row_optimizer

    def training_step(self, block: Tensor, _: int) -> None:
        """The steps of a block, at positions `[K, S, B]` of the order streams."""
        for batch in self.feed.batches(block):
            self._step(batch)
            self.on_step(self.meter.step)

    def _step(self, batch: Batch) -> None:
        raw, extra = self.replicas(batch.inputs)
        with self._full_precision():
            losses = self.objective(raw.to(batch.inputs.dtype), self.feed, batch, extra, self.meter.step / self.steps)
        self.replicas.theta.grad = None
        losses.backward(torch.ones_like(losses))
        self.row_optimizer.losses = losses.detach()
        self.row_optimizer.step()
        self.meter.take(self.row_optimizer.losses, self.row_optimizer.norm, self.row_optimizer.clipped)

    def _full_precision(self) -> AbstractContextManager[Any]:
        # losses are in full precision, also where the network runs under autocast
        bf16 = self.trials[0].precision == "bf16"
        return torch.autocast(self.device.type, enabled=False) if bf16 else nullcontext()

    def on_train_start(self) -> None:
        """Evaluate the untrained rows, or go on from a checkpoint."""
        self.on_start()
        if self.resumed is not None:
            try:
                self._restore(self.resumed)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise Unusable(f"{type(error).__name__}: {error}") from error
        self._evaluate()

    def on_train_batch_end(self, *_: object) -> None:
        """A block ends at an evaluation point, unless it has been cut short for its size."""
        self._evaluate()

    def on_train_end(self) -> None:
        """Score the test examples while everything is still on its device: Lightning moves the module off it after."""
        self.evaluation.finish()

    def _evaluate(self) -> None:
        if not self.evaluation.is_due(self.meter.step):
            return
        active = self.row_optimizer.active
        finite = self.evaluation.at(self.meter.step, active, self.meter.means(active))
        self.row_optimizer.keep(finite)  # the last step may have been the one that blew up

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on, as tensors and plain values."""
        return {
            "step": self.meter.step,
            "seconds": self.evaluation.elapsed(),
            "tensors": self.state_dict(),
            "failures": self.objective.group_failures(),
            "optimizer": self.row_optimizer.state_dict(),
            "meter": self.meter.state(),
            "evaluation": self.evaluation.state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state["tensors"])
        self.objective.fail_again(state["failures"])
        self.row_optimizer.load_state_dict(_on(self.device, state["optimizer"]))
        self.meter.restore(_on(self.device, state["meter"]))
        self.evaluation.restore(_on(self.device, state["evaluation"]))
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random_cuda"])


class Meter:
    """Means over the steps since the last evaluation, per row, kept on the device without a host sync."""

    def __init__(self) -> None:
        self.step = self._since = 0
        self._sums: list[Tensor] = []

    def take(self, *values: Tensor) -> None:
        """Add one step's `MEASURED`, `[R]` each."""
        if self._since:
            torch._foreach_add_(self._sums, values)
        else:
            self._sums = [v.clone() for v in values]
        self._since += 1
        self.step += 1

    def means(self, active: Tensor) -> dict[str, Tensor]:
        """By name, `[R]`; NaN for rows that have diverged and before the first step."""
        nothing = torch.full_like(active, torch.nan, dtype=torch.float32)
        sums = self._sums if self._since else [nothing] * len(MEASURED)
        means = [torch.where(active, s / max(self._since, 1), torch.nan) for s in sums]
        self._since = 0
        return dict(zip(MEASURED, means, strict=True))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "since": self._since, "sums": [s.clone() for s in self._sums]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.step, self._since, self._sums = state["step"], state["since"], state["sums"]


def _on(device: torch.device, value: Any) -> Any:
    """The same with its tensors on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _on(device, v) for k, v in value.items()}
    return [_on(device, v) for v in value] if isinstance(value, list) else value
