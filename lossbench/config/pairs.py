"""Whether a weighting has a meaning with a loss, a task and data."""

import torch

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Level, Loss, Misfit, Scaling, Scheme, Task
from lossbench.losses.composition.combined import Combined
from lossbench.types import Choice, Need, Problem

N_LABELS = 3
"""Outputs of the random labels on which a loss is tried."""


def check_outputs(loss_name: str, loss: Loss, task_name: str, task: Task) -> None:
    """Raise `Incompatible` for terms on some outputs in a task that has no outputs side by side."""
    if isinstance(loss, Combined) and any(term.outputs for term in loss.made) and not task.side_by_side:
        told = f"task={task_name} predicts one thing per example: a term of loss={loss_name} cannot have outputs."
        raise Incompatible(told, loss_name, "the task has no outputs side by side")


def check_pair(loss_name: str, loss: Loss, weighting_name: str, weighting: Scheme, task: Task) -> None:
    """Raise `Incompatible`, with the reason, for a loss that cannot be weighed like this."""
    misfit = weighting.misfit(loss, loss_name)
    if misfit is None and weighting.level(task, N_LABELS) is Level.LABEL and not is_mean_over_labels(loss, task):
        misfit = Misfit(
            f"weighs each label, and loss={loss_name} is no mean of one value per label. Use a loss that is, as bce.",
            "labels cannot be weighed in a loss that is no mean over them",
        )
    if misfit is not None:
        told = f"weighting={weighting_name} {misfit.message}"
        raise Incompatible(told, f"{loss_name} + {weighting_name}", misfit.reason)


def check_scheme(weighting: Choice, built: Scheme, task: str, data: Choice) -> None:
    """Raise `Incompatible` for one that wraps a weighting of other tasks, or wants weights that data do not have."""
    if not {task, "*", *registry.tasks.find(task).like} & set(built.tasks):
        told = f"weighting={weighting.label} is for {' and '.join(built.tasks)}, not for task={task}."
        raise Incompatible(told, weighting.label, "for another task")
    if Need.SAMPLE_WEIGHT in built.needs and not registry.datasets.build(data).weighted:
        told = f"weighting={weighting.label} needs data that come with weights, and data={data.label} does not."
        raise Incompatible(told, weighting.label, "the data come without weights")


def is_mean_over_labels(loss: Loss, task: Task) -> bool:
    """Whether each label by itself, and then the mean, gives the same: tried on random scores and labels."""
    if loss.needs or loss.coupled or isinstance(loss, Combined):
        return False
    draw = torch.Generator().manual_seed(0)
    raw = 3 * torch.randn(16, N_LABELS, generator=draw, dtype=torch.float64)
    labels = torch.randint(2, raw.shape, generator=draw)
    scaling = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    prediction = task.convert(raw, loss.space, scaling)
    target = task.encode(labels, loss.encoding, Problem((1,), N_LABELS, len(raw)), scaling)
    try:
        apart = loss(prediction.unsqueeze(-1), target.unsqueeze(-1))
        return torch.allclose(apart.mean(-1), loss(prediction, target), rtol=1e-9, atol=1e-12)
    except Exception:  # a stranger's loss may raise anything on one label
        return False
