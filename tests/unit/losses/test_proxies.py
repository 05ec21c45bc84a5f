"""CosFace, MagFace and AdaFace against pytorch-metric-learning and their formulas in numpy."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.losses import AdaFace, ArcFace, CosFace, MagFace
from lossbench.types import EMBEDDING_WIDTH, Problem

EMBEDDING = torch.tensor([[1.0, 0.5, -0.2], [-1.0, 0.3, 0.8], [0.2, -2.0, 0.4], [-3.0, 0.1, 0.1]], dtype=torch.float64)
WEIGHT = {"weight": torch.tensor([[1.0, 0.2, 0.1], [-0.4, 1.0, 0.3]], dtype=torch.float64)}
TARGET = torch.tensor([0, 1, 1, 0])
KINDS = [CosFace, MagFace, AdaFace]
UNSET = torch.zeros(1, 2, dtype=torch.float64)


def close(got, wanted, rtol=1e-10):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-12)


def value(loss, embedding, target, parameters, state=UNSET):
    if isinstance(loss, AdaFace):
        return loss(embedding, target, parameters=parameters, state=state)[0]
    return loss(embedding, target, parameters=parameters)


def drawn(n=40, n_classes=5, seed=0):
    """Embeddings, class vectors, targets, cosines, and the angle to the target's, in numpy."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 8)) * draw.uniform(0.2, 15, size=(n, 1))
    w, y = draw.normal(size=(n_classes, 8)), draw.integers(n_classes, size=n)
    z = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    return x, w, y, z, np.arccos(z[range(n), y])


def cross_entropy(z, y, target_logits, scale):
    z = z.copy()
    z[range(len(y)), y] = target_logits
    return np.log(np.exp(scale * z).sum(1)) - scale * target_logits


def in_torch(x, w, y):
    return torch.from_numpy(x), torch.from_numpy(y), {"weight": torch.from_numpy(w)}


@pytest.mark.parametrize(
    ("scale", "margin", "wanted"),
    [
        # computed using pytorch_metric_learning.losses.CosFaceLoss v2.9.0, DoNothingReducer
        (16.0, 0.35, [1.594769781368365e-04, 3.600873941300709e-07, 1.806757847078859e01, 2.737854241183600e01]),
        (4, 0.2, [0.059847489767292, 0.013354333754411, 3.936601947449789, 6.246574559651149]),
    ],
)
def test_cosface_against_pytorch_metric_learning(scale, margin, wanted):
    close(CosFace(scale=scale, margin=margin)(EMBEDDING, TARGET, parameters=WEIGHT), wanted)


@pytest.mark.parametrize("fields", [{}, {"lower": 1, "upper": 20, "lower_margin": 0.1, "upper_margin": 1, "scale": 8}])
def test_magface_in_numpy(fields):
    # Meng et al. 2021, equations 4 to 6; past pi as in the authors' code, cos - m sin m
    loss = MagFace(**fields)
    x, w, y, z, angle = drawn()
    a = np.clip(np.linalg.norm(x, axis=1), loss.lower, loss.upper)
    share = (a - loss.lower) / (loss.upper - loss.lower)
    m = loss.lower_margin + (loss.upper_margin - loss.lower_margin) * share
    lowered = np.where(angle + m <= np.pi, np.cos(angle + m), np.cos(angle) - m * np.sin(m))
    wanted = cross_entropy(z, y, lowered, loss.scale) + loss.strength * (a / loss.upper**2 + 1 / a)
    close(value(loss, *in_torch(x, w, y)), wanted)
    assert (share == 0).any()
    assert (share > 0).any()


def test_a_clear_example_gets_longer_and_a_wrong_one_shorter():
    # the cost of being short against that of the margin, between the bounds
    weight = {"weight": torch.eye(3, dtype=torch.float64)}
    x = torch.tensor([[8.0, 0.5, 0.5], [0.5, 8.0, 0.5]], dtype=torch.float64, requires_grad=True)
    MagFace()(x, torch.tensor([0, 0]), parameters=weight).sum().backward()
    outward = (x.grad * x.detach()).sum(1)
    assert outward[0] < 0  # descending makes it longer
    assert outward[1] > 0


def test_the_default_strength_has_no_shorter_optimum_than_lower():
    # Meng et al. 2021, supplement: strength >= s K u² l² / (u² - l²), K being the slope of the margin
    loss = MagFace()
    slope = (loss.upper_margin - loss.lower_margin) / (loss.upper - loss.lower)
    bound = loss.scale * slope * loss.upper**2 * loss.lower**2 / (loss.upper**2 - loss.lower**2)
    assert loss.strength > bound


