"""Losses of embeddings against torch, the papers and brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from unit.losses.embeddings import batch, drawn, gradient_of

from lossbench.errors import InvalidValue
from lossbench.losses import (
    AdaFace,
    ArcFace,
    Circle,
    Contrastive,
    CosFace,
    CosineEmbedding,
    HingeEmbedding,
    MagFace,
    MultiSimilarity,
    NPair,
    NTXent,
    SupCon,
    Triplet,
    get,
)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_arcface_gradient_is_finite_and_not_huge_along_a_class_vector(dtype, sign):
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[sign, 0.0], [sign, 1e-5]], dtype=dtype, requires_grad=True)
    ArcFace()(x, torch.tensor([0, 0]), parameters={"weight": weight}).sum().backward()
    assert x.grad.abs().max() < 1e3
    assert weight.grad.abs().max() < 1e3


def test_enlarging_arcface_s_angle_costs_more_the_farther_away():
    angle = torch.linspace(0.0, math.pi, 200, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], 1)
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    losses = ArcFace()(x, torch.zeros(200, dtype=torch.long), parameters={"weight": weight})
    before_pi = angle[:-1] + 0.5 <= math.pi - 0.02
    assert (losses.diff()[before_pi] > 0).all()


def test_class_vectors_of_arcface_come_from_the_generator():
    first, again = (ArcFace().init_parameters(Problem((4,), 6, 9), torch.Generator().manual_seed(1)) for _ in range(2))
    assert first["weight"].shape == (6, EMBEDDING_WIDTH)
    assert torch.equal(first["weight"], again["weight"])


def close(got, wanted, rtol=1e-10, atol=1e-13):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


PROXIES = [CosFace, MagFace, AdaFace]
UNSET = torch.zeros(1, 2, dtype=torch.float64)


def value(loss, embedding, target, parameters, state=UNSET):
    if isinstance(loss, AdaFace):
        return loss(embedding, target, parameters=parameters, state=state)[0]
    return loss(embedding, target, parameters=parameters)


def drawn_by_class(n=40, n_classes=5, seed=0):
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


@pytest.mark.parametrize("easy", [True, False])
@pytest.mark.parametrize("fields", [{}, {"lower": 1, "upper": 20, "lower_margin": 0.1, "upper_margin": 1, "scale": 8}])
def test_magface_in_numpy(fields, easy):
    # Meng et al. 2021, equations 4 to 6; past pi as in the authors' code, cos - m sin m
    loss = MagFace(easy_margin=easy, **fields)
    x, w, y, z, angle = drawn_by_class()
    a = np.clip(np.linalg.norm(x, axis=1), loss.lower, loss.upper)
    share = (a - loss.lower) / (loss.upper - loss.lower)
    m = loss.lower_margin + (loss.upper_margin - loss.lower_margin) * share
    lowered = np.where(angle + m <= np.pi, np.cos(angle + m), np.cos(angle) - m * np.sin(m))
    if easy:
        lowered = np.where(angle < np.pi / 2, lowered, np.cos(angle))
    wanted = cross_entropy(z, y, lowered, loss.scale) + loss.strength * (a / loss.upper**2 + 1 / a)
    close(value(loss, *in_torch(x, w, y)), wanted)
    assert (share == 0).any()
    assert (share > 0).any()


def test_magface_makes_a_clear_example_longer_and_a_wrong_one_shorter():
    # the cost of being short against that of the margin, between the bounds
    weight = {"weight": torch.eye(3, dtype=torch.float64)}
    x = torch.tensor([[8.0, 0.5, 0.5], [0.5, 8.0, 0.5]], dtype=torch.float64, requires_grad=True)
    MagFace()(x, torch.tensor([0, 0]), parameters=weight).sum().backward()
    outward = (x.grad * x.detach()).sum(1)
    assert outward[0] < 0  # descending makes it longer
    assert outward[1] > 0


def test_the_default_strength_of_magface_has_no_shorter_optimum_than_lower():
    # Meng et al. 2021, supplement: strength >= s K u² l² / (u² - l²), K being the slope of the margin
    loss = MagFace()
    slope = (loss.upper_margin - loss.lower_margin) / (loss.upper - loss.lower)
    bound = loss.scale * slope * loss.upper**2 * loss.lower**2 / (loss.upper**2 - loss.lower**2)
    assert loss.strength > bound


@pytest.mark.parametrize("fields", [{}, {"scale": 8, "margin": 0.7, "concentration": 1.0}])
def test_adaface_in_numpy(fields):
    # Kim et al. 2022, equations 8 to 11, with the mean and deviation that the state holds
    loss = AdaFace(**fields)
    x, w, y, z, angle = drawn_by_class(seed=1)
    length = np.clip(np.linalg.norm(x, axis=1), 1e-3, 100)
    q = np.clip(loss.concentration * (length - 7.0) / (4.0 + 1e-3), -1, 1)
    lowered = np.cos(np.clip(angle - loss.margin * q, 0, np.pi)) - loss.margin * (1 + q)
    state = torch.tensor([[7.0, 4.0]], dtype=torch.float64)
    got, following = loss(*in_torch(x, w, y)[:2], parameters=in_torch(x, w, y)[2], state=state)
    close(got, cross_entropy(z, y, lowered, loss.scale), rtol=1e-8)
    close(following, [[0.99 * 7 + 0.01 * length.mean(), 0.99 * 4 + 0.01 * length.std(ddof=1)]])


def test_adaface_begins_with_its_first_batch():
    x, w, y, _, _ = drawn_by_class(seed=2)
    embedding, target, parameters = in_torch(x, w, y)
    state = AdaFace().init_state(Problem((4,), 5, 9)).double()
    first, after = AdaFace()(embedding, target, parameters=parameters, state=state)
    length = np.linalg.norm(x, axis=1)
    close(after, [[length.mean(), length.std(ddof=1)]])
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
    x, w, y, _, _ = drawn_by_class(seed=3)
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
@pytest.mark.parametrize("kind", PROXIES)
def test_gradient_is_finite_along_a_class_vector_and_at_zero(kind, dtype):
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1e-5]], dtype=dtype, requires_grad=True)
    losses = value(kind(), x, torch.zeros(5, dtype=torch.long), {"weight": weight}, UNSET.to(dtype))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert x.grad.isfinite().all()
    assert weight.grad.abs().max() < 1e3
    assert x.grad[:3].abs().max() < 1e3


@pytest.mark.parametrize("kind", [ArcFace, *PROXIES])
def test_scores_are_scaled_cosines(kind):
    wanted = functional.cosine_similarity(EMBEDDING[:, None], WEIGHT["weight"][None], dim=-1)
    torch.testing.assert_close(kind(scale=2.0).score_classes(EMBEDDING, WEIGHT), 2 * wanted)


@pytest.mark.parametrize("kind", PROXIES)
def test_class_vectors_are_arcface_s(kind):
    first, again = (k().init_parameters(Problem((4,), 6, 9), torch.Generator().manual_seed(1)) for k in (kind, ArcFace))
    assert first["weight"].shape == (6, EMBEDDING_WIDTH)
    assert torch.equal(first["weight"], again["weight"])


OF_PAIRS = ["contrastive", "cosine_embedding", "hinge_embedding", "triplet"]
WITH_DISTANCES = [get(n) for n in OF_PAIRS] + [Triplet(mining="hard")]


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
def test_losses_of_pairs_against_torch_on_every_pair(seed, spread):
    embedding, target = drawn(seed=seed, spread=spread)
    a, b, sign = every_pair(embedding, target)
    close(CosineEmbedding()(embedding, target), functional.cosine_embedding_loss(a, b, sign), rtol=1e-6, atol=1e-14)
    margin = 1.3 * spread
    wanted = functional.hinge_embedding_loss((a - b).norm(dim=1), sign, margin=margin)
    close(HingeEmbedding(margin=margin)(embedding, target), wanted, rtol=1e-12, atol=1e-14)


def test_cosine_embedding_against_torch_with_a_margin():
    embedding, target = batch()
    a, b, sign = every_pair(embedding, target)
    wanted = functional.cosine_embedding_loss(a, b, sign, margin=0.3)
    close(CosineEmbedding(margin=0.3)(embedding, target), wanted, rtol=1e-12, atol=1e-14)
    assert CosineEmbedding(margin=0.3)(embedding, target) != CosineEmbedding()(embedding, target)


def test_contrastive_against_pytorch_metric_learning():
    embedding, target = batch()
    # distances of pairs of one class, and what the others lack of 1.5, both orders: ContrastiveLoss of
    # pytorch_metric_learning v2.9.0 with LpDistance(normalize_embeddings=False), DoNothingReducer
    near = [2.054898444271964, 3.025869358442059, 1.222644471563993, 1.416083858510732]
    lacking = [0.216007386730841]
    wanted = (sum(d * d for d in near) + sum(d * d for d in lacking)) / 2 / math.comb(7, 2)
    close(Contrastive(margin=1.5)(embedding, target), wanted, rtol=1e-12, atol=1e-14)
    wanted = (sum(near) + sum(lacking)) / math.comb(7, 2)
    close(HingeEmbedding(margin=1.5)(embedding, target), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("margin", [0.5, 2])
def test_contrastive_by_a_loop(margin):
    embedding, target = drawn(seed=4)
    a, b, sign = every_pair(embedding, target)
    wanted = [
        d * d / 2 if s > 0 else max(0, margin - d) ** 2 / 2 for d, s in zip((a - b).norm(dim=1), sign, strict=True)
    ]
    close(Contrastive(margin=margin)(embedding, target), sum(wanted) / len(wanted), rtol=1e-12, atol=1e-14)


def test_similar_to_contrastive_is_what_is_of_one_class():
    # y = 1 means similar: of one class, far apart costs; of two, near costs
    near, far = torch.tensor([[0.0], [0.5]]), torch.tensor([[0.0], [2.0]])
    same, different = torch.tensor([4, 4]), torch.tensor([4, 0])
    assert Contrastive()(far, same) > Contrastive()(near, same)
    assert Contrastive()(near, different) > Contrastive()(far, different) == 0
    close(Contrastive()(near.double(), different), 0.5**2 / 2, rtol=1e-12, atol=1e-14)
    close(Contrastive()(far.double(), same), 2.0, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("margin", [0.2, 1, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_triplet_against_torch_on_every_triplet(seed, margin):
    embedding, target = drawn(seed=seed)
    a, p, n = (embedding[list(places)] for places in zip(*triplets_of(target), strict=True))
    # eps=0: torch adds 1e-6 to every difference
    wanted = functional.triplet_margin_loss(a, p, n, margin=margin, eps=0.0)
    close(Triplet(margin=margin)(embedding, target), wanted, rtol=1e-12, atol=1e-14)


def test_triplet_against_pytorch_metric_learning():
    # TripletMarginLoss of pytorch_metric_learning v2.9.0, LpDistance(normalize_embeddings=False), MeanReducer; hard:
    # with BatchHardMiner
    close(Triplet()(*batch()), 0.36083143304552, rtol=1e-12, atol=1e-14)
    close(Triplet(mining="hard")(*batch()), 0.756260849013365, rtol=1e-12, atol=1e-14)


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
    close(got, wanted, rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_hard_triplets_by_a_loop(seed):
    embedding, target = drawn(seed=seed)
    losses = []
    for a in range(len(target)):
        near = [(embedding[a] - embedding[p]).norm() for x, p, _ in triplets_of(target) if x == a]
        far = [(embedding[a] - embedding[n]).norm() for x, _, n in triplets_of(target) if x == a]
        losses += [max(0, max(near) - min(far) + 1)] if near else []
    close(Triplet(mining="hard")(embedding, target), sum(losses) / len(losses), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", WITH_DISTANCES, ids=repr)
@pytest.mark.parametrize("target", [[3], [1, 1, 1], [0, 1, 2], [0, 0, 1]])
def test_batches_without_pairs(loss, target):
    embedding, _ = drawn(len(target))
    value, gradient = gradient_of(loss, embedding, torch.tensor(target))
    assert value >= 0
    assert gradient.isfinite().all()
    pairs = len(target) > 1 and (not isinstance(loss, Triplet) or len(set(target)) == 2)
    if not pairs:
        assert value == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", WITH_DISTANCES, ids=repr)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4])
def test_gradient_of_equal_pairs_is_finite(loss, size, dtype):
    # the gradient of a root at 0 is infinite, that of a direction at 0 too
    embedding = size * torch.ones(6, 3, dtype=dtype)
    value, gradient = gradient_of(loss, embedding, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_small_distances_of_pairs_keep_their_digits():
    # by matrix products 1e4² - 2 * 1e4² + 1e4² would leave nothing of them in float32
    embedding = torch.tensor([[1e4, 0.0], [1e4, 0.5]])
    assert Contrastive(margin=2.0)(embedding, torch.tensor([0, 0])) == pytest.approx(0.125)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_one_label_per_embedding(name):
    with pytest.raises(InvalidValue, match="shape"):
        get(name)(torch.zeros(4, 3), torch.zeros(4, 1))


OF_BATCHES = ["circle", "multi_similarity", "n_pair", "nt_xent", "supcon"]


def neighbours(target):
    """Of each example: the others of its class, and those of other classes."""
    n = range(len(target))
    return [([j for j in n if j != i and target[j] == target[i]], [j for j in n if target[j] != target[i]]) for i in n]


def cosine_of(embedding):
    unit = embedding / embedding.norm(dim=1, keepdim=True)
    return (unit @ unit.T).tolist()


def test_losses_of_batches_against_pytorch_metric_learning():
    # pytorch_metric_learning v2.9.0: NTXentLoss and MultiSimilarityLoss with MeanReducer, SupConLoss per anchor
    close(NTXent(temperature=0.2)(*batch()), 1.568054676798933)
    close(MultiSimilarity()(*batch()), 0.627379122833416)
    anchors = [5.717632133184502, 0.038803876598424, 3.16434180375213, 0.007983877107984, 2.395334394900436]
    close(SupCon(temperature=0.2)(*batch()), sum(anchors) / 5)


def test_nt_xent_against_optax():
    # optax.losses.ntxent of optax 0.2.8 with jax 0.10.2, in float64; the second of two views of three examples
    close(NTXent(temperature=0.2)(*batch()), 1.568054676798933)
    close(NTXent(temperature=0.2)(batch()[0][:6], torch.tensor([0, 1, 2, 0, 1, 2])), 0.007592725707186)


@pytest.mark.parametrize(
    ("fields", "anchors", "gradient"),
    [
        # keras.losses.Circle of Keras 3.15.1 (jax 0.10.2, float64) on normalised embeddings, per anchor; CircleLoss of
        # pytorch_metric_learning v2.9.0 gives the same, and the gradient of the sum at row 1 (Keras does not hold the
        # weights still)
        (
            {},
            [180.0961005691993, 1.353648308819257e-05, 126.3031448895915, 1.359270308581170e-05, 69.04846109311414],
            [0.00010279406194821307, 0.00018030611154828553, -0.00014925696146987486, -0.00014184423610694112],
        ),
        (
            {"margin": 0.25, "gamma": 8},
            [19.648532843982885, 1.374310624172867, 14.686326435176214, 1.391160030689393, 8.939750482643097],
            [0.5673943565790718, 0.9952391043828435, -0.823856514793745, -0.7829403523414984],
        ),
    ],
)
def test_circle_against_keras_and_pytorch_metric_learning(fields, anchors, gradient):
    value, got = gradient_of(Circle(**fields), *batch())
    close(value, sum(anchors) / 5)
    close(5 * got[1, :4], gradient, rtol=1e-8)


@pytest.mark.parametrize("temperature", [0.05, 1])
@pytest.mark.parametrize("seed", range(3))
def test_nt_xent_and_supcon_by_a_loop(seed, temperature):
    embedding, target = drawn(seed=seed)
    e = [[math.exp(c / temperature) for c in row] for row in cosine_of(embedding)]
    pairs, anchors = [], []
    for i, (alike, different) in enumerate(neighbours(target)):
        against = sum(e[i][k] for k in different)
        pairs += [-math.log(e[i][p] / (e[i][p] + against)) for p in alike]
        everyone = against + sum(e[i][k] for k in alike)
        anchors += [sum(-math.log(e[i][p] / everyone) for p in alike) / len(alike)] if alike else []
    close(NTXent(temperature=temperature)(embedding, target), sum(pairs) / len(pairs))
    close(SupCon(temperature=temperature)(embedding, target), sum(anchors) / len(anchors))


@pytest.mark.parametrize("l2", [0, 0.002, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_n_pair_by_a_loop(seed, l2):
    embedding, target = drawn(seed=seed)
    s = (embedding @ embedding.T).tolist()
    losses = [
        math.log(1 + sum(math.exp(s[i][k] - s[i][p]) for k in different))
        for i, (alike, different) in enumerate(neighbours(target))
        for p in alike
    ]
    length = sum(s[i][i] for i in range(len(s))) / len(s)
    close(NPair(l2=l2)(embedding, target), sum(losses) / len(losses) + l2 / 2 * length)


def test_n_pair_is_cross_entropy_over_classes():
    # two examples per class of which the second lie far from all others' first: Sohn's one pair per class
    anchors, _ = drawn(4, 6)
    target = torch.arange(4)
    wanted = functional.cross_entropy(anchors @ anchors.T, target)
    # of equal twins every negative comes twice, so the sum of negatives doubles
    close(NPair(l2=0)(anchors.repeat(2, 1), target.repeat(2)), _doubled(anchors))
    assert NPair(l2=0)(anchors.repeat(2, 1), target.repeat(2)) > wanted


def _doubled(anchors):
    s = anchors @ anchors.T
    lead = (s - s.diagonal()[:, None]).exp().fill_diagonal_(0).sum(1)
    return (1 + 2 * lead).log().mean()


@pytest.mark.parametrize("fields", [{}, {"alpha": 1, "beta": 10, "base": 0.2}])
def test_multi_similarity_by_a_loop(fields):
    loss = MultiSimilarity(**fields)
    embedding, target = drawn(seed=2)
    cosine = cosine_of(embedding)
    total = 0.0
    for i, (alike, different) in enumerate(neighbours(target)):
        total += math.log(1 + sum(math.exp(-loss.alpha * (cosine[i][p] - loss.base)) for p in alike)) / loss.alpha
        total += math.log(1 + sum(math.exp(loss.beta * (cosine[i][n] - loss.base)) for n in different)) / loss.beta
    close(loss(embedding, target), total / len(target))


@pytest.mark.parametrize("name", OF_BATCHES)
@pytest.mark.parametrize("target", [[3], [1, 1, 1], [0, 1, 2]])
def test_batches_without_rivals(name, target):
    embedding, _ = drawn(len(target))
    value, gradient = gradient_of(get(name), embedding, torch.tensor(target))
    assert value.isfinite()
    assert gradient.isfinite().all()
    by_itself = {"multi_similarity": len(target) > 1, "supcon": target == [1, 1, 1], "n_pair": target == [1, 1, 1]}
    if not by_itself.get(name, False):
        assert value == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OF_BATCHES)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4])
def test_gradient_of_equal_embeddings_is_finite(name, size, dtype):
    embedding = size * torch.ones(6, 3, dtype=dtype)
    value, gradient = gradient_of(get(name), embedding, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["circle", "multi_similarity", "nt_xent", "supcon"])
def test_lengths_do_not_matter_to_losses_of_batches(name):
    embedding, target = drawn()
    stretched = embedding * torch.linspace(0.1, 50, len(target)).unsqueeze(-1)
    close(get(name)(stretched, target), get(name)(embedding, target))


def test_low_temperatures_of_losses_of_batches_stay_finite():
    for loss in (NTXent(temperature=1e-6), SupCon(temperature=1e-6), Circle(gamma=1e6)):
        embedding, target = drawn()
        value, gradient = gradient_of(loss, embedding.float(), target)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (ArcFace, {"scale": 0}, "Got "),
        (ArcFace, {"margin": -0.1}, "Got "),
        (ArcFace, {"margin": 2.0}, "Got "),
        (CosFace, {"scale": 0}, "Got "),
        (CosFace, {"margin": 1}, "Got "),
        (AdaFace, {"margin": -0.1}, "Got "),
        (AdaFace, {"concentration": 0}, "Got "),
        (MagFace, {"lower": 0}, "Got "),
        (MagFace, {"upper": 1}, "above lower=1.0. Got 1"),
        (MagFace, {"upper_margin": 0.1}, "at least lower_margin=0.45"),
        (MagFace, {"strength": math.nan}, "Got "),
        (Contrastive, {"margin": 0}, "Got "),
        (HingeEmbedding, {"margin": -1}, "Got "),
        (Triplet, {"margin": math.nan}, "Got "),
        (Triplet, {"mining": "semi"}, "one of all, hard"),
        (CosineEmbedding, {"margin": 1}, "Got "),
        (NTXent, {"temperature": 0}, "Got "),
        (SupCon, {"temperature": -0.1}, "Got "),
        (MultiSimilarity, {"alpha": 0}, "Got "),
        (MultiSimilarity, {"beta": math.inf}, "Got "),
        (MultiSimilarity, {"base": 1.5}, "Got "),
        (Circle, {"gamma": 0}, "Got "),
        (Circle, {"margin": -1}, "Got "),
        (NPair, {"l2": -1e-3}, "Got "),
    ],
)
def test_fields_out_of_range(kind, fields, message):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .*{message}"):
        kind(**fields)
