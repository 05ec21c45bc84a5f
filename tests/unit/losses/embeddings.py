"""One batch of embeddings for the tests of losses on them."""

import numpy as np
import torch


def batch():
    """Seven embeddings of different lengths; a class of three, one of two and two of one."""
    angles = 1.7 * np.arange(35).reshape(7, 5)
    embedding = torch.from_numpy(np.sin(angles) * np.linspace(0.5, 2, 7)[:, None])
    return embedding, torch.tensor([0, 1, 0, 2, 1, 0, 3])


def drawn(n=9, width=4, n_classes=3, seed=0, spread=1.0):
    draw = torch.Generator().manual_seed(seed)
    embedding = spread * torch.randn(n, width, generator=draw, dtype=torch.float64)
    return embedding, torch.randint(n_classes, (n,), generator=draw)


def gradient_of(loss, embedding, target, **requires):
    x = embedding.clone().requires_grad_()
    value = loss(x, target, **requires)
    value.sum().backward()
    return value.detach(), x.grad
