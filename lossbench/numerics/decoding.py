"""What a sequence of logits says: the best path, and the tokens that it puts out."""

import torch
from torch import Tensor

from lossbench.numerics.softmax import argmax
from lossbench.types import BLANK, PADDING


def find_best_path(logits: Tensor) -> Tensor:
    """The tokens of greedy decoding where they begin, `BLANK` at all other steps: `[..., T, C]` to `[..., T]`, int32.

    The best token of each step; of a run of equals only the first is kept, so a blank must part what is written twice.
    """
    path = argmax(logits).int()  # half the memory to go through
    path[..., 1:] = torch.where(path[..., 1:] == path[..., :-1], BLANK, path[..., 1:])
    return path


def compact(path: Tensor) -> Tensor:
    """The tokens of a path without its blanks, at the front, `PADDING` behind: `[..., T]` to `[..., T]`."""
    order = (path == BLANK).to(torch.uint8).argsort(dim=-1, stable=True)
    tokens = path.gather(-1, order)
    return torch.where(tokens == BLANK, PADDING, tokens).long()
