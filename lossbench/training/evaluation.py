"""Measurements along the way: curves of all metrics, and the best epoch of each replica."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossbench import registry
from lossbench.interfaces import Metric, Task
from lossbench.interfaces.metric import ScoredMetric, get_worst, is_better, linearise, to_numpy
from lossbench.interfaces.spaces import SPACES
from lossbench.training.batches import Batches
from lossbench.training.objective import Objective, join_replicas
from lossbench.training.replicas import Replicas
from lossbench.types import Array, Picture, Problem

SPLITS = ("validation", "test")
ELEMENTS, CPU_ELEMENTS = 4_000_000, 500_000
"""Most numbers of raw input that one evaluation forward takes at once; a CPU's caches are small."""
N_PICTURED = 12
"""Test examples whose predictions are kept for pictures, where they are grey or colour images."""


def count_drawable(task: Task, inputs: Tensor) -> int:
    """Return `N_PICTURED`, or 0 where inputs `[N, ...]` are no images or the task has nothing to draw on them."""
    image = inputs.ndim == 4 and inputs.shape[1] in (1, 3)
    return N_PICTURED if image and task.picture != Picture.NONE else 0


def list_outputs(task: Task, problem: Problem) -> tuple[str, ...]:
    """List names or numbers of outputs that are measured separately as well: of several side by side."""
    several = task.side_by_side and problem.n_outputs > 1
    return (problem.class_names or tuple(map(str, range(problem.n_outputs)))) if several else ()


