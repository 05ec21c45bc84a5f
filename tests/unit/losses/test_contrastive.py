"""Losses on similarities within a batch: pytorch-metric-learning, optax, Keras, and loops in Python."""

import math

import pytest
import torch
from torch.nn import functional
from unit.losses.embeddings import batch, drawn, gradient_of

from lossbench.errors import InvalidValue
from lossbench.losses import Circle, MultiSimilarity, NPair, NTXent, SupCon, get

NAMES = ["circle", "multi_similarity", "n_pair", "nt_xent", "supcon"]


def close(got, wanted, rtol=1e-10):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-13)


def neighbours(target):
    """Of each example: the others of its class, and those of other classes."""
    n = range(len(target))
    return [([j for j in n if j != i and target[j] == target[i]], [j for j in n if target[j] != target[i]]) for i in n]


def cosine_of(embedding):
    unit = embedding / embedding.norm(dim=1, keepdim=True)
    return (unit @ unit.T).tolist()


def test_against_pytorch_metric_learning():
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", [[3], [1, 1, 1], [0, 1, 2]])
def test_batches_that_lack_something(name, target):
    embedding, _ = drawn(len(target))
    value, gradient = gradient_of(get(name), embedding, torch.tensor(target))
    assert value.isfinite()
    assert gradient.isfinite().all()
    by_itself = {"multi_similarity": len(target) > 1, "supcon": target == [1, 1, 1], "n_pair": target == [1, 1, 1]}
    if not by_itself.get(name, False):
        assert value == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4])
def test_gradient_of_equal_embeddings_is_finite(name, size, dtype):
    embedding = size * torch.ones(6, 3, dtype=dtype)
    value, gradient = gradient_of(get(name), embedding, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["circle", "multi_similarity", "nt_xent", "supcon"])
def test_lengths_do_not_matter(name):
    embedding, target = drawn()
    stretched = embedding * torch.linspace(0.1, 50, len(target)).unsqueeze(-1)
    close(get(name)(stretched, target), get(name)(embedding, target))


def test_low_temperatures_stay_finite():
    for loss in (NTXent(temperature=1e-6), SupCon(temperature=1e-6), Circle(gamma=1e6)):
        embedding, target = drawn()
        value, gradient = gradient_of(loss, embedding.float(), target)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (NTXent, {"temperature": 0}),
        (SupCon, {"temperature": -0.1}),
        (MultiSimilarity, {"alpha": 0}),
        (MultiSimilarity, {"beta": math.inf}),
        (MultiSimilarity, {"base": 1.5}),
        (Circle, {"gamma": 0}),
        (Circle, {"margin": -1}),
        (NPair, {"l2": -1e-3}),
    ],
)
def test_fields_out_of_range(kind, fields):
    with pytest.raises(InvalidValue, match=f"The '{next(iter(fields))}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
