"""Softmax over few classes, fast on a CPU.

Torch's CPU kernels reduce the last axis with vectors of 16: with fewer classes they fall back to a scalar loop.
Measured with 10 classes, forward and backward: 6.9 ms against 1.7 ms here for 400,000 logits; from 16 classes on torch
is faster.
"""

import torch
from torch import Tensor

NARROW = 16
"""Fewer classes than this are done by hand."""


def log_softmax(logits: Tensor) -> Tensor:
    """Log probabilities over the last axis, `[..., C]`, as accurate as torch's: the maximum is subtracted first."""
    if logits.shape[-1] >= NARROW or not logits.is_cpu:
        return logits.log_softmax(-1)
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def argmax(scores: Tensor) -> Tensor:
    """The place of the highest score over the last axis, the first of equals; any place where one is NaN."""
    n_classes = scores.shape[-1]
    if n_classes >= NARROW or not scores.is_cpu:
        return scores.argmax(-1)
    order = torch.arange(n_classes, 0, -1, dtype=torch.uint8)  # the first counts most
    highest = (scores == scores.amax(-1, keepdim=True)) * order
    return (n_classes - highest.amax(-1).clamp_min(1)).long()


def softmax(logits: Tensor) -> Tensor:
    """Probabilities over the last axis, `[..., C]`."""
    if logits.shape[-1] >= NARROW or not logits.is_cpu:
        return logits.softmax(-1)
    return log_softmax(logits).exp()
