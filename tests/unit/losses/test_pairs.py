"""Losses on distances within a batch: torch's on every pair, pytorch-metric-learning, optax, and loops over pairs."""

import itertools
import math

import pytest
import torch
from torch.nn import functional
from unit.losses.embeddings import batch, drawn, gradient_of

from lossbench.errors import InvalidValue
from lossbench.losses import Contrastive, CosineEmbedding, HingeEmbedding, Triplet, get

NAMES = ["contrastive", "cosine_embedding", "hinge_embedding", "triplet"]
ALL = [get(n) for n in NAMES] + [Triplet(mining="hard")]


def close(got, wanted, rtol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-14)


def every_pair(embedding, target):
    """The embeddings of both, and 1 or -1."""
    first, second = zip(*itertools.combinations(range(len(target)), 2), strict=True)
    signs = torch.where(target[list(first)] == target[list(second)], 1.0, -1.0).double()
    return embedding[list(first)], embedding[list(second)], signs


def triplets_of(target):
    n = range(len(target))
    return [
        (a, p, k)
        for a, p, k in itertools.product(n, n, n)
        if a != p and target[a] == target[p] and target[a] != target[k]
    ]


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_against_torch_on_every_pair(seed, spread):
    embedding, target = drawn(seed=seed, spread=spread)
    a, b, sign = every_pair(embedding, target)
    close(CosineEmbedding()(embedding, target), functional.cosine_embedding_loss(a, b, sign), rtol=1e-6)
    margin = 1.3 * spread
    wanted = functional.hinge_embedding_loss((a - b).norm(dim=1), sign, margin=margin)
    close(HingeEmbedding(margin=margin)(embedding, target), wanted)


def test_cosine_embedding_against_torch_with_a_margin():
    embedding, target = batch()
    a, b, sign = every_pair(embedding, target)
    wanted = functional.cosine_embedding_loss(a, b, sign, margin=0.3)
    close(CosineEmbedding(margin=0.3)(embedding, target), wanted)
    assert CosineEmbedding(margin=0.3)(embedding, target) != CosineEmbedding()(embedding, target)


def test_contrastive_against_pytorch_metric_learning():
    embedding, target = batch()
    # distances of pairs of one class, and what the others lack of 1.5, both orders: ContrastiveLoss of
    # pytorch_metric_learning v2.9.0 with LpDistance(normalize_embeddings=False), DoNothingReducer
    near = [2.054898444271964, 3.025869358442059, 1.222644471563993, 1.416083858510732]
    lacking = [0.216007386730841]
    wanted = (sum(d * d for d in near) + sum(d * d for d in lacking)) / 2 / math.comb(7, 2)
    close(Contrastive(margin=1.5)(embedding, target), wanted)
    close(HingeEmbedding(margin=1.5)(embedding, target), (sum(near) + sum(lacking)) / math.comb(7, 2))


@pytest.mark.parametrize("margin", [0.5, 2])
def test_contrastive_by_a_loop(margin):
    embedding, target = drawn(seed=4)
    a, b, sign = every_pair(embedding, target)
    wanted = [
        d * d / 2 if s > 0 else max(0, margin - d) ** 2 / 2 for d, s in zip((a - b).norm(dim=1), sign, strict=True)
    ]
    close(Contrastive(margin=margin)(embedding, target), sum(wanted) / len(wanted))


def test_similar_is_what_is_of_one_class():
    # y = 1 means similar: of one class, far apart costs; of two, near costs
    near, far = torch.tensor([[0.0], [0.5]]), torch.tensor([[0.0], [2.0]])
    same, different = torch.tensor([4, 4]), torch.tensor([4, 0])
    assert Contrastive()(far, same) > Contrastive()(near, same)
    assert Contrastive()(near, different) > Contrastive()(far, different) == 0
    close(Contrastive()(near.double(), different), 0.5**2 / 2)
    close(Contrastive()(far.double(), same), 2.0)


