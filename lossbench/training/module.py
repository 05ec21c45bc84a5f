"""A stack as one LightningModule."""

from collections.abc import Callable, Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from lossbench.training.build import Pieces
from lossbench.training.evaluation import evaluation_steps
from lossbench.training.optimizer import RowOptimizer
from lossbench.types import Trial


class StackModule(pl.LightningModule):
    """Trains the rows of a stack. Sums over rows: they share nothing, so their gradients do not mix."""

    def __init__(self, trials: Sequence[Trial], pieces: Pieces) -> None:
        super().__init__()
        self.trials, self.steps = list(trials), pieces.steps
        self.replicas, self.objective, self.feed = pieces.replicas, pieces.objective, pieces.feed
        self.evaluation = pieces.evaluation
        self.points = set(evaluation_steps(pieces.steps, trials[0].evaluations))
        self.on_step: Callable[[int], None] = lambda step: None
        self.taken = 0

    def configure_optimizers(self) -> RowOptimizer:
        """One optimiser whose rows are independent."""
        sizes = [*self.replicas.sizes, *([self.replicas.n_extra] if self.replicas.n_extra else [])]
        settings = [t.optimizer for t in self.trials]
        self.rows = RowOptimizer(self.replicas.theta, settings, self.steps, sizes, self.replicas.decays())
        return self.rows

    def training_step(self, positions: Tensor, _: int) -> Tensor:
        """One step of every row, at positions `[S, B]` of the order streams."""
        batch = self.feed.batch(positions)
        raw, extra = self.replicas(batch.inputs)
        raw = raw.to(batch.inputs.dtype)  # the losses are in full precision, also under autocast
        with torch.autocast(self.device.type, enabled=False):
            losses = self.objective(raw, self.feed, batch, extra, self.taken / self.steps)
        self.rows.freeze(~losses.detach().isfinite())
        self._losses = losses.detach()
        return losses.sum()

    def on_train_start(self) -> None:
        """Evaluate the untrained rows."""
        self._sums = torch.zeros(3, len(self.trials), device=self.device, dtype=self.replicas.theta.dtype)
        self._since = 0
        self._evaluate()

    def on_train_batch_end(self, *_: object) -> None:
        """Keep what the curves need on the device, without a host sync; evaluate where it is due."""
        self._sums += torch.stack([self._losses, self.rows.norm, self.rows.clipped])
        self._since += 1
        self.taken += 1
        if self.taken in self.points:
            self._evaluate()
        self.on_step(self.taken)

    def _evaluate(self) -> None:
        means = torch.where(self.rows.active, self._sums / max(self._since, 1), torch.nan)
        if not self._since:
            means = torch.full_like(means, torch.nan)  # nothing has been trained yet
        training = dict(zip(("loss", "gradient_norm", "clipped_share"), means, strict=True))
        self.evaluation.at(self.taken, self.rows.active, training)
        self._sums, self._since = torch.zeros_like(self._sums), 0
