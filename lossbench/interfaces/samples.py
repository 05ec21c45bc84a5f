"""Small batches of random and extreme numbers, from which checks make predictions and targets."""

import torch
from torch import Tensor

from lossbench.types import BLANK, PADDING

B, C, N = 6, 4, 20
"""Examples of a batch, classes (or targets, or labels), and training examples."""
T, S = 9, 3
"""Time steps, and tokens of the longest transcript."""


def make_boxes(raw: Tensor) -> Tensor:
    """Return corners of boxes about the origin, most of which overlap: `[..., 4]` to `[..., 4]`."""
    centre, size = raw[..., :2] / 2, 0.3 + raw[..., 2:].abs()
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def draw_tokens(draw: torch.Generator) -> Tensor:
    """Draw transcripts of length 0 to S: `[B, S]`."""
    lengths = torch.arange(B).view(-1, 1) % (S + 1)
    return torch.where(torch.arange(S) < lengths, torch.randint(BLANK + 1, C, (B, S), generator=draw), PADDING)


def draw_texts(draw: torch.Generator) -> Tensor:
    """Draw texts of T tokens and fewer, the shortest a single one: `[B, T]`."""
    lengths = (T - 2 * torch.arange(B).view(-1, 1)).clamp_min(1)
    return torch.where(torch.arange(T) < lengths, torch.randint(C, (B, T), generator=draw), PADDING)


def draw_grades(draw: torch.Generator) -> Tensor:
    """Draw grades from 0 to 2 of C items, of which every third list lacks the second: `[B, C]`."""
    grades = torch.randint(3, (B, C), generator=draw).double()
    absent = (torch.arange(B).view(-1, 1) % 3 == 0) & (torch.arange(C) == 1)
    return torch.where(absent, PADDING, grades)


def pair_up(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return each of the predictions `[P, ...]` against each of the targets `[Q, ...]`, `[P Q, ...]` both."""
    n, m = len(predictions), len(targets)
    return predictions.repeat_interleave(m, 0), targets.repeat(n, *[1] * (targets.ndim - 1))


def make_extreme_boxes() -> tuple[Tensor, Tensor]:
    """Return boxes that coincide, touch, contain each other, lie far apart, or have no width, height or neither."""
    corners = [[0, 0, 1, 1], [1, 0, 2, 1], [0.25, 0.25, 0.5, 0.75], [1e4, 1e4, 1e4 + 1, 1e4 + 2], [0, 0, 1e4, 1e-3]]
    empty = [[0.5, 0.5, 0.5, 0.5], [0, 0.5, 1, 0.5], [0.5, 0, 0.5, 1], [5, 5, 5, 5]]
    return pair_up(torch.tensor([*corners, *empty]), torch.tensor(corners))


def make_extreme_pairs(far: float) -> tuple[Tensor, Tensor]:
    """Return scores of two items, alike, next to each other and `far` apart, against both orders."""
    scores = torch.tensor([0.0, 1e-6, far, -far])
    both = torch.cartesian_prod(scores, scores, torch.tensor([-1.0, 1.0]))
    return both[:, :2], both[:, 2]


def make_extreme_steps(draw: torch.Generator) -> Tensor:
    """Return logits `[P, T, C]` that are sure of one token at every step, sure against it, mixed, or undecided."""
    sure = torch.where(torch.arange(C) == torch.arange(C).view(-1, 1, 1), 100.0, -100.0).expand(C, T, C)
    mixed = 200 * torch.rand(2, T, C, generator=draw) - 100
    return torch.cat([sure, -sure, mixed, torch.zeros(1, T, C)])


def make_peaks(low: float, high: float, width: int) -> Tensor:
    """Return predictions `[3 C, width]` that are sure of one class, sure against it, or undecided."""
    sure = torch.full((C, width), low).fill_diagonal_(high)
    return torch.cat([sure, low + high - sure, torch.zeros(C, width)])