def choose_evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Return the steps, from 0 to the last, after which the replicas are evaluated."""
    return sorted({round(x) for x in np.linspace(0, steps, evaluations + 1)})


class Evaluation:
    """Evaluates all replicas, in full precision, and keeps each one's best weights by the validation metric.

    metric: the primary one's name; names: of all metrics; points: the steps at which to evaluate.
    """

    def __init__(
        self,
        replicas: Replicas,
        objective: Objective,
        batches: Batches,
        metric: str,
        names: tuple[str, ...],
        points: Sequence[int],
        batch_size: int,
    ) -> None:
        self.replicas, self.objective, self.batches, self.batch_size = replicas, objective, batches, batch_size
        self.metrics: dict[str, Metric] = {n: registry.metrics.get(n) for n in names}
        self.name, self.primary = metric, self.metrics[metric]
        self.scored = {name: m for name, m in self.metrics.items() if isinstance(m, ScoredMetric)}
        self.points = frozenset(points)
        self.task = objective.groups[0].task
        self.outputs = list_outputs(self.task, objective.groups[0].problem)
        self.n_pictured = min(count_drawable(self.task, batches.inputs), batches.count_examples("test"))

        # curves: a value per evaluation
        self.started: float | None = None
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.curves: dict[tuple[str, str], list[Tensor]] = defaultdict(list)

        # the best epoch of each replica
        n_replicas = replicas.theta.shape[0]
        self.best = torch.full((n_replicas,), get_worst(self.primary))
        self.best_step = torch.zeros(n_replicas, dtype=torch.long)
        self.best_theta = replicas.theta.detach().clone()
        self.best_buffers = {n: b.clone() for n, b in replicas.get_stacked_buffers().items()}

        # of test examples, by epoch ("last" or "best"); other scores are those of other metrics, by name
        self.scores: dict[str, Array] = {}
        self.predictions: dict[str, Array] = {}
        self.other_scores: dict[str, Array] = {}
        self.residual_scale: Array | None = None

    def is_due(self, step: int) -> bool:
        """Return whether `step` is an evaluation point that has not been evaluated."""
        return step in self.points and step not in self.steps

    def get_elapsed_seconds(self) -> float:
        """Return the seconds since the first evaluation."""
        return 0.0 if self.started is None else time.perf_counter() - self.started

    def get_state(self) -> dict[str, Any]:
        """Return the measurements so far and the best weights, for a checkpoint."""
        return {
            "elapsed": self.get_elapsed_seconds(),
            "steps": list(self.steps),
            "seconds": list(self.seconds),
            "curves": {key: torch.stack(values) for key, values in self.curves.items()},
            "best": [self.best, self.best_step, self.best_theta],
            "buffers": dict(self.best_buffers),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `get_state()`."""
        self.started = time.perf_counter() - state["elapsed"]
        self.steps, self.seconds = state["steps"], state["seconds"]
        self.curves = defaultdict(list, {key: list(values) for key, values in state["curves"].items()})
        self.best, self.best_step, self.best_theta = state["best"]
        self.best_buffers = state["buffers"]

    @torch.no_grad()
    def evaluate(self, step: int, active: Tensor, training: dict[str, Tensor]) -> Tensor:
        """Evaluate after `step` steps; return the mask `[R]` of replicas whose predictions are finite.

        Other replicas, and those no longer active, get NaN: their earlier values are not their result.
        """
        self.steps.append(step)
        self.started = time.perf_counter() if self.started is None else self.started
        self.seconds.append(self.get_elapsed_seconds() / len(self.best))  # one replica's share of the stack's time

        # 1. means of the training steps since the last evaluation
        for name, values in training.items():
            self.curves["train", name].append(values)

        # 2. metrics on both splits, [R] each
        def append(split: str, name: str, values: Tensor) -> None:
            self.curves[split, name].append(torch.where(active, values, torch.nan))

        for split in SPLITS:
            point, target = self.predict(split)  # [R, N, ...]
            active = active & point.abs().amax(tuple(range(1, point.ndim))).isfinite()
            for name, metric in self.metrics.items():
                append(split, name, metric(point, target))
            for i, output in enumerate(self.outputs):
                value = self.primary(point[..., i : i + 1], target[..., i : i + 1])
                append(split, f"{self.name}[{output}]", value)

        # 3. weights of replicas that are better than before
        if step > 0:  # the untrained network is nobody's best epoch, though wrong validation labels may prefer it
            self._keep_best(step)
        return active

    def _keep_best(self, step: int) -> None:
        values = self.curves["validation", self.name][-1]
        self.best, self.best_step = self.best.to(values), self.best_step.to(values.device)
        gain = is_better(self.primary, values, self.best)  # [R]
        self.best = torch.where(gain, values, self.best)
        self.best_step = torch.where(gain, step, self.best_step)
        self.best_theta = torch.where(gain[:, None], self.replicas.theta, self.best_theta.to(self.replicas.theta))
        for name, buffer in self.replicas.get_stacked_buffers().items():
            mask = gain.view(-1, *[1] * (buffer.ndim - 1))  # [R, 1, ...]
            self.best_buffers[name] = torch.where(mask, buffer, self.best_buffers[name].to(buffer.device))

    @torch.no_grad()
    def predict(self, split: str, theta: Tensor | None = None, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Return point predictions `[R, N, ...]` and raw targets of a split, or of its first `size` examples."""
        n_replicas = self.replicas.theta.shape[0]
        size = self.batches.count_examples(split) if size is None else size
        most = CPU_ELEMENTS if self.batches.inputs.is_cpu else ELEMENTS
        # no fewer than a training step holds with its gradients: convolutions want a batch
        chunk = max(self.batch_size, most // (n_replicas * self.batches.inputs[0].numel()))
        was_training = self.replicas.training
        self.replicas.eval()
        raws, targets = [], []
        for start in range(0, size, chunk):
            inputs, target = self.batches.get_examples(split, start, min(start + chunk, size))
            raw, extra = self.replicas(inputs, theta)
            raws.append(raw)
            targets.append(target)
        self.replicas.train(was_training)
        return self.objective.predict(join_replicas(raws, 1), extra, self.batches), join_replicas(targets, 1)

    def score_test_examples(self) -> None:
        """Keep scores and pictures of test examples at the last and the best epoch.

        Scores are the primary metric's for each example, if it has such scores; at the last epoch also those of other
        metrics. Pictures show the predictions for the first examples. Leaves the best epoch's buffers in the replicas.
        """
        if not (self.scored or self.n_pictured):
            return
        self._score_step("last", None)
        for name, buffer in self.replicas.get_stacked_buffers().items():
            buffer.copy_(self.best_buffers[name])
        self._score_step("best", self.best_theta)

    def _score_step(self, epoch: str, theta: Tensor | None) -> None:
        point, target = self.predict("test", theta, None if self.scored else self.n_pictured)
        for name, metric in self.scored.items():
            if name == self.name:
                self.scores[epoch] = to_numpy(metric.score_examples(point, target))
            elif epoch == "last":
                self.other_scores[name] = linearise(metric, point, target).detach().float().cpu().numpy()
        if epoch == "last" and self.scored and any(SPACES[s].standardised for s in self.task.spaces):
            # 1.4826 times the median of |residual| is the standard deviation of normal ones; the mean over outputs
            residuals = ((point - target) / self.batches.scale).abs()  # [R, N, D]
            self.residual_scale = to_numpy(1.4826 * residuals.median(-2).values.mean(-1))  # [R]
        if self.n_pictured:
            self.predictions[epoch] = to_numpy(self.task.decode_for_picture(point[:, : self.n_pictured]))

    def stack_curves(self) -> dict[tuple[str, str], Array]:
        """Return all curves, `[E, R]` each."""
        return {key: to_numpy(torch.stack(values)) for key, values in self.curves.items()}
