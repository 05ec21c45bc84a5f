"""ArcFace against pytorch-metric-learning and its formula in numpy."""

import math

import numpy as np
import pytest
import torch

from lossbench.errors import InvalidValue
from lossbench.losses import ArcFace
from lossbench.types import EMBEDDING_WIDTH, Problem

# four embeddings, two class vectors; the angles of the last two pass pi with the margin
EMBEDDING = torch.tensor([[1.0, 0.5, -0.2], [-1.0, 0.3, 0.8], [0.2, -2.0, 0.4], [-3.0, 0.1, 0.1]], dtype=torch.float64)
WEIGHT = {"weight": torch.tensor([[1.0, 0.2, 0.1], [-0.4, 1.0, 0.3]], dtype=torch.float64)}
TARGET = torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("scale", "margin", "wanted"),
    [
        # computed using pytorch_metric_learning.losses.ArcFaceLoss v2.9.0 (margin in degrees there), DoNothingReducer
        (16.0, 0.5, [6.331333453215e-05, 1.698348946129e-06, 14.76515147352, 25.61394672068]),
        (4, 0.3, [0.049564739973, 0.016666968539, 3.603917985875, 5.802285066786]),
    ],
)
def test_arcface_against_pytorch_metric_learning(scale, margin, wanted):
    losses = ArcFace(scale=scale, margin=margin)(EMBEDDING, TARGET, parameters=WEIGHT)
    torch.testing.assert_close(losses, torch.tensor(wanted, dtype=torch.float64), rtol=1e-10, atol=1e-12)


def test_arcface_in_numpy():
    draw = np.random.default_rng(0)
    x, w, y = draw.normal(size=(30, 8)), draw.normal(size=(5, 8)), draw.integers(5, size=30)
    z = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    angle = np.arccos(z[range(30), y])
    z[range(30), y] = np.where(angle + 0.4 <= np.pi, np.cos(angle + 0.4), np.cos(angle) - 0.4 * np.sin(0.4))
    wanted = np.log(np.exp(10 * z).sum(1)) - 10 * z[range(30), y]
    losses = ArcFace(scale=10, margin=0.4)(
        torch.from_numpy(x), torch.from_numpy(y), parameters={"weight": torch.from_numpy(w)}
    )
    torch.testing.assert_close(losses, torch.from_numpy(wanted), rtol=1e-10, atol=1e-12)


def test_scores_are_scaled_cosines():
    scores = ArcFace(scale=2.0).scores(EMBEDDING, WEIGHT)
    wanted = torch.nn.functional.cosine_similarity(EMBEDDING[:, None], WEIGHT["weight"][None], dim=-1)
    torch.testing.assert_close(scores, 2 * wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradient_is_finite_and_not_huge_along_a_class_vector(dtype, sign):
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[sign, 0.0], [sign, 1e-5]], dtype=dtype, requires_grad=True)
    ArcFace()(x, torch.tensor([0, 0]), parameters={"weight": weight}).sum().backward()
    assert x.grad.abs().max() < 1e3
    assert weight.grad.abs().max() < 1e3


def test_enlarging_the_angle_costs_more_the_farther_away():
    angle = torch.linspace(0.0, math.pi, 200, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], 1)
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    losses = ArcFace()(x, torch.zeros(200, dtype=torch.long), parameters={"weight": weight})
    before_pi = angle[:-1] + 0.5 <= math.pi - 0.02
    assert (losses.diff()[before_pi] > 0).all()


def test_class_vectors_come_from_the_generator():
    first, again = (ArcFace().parameters(Problem((4,), 6, 9), torch.Generator().manual_seed(1)) for _ in range(2))
    assert first["weight"].shape == (6, EMBEDDING_WIDTH)
    assert torch.equal(first["weight"], again["weight"])


@pytest.mark.parametrize("fields", [{"scale": 0}, {"margin": -0.1}, {"margin": 2.0}])
def test_fields_out_of_range(fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of ArcFace must be .* Got "):
        ArcFace(**fields)
