"""A small batch of random data in the shapes of a task, to see what a loss does with it."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor

from lossbench.interfaces import Scaling, Task
from lossbench.losses.composition.external.adapter import External
from lossbench.types import PADDING, Encoding, Problem, Space

N, C, T, S = 12, 5, 9, 3
"""Examples (which halves, thirds and quarters have), outputs, time steps, and tokens of the longest transcript."""
SIZES = ("num_classes", "n_classes", "classes", "num_labels")
"""Parameters that say how many outputs there are."""


def trial_batch(loss: External, task: Task) -> tuple[Tensor, Tensor]:
    """Prediction and target as the task gives them to the loss; the prediction wants a gradient."""
    draw = torch.Generator().manual_seed(0)
    problem = Problem((1,), n_outputs(loss.params), N, n_steps=T)
    width = task.head_width(loss.head, problem)
    steps = (T,) if task.sequence else ()
    raw = torch.randn(N, *steps, width, generator=draw).requires_grad_()
    scaling = Scaling(torch.zeros(1, width), torch.ones(1, width))
    target = task.encode(
        raw_targets(task, problem.n_outputs, width, draw), cast(Encoding, loss.encoding), problem, scaling
    )
    return task.convert(raw, cast(Space, loss.space), scaling), target


def n_outputs(params: Mapping[str, Any]) -> int:
    """As many as the parameters say, by a number of classes or a list with a number for each."""
    counts = [int(v) for n, v in params.items() if n in SIZES and isinstance(v, Integral)]
    lists = [len(v) for v in params.values() if isinstance(v, list)]
    return next((n for n in [*counts, *lists] if n > 1), C)


def raw_targets(task: Task, n: int, width: int, draw: torch.Generator) -> Tensor:
    """Targets as data sets have them."""
    if Encoding.TOKENS in task.encodings:
        lengths = 1 + torch.arange(N).view(-1, 1) % S
        return torch.where(torch.arange(S) < lengths, torch.randint(1, n, (N, S), generator=draw), PADDING)
    if Encoding.INDEX in task.encodings:
        return torch.arange(N) % (2 if width == 1 else n)
    if Encoding.MULTI_HOT in task.encodings:
        return torch.randint(2, (N, n), generator=draw)
    values = torch.randn(N, width, generator=draw).exp()
    return (
        torch.cat([values[:, :2], values[:, :2] + values[:, 2:]], 1) if Encoding.BOX_XYXY in task.encodings else values
    )