@pytest.mark.parametrize("margin", [0.2, 1, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_triplet_against_torch_on_every_triplet(seed, margin):
    embedding, target = drawn(seed=seed)
    a, p, n = (embedding[list(places)] for places in zip(*triplets_of(target), strict=True))
    # eps=0: torch adds 1e-6 to every difference
    wanted = functional.triplet_margin_loss(a, p, n, margin=margin, eps=0.0)
    close(Triplet(margin=margin)(embedding, target), wanted)


def test_triplet_against_pytorch_metric_learning():
    # TripletMarginLoss of pytorch_metric_learning v2.9.0, LpDistance(normalize_embeddings=False), MeanReducer; hard:
    # with BatchHardMiner
    close(Triplet()(*batch()), 0.36083143304552)
    close(Triplet(mining="hard")(*batch()), 0.756260849013365)


def test_triplet_against_optax():
    x, _ = batch()
    # optax.losses.triplet_margin_loss of optax 0.2.8 (jax 0.10.2, float64) of rows 0, 2, 4 and 1, 3, 5; it adds an
    # epsilon of 1e-6 under the root
    embedding = torch.stack([x[[0, 2, 4]], x[[1, 3, 5]]])
    # the batch has two anchors; seen from the other one the distance to the negative is another
    other = torch.stack([e[1] - e[2] for e in embedding]).norm(dim=1)
    near = (embedding[:, 0] - embedding[:, 1]).norm(dim=1)
    wanted = (torch.tensor([0.227762368962225, 0.0]) + (near - other + 1).relu()) / 2
    got = Triplet()(embedding, torch.tensor([[5, 5, 1]] * 2))
    close(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_hard_triplets_by_a_loop(seed):
    embedding, target = drawn(seed=seed)
    losses = []
    for a in range(len(target)):
        near = [(embedding[a] - embedding[p]).norm() for x, p, _ in triplets_of(target) if x == a]
        far = [(embedding[a] - embedding[n]).norm() for x, _, n in triplets_of(target) if x == a]
        losses += [max(0, max(near) - min(far) + 1)] if near else []
    close(Triplet(mining="hard")(embedding, target), sum(losses) / len(losses))


@pytest.mark.parametrize("loss", ALL, ids=repr)
@pytest.mark.parametrize("target", [[3], [1, 1, 1], [0, 1, 2], [0, 0, 1]])
def test_batches_that_lack_something(loss, target):
    embedding, _ = drawn(len(target))
    value, gradient = gradient_of(loss, embedding, torch.tensor(target))
    assert value >= 0
    assert gradient.isfinite().all()
    pairs = len(target) > 1 and (not isinstance(loss, Triplet) or len(set(target)) == 2)
    if not pairs:
        assert value == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", ALL, ids=repr)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4])
def test_gradient_of_equal_embeddings_is_finite(loss, size, dtype):
    # the gradient of a root at 0 is infinite, that of a direction at 0 too
    embedding = size * torch.ones(6, 3, dtype=dtype)
    value, gradient = gradient_of(loss, embedding, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_small_distances_keep_their_digits():
    # by matrix products 1e4² - 2 * 1e4² + 1e4² would leave nothing of them in float32
    embedding = torch.tensor([[1e4, 0.0], [1e4, 0.5]])
    assert Contrastive(margin=2.0)(embedding, torch.tensor([0, 0])) == pytest.approx(0.125)


@pytest.mark.parametrize("name", NAMES)
def test_one_label_per_embedding(name):
    with pytest.raises(InvalidValue, match="shape"):
        get(name)(torch.zeros(4, 3), torch.zeros(4, 1))


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Contrastive, {"margin": 0}, "'margin' parameter of Contrastive"),
        (HingeEmbedding, {"margin": -1}, "'margin' parameter of HingeEmbedding"),
        (Triplet, {"margin": math.nan}, "'margin' parameter of Triplet"),
        (Triplet, {"mining": "semi"}, "'mining' parameter of Triplet must be one of all, hard"),
        (CosineEmbedding, {"margin": 1}, "'margin' parameter of CosineEmbedding"),
    ],
)
def test_fields_out_of_range(kind, fields, message):
    with pytest.raises(InvalidValue, match=message):
        kind(**fields)
