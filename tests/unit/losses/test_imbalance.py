"""LDAM in numpy, as in the authors' code."""

import inspect

import numpy as np
import pytest
import torch

from lossbench.errors import InvalidValue
from lossbench.losses import LDAM
from lossbench.models.heads import Cosine

C = 4
COUNTS = torch.tensor([[500.0, 100.0, 20.0, 4.0]], dtype=torch.float64)


def drawn(n=24):
    cosines = 2 * torch.rand(n, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    return cosines, torch.arange(n) % C


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def nll(logits, target):
    z = logits - logits.max(-1, keepdims=True)
    return np.log(np.exp(z).sum(-1)) - z[range(len(target)), target]


@pytest.mark.parametrize(("scale", "max_margin"), [(30, 0.5), (10.0, 1), (30.0, 0.0)])
def test_against_the_authors_code(scale, max_margin):
    # m = 1 / sqrt(sqrt(n)), scaled to the largest being max_m; the target's cosine less m; times s
    cosines, target = drawn()
    margins = 1 / np.sqrt(np.sqrt(COUNTS[0].numpy()))
    margins = margins * max_margin / margins.max()
    lowered = cosines.numpy() - np.eye(C)[target] * margins
    loss = LDAM(scale=scale, max_margin=max_margin)
    close(loss(16 * cosines, target, class_counts=COUNTS), nll(scale * lowered, target))
    bare = LDAM(scale=scale, max_margin=max_margin, head_scale=1)
    close(bare(cosines, target, class_counts=COUNTS / 624), nll(scale * lowered, target))


def test_the_shared_cosine_head_multiplies_by_what_is_divided_out():
    scale = inspect.signature(Cosine).parameters["scale"].default
    assert scale == LDAM().head_scale
    head, features = Cosine(6, C).double(), torch.randn(8, 6, dtype=torch.float64)
    target = torch.arange(8) % C
    cosines = torch.nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=-1)
    got = LDAM(max_margin=0.0)(head(features), target, class_counts=COUNTS)
    close(got, nll(30 * cosines.detach().numpy(), target), rtol=1e-6)


def test_classes_without_examples():
    cosines, target = drawn()
    counts = torch.tensor([[10.0, 0.0, 160.0, 0.0]], dtype=torch.float64)
    losses = LDAM(scale=1.0, head_scale=1.0)(cosines, target, class_counts=counts)
    margins = np.array([0.5, 0.5, 0.25, 0.5])  # (10 / 160)^(1/4) = 1/2
    close(losses, nll(cosines.numpy() - np.eye(C)[target] * margins, target))
    assert LDAM()(cosines, target, class_counts=0 * counts).isfinite().all()


@pytest.mark.parametrize("fields", [{"scale": 0}, {"max_margin": -0.1}, {"head_scale": 0}])
def test_fields_out_of_range(fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of LDAM must be .* Got "):
        LDAM(**fields)
