"""Stacks against plain Lightning fits one after another: same model, data, batch, optimiser, steps and evaluations.

Both sides run in this process, in turns; each figure is the median over the turns. Our side goes through the public
path, `run_stack`, data preparation and records included. The other side is written as a careful user would write it:
batches sliced from tensors in memory, logger, checkpoints and progress bar off.

    python scripts/bench_stack.py [--trials 64] [--turns 3] [--epochs 20]
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_module
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lossbench import registry
from lossbench.config import register_choices, resolve
from lossbench.plan import stacks
from lossbench.training.build import n_steps, network
from lossbench.training.feed import Feed
from lossbench.training.prepare import prepare
from lossbench.training.run import keep_heap, run_stack
from lossbench.types import Stack, Trial

SETTINGS = {
    "regression MLP 10-64-64-1": ["task=regression", "loss=mse", "model.width=64", "model.depth=2"],
    "digits MLP 64-128-10": ["task=multiclass", "loss=cross_entropy", "model.width=128", "model.depth=1"],
    "digits CNN 8, 16": ["task=multiclass", "loss=cross_entropy", "model=cnn", "model.channels=8", "model.depth=2"],
}
EVALUATIONS = 10


class Batches:
    """What a user with data in memory writes: a permutation per epoch, sliced."""

    def __init__(self, inputs: Tensor, targets: Tensor, batch: int, steps: int) -> None:
        self.inputs, self.targets, self.batch, self.steps = inputs, targets, batch, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        done = 0
        while done < self.steps:
            order = torch.randperm(len(self.inputs))
            for start in range(0, len(order) - self.batch + 1, self.batch):
                if done == self.steps:
                    return
                rows = order[start : start + self.batch]
                yield self.inputs[rows], self.targets[rows]
                done += 1


class Plain(pl.LightningModule):
    """One training as a Lightning user writes it, with the metrics that our side evaluates."""

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        lr: float,
        splits: list[tuple[Tensor, Tensor]],
        every: int,
        metrics: list[Callable[[Tensor, Tensor], Tensor]],
    ) -> None:
        super().__init__()
        self.net, self.loss, self.lr, self.splits, self.every, self.metrics = net, loss, lr, splits, every, metrics
        self.history: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        return self.loss(self.net(inputs), targets)

    def on_train_batch_end(self, outputs: object, batch: object, index: int) -> None:
        if (index + 1) % self.every:
            return
        self.net.eval()
        with torch.no_grad():
            for inputs, targets in self.splits:
                prediction = self.net(inputs.to(self.device))[None]
                self.history += [m(prediction, targets.to(self.device)[None]) for m in self.metrics]
        self.net.train()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def plan(overrides: list[str], trials: int, epochs: float) -> Stack:
    """One stack of seeds on clean data."""
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        cfg = compose(
            "config",
            overrides=[
                *overrides,
                f"seeds={trials}",
                "rates=[0]",
                f"epochs={epochs}",
                f"evaluations={EVALUATIONS}",
                "batch_size=64",
                "optimizer.schedule=constant",
            ],
        )
    (experiment,) = resolve(cfg)
    (stack,) = stacks(experiment.trials())
    return stack


def plain_fits(trials: tuple[Trial, ...]) -> None:
    """One Lightning fit per trial."""
    for trial in trials:
        prepared, _ = prepare([trial])
        assert prepared is not None
        task, feed = registry.tasks.build(trial.task), Feed(prepared)
        train = feed.batch(torch.arange(prepared.problem.n_examples)[None])
        scaling = feed.scaling
        targets = train.targets
        if targets.is_floating_point():
            targets = ((targets - scaling.shift) / scaling.scale).float()
        loss = nn.MSELoss() if targets.is_floating_point() else nn.CrossEntropyLoss()
        splits = [tuple(t[0] for t in feed.examples(s, 0, feed.size(s))) for s in ("validation", "test")]
        steps = n_steps(trial, prepared.problem.n_examples)
        metrics = [registry.metrics.get(m) for m in task.metrics]
        module = Plain(
            network(trial, task, prepared.problem),
            loss,
            trial.optimizer.lr,
            splits,
            max(1, steps // EVALUATIONS),
            metrics,
        )
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, Batches(train.inputs[0], targets[0], 64, steps))


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(overrides: list[str], trials: int, turns: int, epochs: float) -> dict[str, float]:
    """Median seconds per trial of each side."""
    stack, single = plan(overrides, trials, epochs), plan(overrides, 1, epochs)
    few = stack.trials[: max(2, min(4, trials))]
    run_stack(single), plain_fits(few[:1])  # warm up both sides
    found: dict[str, list[float]] = {"plain": [], "single": [], "stack": []}
    for _ in range(turns):
        found["plain"].append(timed(lambda: plain_fits(few)) / len(few))
        found["single"].append(statistics.mean(timed(partial(run_stack, Stack((t,)))) for t in few))
        found["stack"].append(timed(lambda: run_stack(stack)) / trials)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=20)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    register_choices()
    keep_heap()  # for both sides
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    table = Table(title=f"{given.trials} trials, {given.epochs:g} epochs, torch {torch.__version__}, {device}")
    for heading in (
        "model",
        "plain Lightning",
        "one trial by us",
        "a trial in our stack",
        "stack against plain",
        "one against plain",
    ):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, overrides in SETTINGS.items():
        t = compare(overrides, given.trials, given.turns, given.epochs)
        seconds = [f"{1000 * t[n]:.1f} ms" for n in ("plain", "single", "stack")]
        table.add_row(name, *seconds, f"{t['plain'] / t['stack']:.1f}x", f"{t['plain'] / t['single']:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
