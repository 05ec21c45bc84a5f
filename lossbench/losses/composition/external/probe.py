"""A small random batch in the shapes of a task, on which a third-party loss is tried."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor

from lossbench.interfaces import Scaling, Task
from lossbench.interfaces.encodings import draw_raw
from lossbench.losses.composition.external.adapter import External
from lossbench.types import Encoding, Problem, Space

N, C, T = 12, 5, 9
"""Examples (divisible by 2, 3 and 4), outputs, and time steps."""
SIZES = ("num_classes", "n_classes", "classes", "num_labels")
"""Parameters that say how many outputs there are."""


def draw_probe(loss: External, task: Task) -> tuple[Tensor, Tensor]:
    """Draw a prediction, which requires a gradient, and a target as the task gives them to the loss."""
    draw = torch.Generator().manual_seed(0)
    problem = Problem((1,), count_outputs(loss.params), N, n_steps=T)
    width = task.get_head_width(loss.head, problem)
    steps = (T,) if task.sequence else ()
    raw = torch.randn(N, *steps, width, generator=draw).requires_grad_()
    scaling = Scaling(torch.zeros(1, width), torch.ones(1, width))
    target = task.encode(
        draw_raw(task.encodings, N, problem.n_outputs, width, draw), cast(Encoding, loss.encoding), problem, scaling
    )
    return task.convert(raw, cast(Space, loss.space), scaling), target


def count_outputs(params: Mapping[str, Any]) -> int:
    """Return the number of outputs that the parameters imply: a number of classes, or the length of a list."""
    counts = [int(v) for n, v in params.items() if n in SIZES and isinstance(v, Integral)]
    lists = [len(v) for v in params.values() if isinstance(v, list)]
    return next((n for n in [*counts, *lists] if n > 1), C)
