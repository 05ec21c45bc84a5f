"""What is measured along the way: curves of all metrics, and the best epoch of each row."""

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
from lossbench.training.batches import Feed
from lossbench.training.objective import Objective, joined
from lossbench.training.replicas import Replicas
from lossbench.types import Array, Picture, Problem

SPLITS = ("validation", "test")
ELEMENTS, CPU_ELEMENTS = 4_000_000, 500_000
"""Most numbers of raw input that one evaluation forward takes at once; a CPU's caches are small."""
N_SHOWN = 12
"""How many test examples have their predictions kept to be drawn, where they are grey or colour images."""


def n_shown(task: Task, inputs: Tensor) -> int:
    """`N_SHOWN`, or 0 where inputs `[N, ...]` are no images or the task has nothing to draw on them."""
    image = inputs.ndim == 4 and inputs.shape[1] in (1, 3)
    return N_SHOWN if image and task.picture != Picture.NONE else 0


def outputs(task: Task, problem: Problem) -> tuple[str, ...]:
    """Names or numbers of outputs that are measured one by one as well: of several side by side."""
    several = task.side_by_side and problem.n_outputs > 1
    return (problem.class_names or tuple(map(str, range(problem.n_outputs)))) if several else ()


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Steps, from 0 to the last, after which the rows are evaluated."""
    return sorted({round(x) for x in np.linspace(0, steps, evaluations + 1)})


def _residual_scale(residuals: Tensor) -> Tensor:
    """1.4826 times the median over examples of absolute residuals, `[R, N, D]` to `[R]`: the mean over D."""
    return 1.4826 * residuals.abs().median(-2).values.mean(-1)


class Evaluation:
    """Evaluates all rows of a stack, in full precision, and keeps each row's best weights by the validation metric."""

    def __init__(
        self,
        replicas: Replicas,
        objective: Objective,
        feed: Feed,
        primary: str,
        names: tuple[str, ...],
        points: Sequence[int],
        batch_size: int,
    ) -> None:
        self.replicas, self.objective, self.feed, self.batch_size = replicas, objective, feed, batch_size
        self.metrics: dict[str, Metric] = {n: registry.metrics.get(n) for n in names}
        self.name, self.primary = primary, self.metrics[primary]
        self.points = frozenset(points)
        self.started: float | None = None
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.curves: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self.task = objective.groups[0].task
        self.outputs = outputs(self.task, objective.groups[0].problem)
        self.n_shown = min(n_shown(self.task, feed.inputs), feed.size("test"))
        self.scores: dict[str, Array] = {}
        self.others: dict[str, Array] = {}
        self.residual_scale: Array | None = None
        self.shown: dict[str, Array] = {}
        rows = replicas.theta.shape[0]
        self.best = torch.full((rows,), get_worst(self.primary))
        self.best_step = torch.zeros(rows, dtype=torch.long)
        self.best_theta = replicas.theta.detach().clone()
        self.best_buffers = {n: b.clone() for n, b in replicas.stacked_buffers().items()}

    def is_due(self, step: int) -> bool:
        """Whether `step` is an evaluation point that has not been evaluated."""
        return step in self.points and step not in self.steps

    def elapsed(self) -> float:
        """Seconds since the first evaluation."""
        return 0.0 if self.started is None else time.perf_counter() - self.started

    def state(self) -> dict[str, Any]:
        """For a checkpoint: what has been measured, and the best weights."""
        return {
            "elapsed": self.elapsed(),
            "steps": list(self.steps),
            "seconds": list(self.seconds),
            "curves": {key: torch.stack(values) for key, values in self.curves.items()},
            "best": [self.best, self.best_step, self.best_theta],
            "buffers": dict(self.best_buffers),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `init_state()`."""
        self.started = time.perf_counter() - state["elapsed"]
        self.steps, self.seconds = state["steps"], state["seconds"]
        self.curves = defaultdict(list, {key: list(values) for key, values in state["curves"].items()})
        self.best, self.best_step, self.best_theta = state["best"]
        self.best_buffers = state["buffers"]

    @torch.no_grad()
    def at(self, step: int, active: Tensor, training: dict[str, Tensor]) -> Tensor:
        """Evaluate after `step` steps; the mask `[R]` of rows whose predictions are finite.

        Other rows, and those no longer active, get NaN: what they were before is not their result.
        """
        self.steps.append(step)
        self.started = time.perf_counter() if self.started is None else self.started
        self.seconds.append(self.elapsed() / len(self.best))  # one row's share of the stack's time
        for name, values in training.items():
            self.curves["train", name].append(values)
        for split in SPLITS:
            point, target = self.predictions(split)
            active = active & point.abs().amax(tuple(range(1, point.ndim))).isfinite()
            for name, metric in self.metrics.items():
                self._measure(split, name, metric(point, target), active)
            for i, output in enumerate(self.outputs):
                own = self.primary(point[..., i : i + 1], target[..., i : i + 1])
                self._measure(split, f"{self.name}[{output}]", own, active)
        if step > 0:  # the untrained network is nobody's best epoch, though wrong validation labels may prefer it
            self._keep_best(step)
        return active

    def _measure(self, split: str, name: str, values: Tensor, active: Tensor) -> None:
        self.curves[split, name].append(torch.where(active, values, torch.nan))

    def _keep_best(self, step: int) -> None:
        values = self.curves["validation", self.name][-1]
        self.best, self.best_step = self.best.to(values), self.best_step.to(values.device)
        gain = is_better(self.primary, values, self.best)
        self.best = torch.where(gain, values, self.best)
        self.best_step = torch.where(gain, step, self.best_step)
        self.best_theta = torch.where(gain[:, None], self.replicas.theta, self.best_theta.to(self.replicas.theta))
        for name, buffer in self.replicas.stacked_buffers().items():
            mask = gain.view(-1, *[1] * (buffer.ndim - 1))
            self.best_buffers[name] = torch.where(mask, buffer, self.best_buffers[name].to(buffer.device))

    @torch.no_grad()
    def predictions(self, split: str, theta: Tensor | None = None, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Point predictions `[R, N, ...]` and raw targets of a split, or of the first `size` of it."""
        rows, size = self.replicas.theta.shape[0], self.feed.size(split) if size is None else size
        most = CPU_ELEMENTS if self.feed.inputs.is_cpu else ELEMENTS
        # no fewer than a training step holds with its gradients: convolutions want a batch
        chunk = max(self.batch_size, most // (rows * self.feed.inputs[0].numel()))
        was = self.replicas.training
        self.replicas.eval()
        raws, targets = [], []
        for start in range(0, size, chunk):
            inputs, target = self.feed.examples(split, start, min(start + chunk, size))
            raw, extra = self.replicas(inputs, theta)
            raws.append(raw)
            targets.append(target)
        self.replicas.train(was)
        return self.objective.predict(joined(raws, 1), extra, self.feed), joined(targets, 1)

    def finish(self) -> None:
        """What is kept of test examples at the last and the best epoch.

        That is the primary metric's score of each, if it has such scores, at the last epoch those of other metrics,
        and what pictures show of the first examples.
        """
        if not (self._scored() or self.n_shown):
            return
        self._keep_examples("last", None)
        for name, buffer in self.replicas.stacked_buffers().items():
            buffer.copy_(self.best_buffers[name])
        self._keep_examples("best", self.best_theta)

    def _keep_examples(self, epoch: str, theta: Tensor | None) -> None:
        scored = self._scored()
        point, target = self.predictions("test", theta, None if scored else self.n_shown)
        for name, metric in scored.items():
            if name == self.name:
                self.scores[epoch] = to_numpy(metric.score_examples(point, target))
            elif epoch == "last":
                self.others[name] = linearise(metric, point, target).detach().float().cpu().numpy()
        if epoch == "last" and scored and any(SPACES[s].standardised for s in self.task.spaces):
            self.residual_scale = to_numpy(_residual_scale((point - target) / self.feed.scale))
        if self.n_shown:
            self.shown[epoch] = to_numpy(self.task.decode_for_picture(point[:, : self.n_shown]))

    def _scored(self) -> dict[str, ScoredMetric]:
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, ScoredMetric)}

    def table(self) -> dict[tuple[str, str], Array]:
        """All curves, `[E, R]` each."""
        return {key: to_numpy(torch.stack(values)) for key, values in self.curves.items()}
