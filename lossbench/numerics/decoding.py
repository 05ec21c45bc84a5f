"""Greedy decoding of a sequence of logits: the best path, and the tokens that it puts out."""

import torch
from torch import Tensor

from lossbench.numerics.softmax import argmax
from lossbench.types import BLANK, PADDING


def find_best_path(logits: Tensor) -> Tensor:
    """Return the tokens of greedy decoding where they begin, else `BLANK`: `[..., T, C]` to `[..., T]`, int32.

    It takes the best token of each step and keeps the first of a run of equals. So a token that is written twice needs
    a blank in between.
    """
    path = argmax(logits).int()  # [..., T]; int32 is half the memory to go through
    path[..., 1:] = torch.where(path[..., 1:] == path[..., :-1], BLANK, path[..., 1:])
    return path


def drop_blanks(path: Tensor) -> Tensor:
    """Move the tokens of a path to the front and fill up with `PADDING`: `[..., T]` to `[..., T]`."""
    # a stable sort of "is a blank" puts the tokens first and keeps their order
    order = (path == BLANK).to(torch.uint8).argsort(dim=-1, stable=True)
    tokens = path.gather(-1, order)
    return torch.where(tokens == BLANK, PADDING, tokens).long()