@pytest.mark.parametrize("fields", [{}, {"scale": 8, "margin": 0.7, "concentration": 1.0}])
def test_adaface_in_numpy(fields):
    # Kim et al. 2022, equations 8 to 11, with the mean and deviation that the state holds
    loss = AdaFace(**fields)
    x, w, y, z, angle = drawn(seed=1)
    length = np.clip(np.linalg.norm(x, axis=1), 1e-3, 100)
    q = np.clip(loss.concentration * (length - 7.0) / (4.0 + 1e-4), -1, 1)
    lowered = np.cos(np.clip(angle - loss.margin * q, 0, np.pi)) - loss.margin * (1 + q)
    state = torch.tensor([[7.0, 4.0]], dtype=torch.float64)
    got, following = loss(*in_torch(x, w, y)[:2], parameters=in_torch(x, w, y)[2], state=state)
    close(got, cross_entropy(z, y, lowered, loss.scale), rtol=1e-8)
    close(following, [[0.99 * 7 + 0.01 * length.mean(), 0.99 * 4 + 0.01 * length.std()]])


def test_adaface_begins_with_its_first_batch():
    x, w, y, _, _ = drawn(seed=2)
    embedding, target, parameters = in_torch(x, w, y)
    state = AdaFace().state(Problem((4,), 5, 9)).double()
    first, after = AdaFace()(embedding, target, parameters=parameters, state=state)
    length = np.linalg.norm(x, axis=1)
    close(after, [[length.mean(), length.std()]])
    again, _ = AdaFace()(embedding, target, parameters=parameters, state=after)
    close(again, first.detach())


def test_adaface_asks_more_of_long_embeddings_that_are_right():
    weight = {"weight": torch.eye(2, dtype=torch.float64)}
    directions = torch.tensor([[1.0, 0.2]], dtype=torch.float64)
    state = torch.tensor([[5.0, 2.0]], dtype=torch.float64)
    short, long = (
        AdaFace()(size * directions, torch.tensor([0]), parameters=weight, state=state)[0] for size in (1, 9)
    )
    assert long > short


def test_adaface_holds_lengths_still():
    # its gradient is that of the loss at fixed qualities: along an embedding there is none
    x, w, y, _, _ = drawn(seed=3)
    embedding, target, parameters = in_torch(x, w, y)
    state = torch.tensor([[7.0, 4.0]], dtype=torch.float64)
    embedding.requires_grad_()
    AdaFace()(embedding, target, parameters=parameters, state=state)[0].sum().backward()
    close((embedding.grad * embedding.detach()).sum(1), torch.zeros(len(x)), rtol=0)
    assert embedding.grad.abs().amax(1).median() > 1e-3

    # and across it, it is that of the formula with the quality of the undisturbed length
    step, direction = 1e-5, torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0)).double()
    direction -= (direction * embedding).sum(1, keepdim=True) / embedding.square().sum(1, keepdim=True) * embedding
    moved = []
    for sign in (1, -1):
        there = embedding.detach() + sign * step * direction.detach()
        there = there * (embedding.norm(dim=1, keepdim=True) / there.norm(dim=1, keepdim=True)).detach()
        moved.append(AdaFace()(there, target, parameters=parameters, state=state)[0])
    slope = (moved[0] - moved[1]) / (2 * step)
    torch.testing.assert_close((embedding.grad * direction).sum(1), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_finite_along_a_class_vector_and_at_zero(kind, dtype):
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1e-5]], dtype=dtype, requires_grad=True)
    losses = value(kind(), x, torch.zeros(5, dtype=torch.long), {"weight": weight}, UNSET.to(dtype))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert x.grad.isfinite().all()
    assert weight.grad.abs().max() < 1e3
    assert x.grad[:3].abs().max() < 1e3


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_scaled_cosines(kind):
    wanted = functional.cosine_similarity(EMBEDDING[:, None], WEIGHT["weight"][None], dim=-1)
    torch.testing.assert_close(kind(scale=2.0).scores(EMBEDDING, WEIGHT), 2 * wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_class_vectors_are_arcface_s(kind):
    first, again = (k().parameters(Problem((4,), 6, 9), torch.Generator().manual_seed(1)) for k in (kind, ArcFace))
    assert first["weight"].shape == (6, EMBEDDING_WIDTH)
    assert torch.equal(first["weight"], again["weight"])


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (CosFace, {"scale": 0}, "'scale' parameter of CosFace"),
        (CosFace, {"margin": 1}, "'margin' parameter of CosFace"),
        (AdaFace, {"margin": -0.1}, "'margin' parameter of AdaFace"),
        (AdaFace, {"concentration": 0}, "'concentration' parameter of AdaFace"),
        (MagFace, {"lower": 0}, "'lower' parameter of MagFace"),
        (MagFace, {"upper": 1}, r"'upper' parameter of MagFace must be above lower=1.0. Got 1"),
        (MagFace, {"upper_margin": 0.1}, r"'upper_margin' parameter of MagFace must be at least lower_margin=0.45"),
        (MagFace, {"strength": math.nan}, "'strength' parameter of MagFace"),
    ],
)
def test_fields_out_of_range(kind, fields, message):
    with pytest.raises(InvalidValue, match=message):
        kind(**fields)
