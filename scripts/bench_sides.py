"""What stacks are compared with: plain Lightning, a bare loop, and the arithmetic alone. One trial after another."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from lossbench import registry
from lossbench.interfaces import Metric, Scaling, Task
from lossbench.training.batches import Batches
from lossbench.training.build import build_network, count_steps
from lossbench.training.data import prepare
from lossbench.training.run import disable_heap_trimming
from lossbench.types import Problem, Space, Trial

EVALUATIONS = 10
CEILING_BATCH, BATCH = 4096, 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Pair = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


class Fit(NamedTuple):
    """One training as a careful user would set it up: tensors in memory, standardised."""

    net: nn.Module
    loss: Loss
    point: Callable[[Tensor], Tensor]
    lr: float
    train: Pair
    splits: list[Pair]
    metrics: list[Metric]
    steps: int

    @property
    def every(self) -> int:
        """Steps between evaluations."""
        return max(1, self.steps // EVALUATIONS)


def ctc(logits: Tensor, tokens: Tensor) -> Tensor:
    """As one writes it: log probabilities `[T, N, C]`, lengths of inputs and targets."""
    logs = logits.log_softmax(-1).transpose(0, 1)
    steps = torch.full((len(tokens),), len(logs))
    return F.ctc_loss(logs, tokens.clamp_min(0), steps, (tokens >= 0).sum(1), reduction="none").mean()


def loss_of(task: Task, scaling: Scaling) -> Loss:
    """The task's default loss by torch and torchvision, on raw outputs and raw targets."""

    def squared(raw: Tensor, values: Tensor) -> Tensor:
        return F.mse_loss(raw, ((values - scaling.shift) / scaling.scale).float())

    def boxes(raw: Tensor, corners: Tensor) -> Tensor:
        predicted = task.convert(raw, Space.BOX_XYXY, scaling).float()
        return generalized_box_iou_loss(predicted, corners.float(), reduction="mean")

    by_loss = {"mse": squared, "cross_entropy": F.cross_entropy, "giou": boxes, "ctc": ctc}
    return by_loss[task.defaults["loss"]]


def point_of(task: Task, problem: Problem, scaling: Scaling) -> Callable[[Tensor], Tensor]:
    """What the metrics take, of raw outputs."""
    space = registry.losses.find(task.defaults["loss"]).space
    return lambda raw: task.predict(raw, space, problem, scaling)


def fit_of(trial: Trial) -> Fit:
    """The same model, data, steps and metrics as our side's."""
    prepared, _ = prepare([trial])
    assert prepared is not None
    task, batches = registry.tasks.build(trial.task), Batches(prepared)
    batches.to(DEVICE)
    train = next(batches.iterate(torch.arange(prepared.problem.n_examples, device=DEVICE)[None, None]))
    scaling = Scaling(batches.shift[0], batches.scale[0])
    both = [batches.get_examples(s, 0, batches.count_examples(s)) for s in ("validation", "test")]
    splits = [(inputs[0], targets[0]) for inputs, targets in both]
    metrics = [registry.metrics.get(m) for m in task.metrics]
    steps = count_steps(trial, prepared.problem.n_examples)
    net = build_network(trial, task, prepared.problem).to(DEVICE)
    pair, point = (train.inputs[0], train.targets[0]), point_of(task, prepared.problem, scaling)
    return Fit(net, loss_of(task, scaling), point, trial.optimizer.lr, pair, splits, metrics, steps)


class PermutedBatches:
    """What a user with data in memory writes: a permutation per epoch, sliced."""

    def __init__(self, pair: Pair, steps: int) -> None:
        (self.inputs, self.targets), self.steps = pair, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Pair]:
        done = 0
        while done < self.steps:
            order = torch.randperm(len(self.inputs))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                if done == self.steps:
                    return
                rows = order[start : start + BATCH]
                yield self.inputs[rows], self.targets[rows]
                done += 1


@torch.no_grad()
def evaluate(fit: Fit) -> list[Tensor]:
    """All metrics on validation and test."""
    fit.net.eval()
    values = []
    for inputs, targets in fit.splits:
        prediction = fit.point(fit.net(inputs))[None]
        values += [metric(prediction, targets[None]) for metric in fit.metrics]
    fit.net.train()
    return values


class Plain(pl.LightningModule):
    """One training as a Lightning user writes it."""

    def __init__(self, fit: Fit) -> None:
        super().__init__()
        self.fit, self.net = fit, fit.net
        self.history: list[Tensor] = []

    def training_step(self, batch: Pair, index: int) -> Tensor:
        inputs, targets = batch
        return self.fit.loss(self.net(inputs), targets)

    def on_train_batch_end(self, outputs: object, batch: object, index: int) -> None:
        if (index + 1) % self.fit.every == 0:
            self.history += evaluate(self.fit)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.fit.lr)


def plain(trials: Sequence[Trial]) -> None:
    """One Lightning fit per trial; logger, checkpoints and bar off."""
    for trial in trials:
        fit = fit_of(trial)
        trainer = pl.Trainer(
            accelerator=DEVICE,
            devices=1,
            max_steps=fit.steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Plain(fit), PermutedBatches(fit.train, fit.steps))


def loop(trials: Sequence[Trial]) -> None:
    """A bare PyTorch loop per trial, with torch's fused Adam."""
    for trial in trials:
        fit = fit_of(trial)
        optimizer = torch.optim.Adam(fit.net.parameters(), lr=fit.lr, fused=True)
        for step, (inputs, targets) in enumerate(PermutedBatches(fit.train, fit.steps), 1):
            optimizer.zero_grad()
            fit.loss(fit.net(inputs), targets).backward()
            optimizer.step()
            if step % fit.every == 0:
                evaluate(fit)


def arithmetic(trials: Sequence[Trial], seconds: float = 1.0) -> float:
    """Seconds that the arithmetic of one training takes in this process: the ceiling.

    Counted are forward, loss, backward and fused Adam of the first trial's network on random inputs in batches of 4096,
    a step of 64 examples being a 64th of that. Not counted: data, evaluation, and that small batches are slower.
    """
    fit = fit_of(trials[0])
    rows = torch.randint(len(fit.train[0]), (CEILING_BATCH,))
    inputs, targets = fit.train[0][rows], fit.train[1][rows]
    optimizer = torch.optim.Adam(fit.net.parameters(), lr=fit.lr, fused=True)
    times = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        started = time.perf_counter()
        optimizer.zero_grad()
        fit.loss(fit.net(inputs), targets).backward()
        optimizer.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2] * BATCH / CEILING_BATCH * fit.steps


def quiet() -> None:
    """No warnings about how Lightning is used here; memory kept, for all sides."""
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_heap_trimming()


def timed(work: Callable[..., Any], *args: Any) -> float:
    """Seconds."""
    started = time.perf_counter()
    work(*args)
    return time.perf_counter() - started
