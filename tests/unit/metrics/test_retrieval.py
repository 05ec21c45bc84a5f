"""Retrieval metrics against pytorch-metric-learning, scikit-learn and brute force, with ties at random and by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from lossbench import metrics
from lossbench.metrics import retrieval

R, N, E = 3, 80, 4
NAMES = {"recall_at_1": "precision_at_1", "map_at_r": "mean_average_precision_at_r"}


@pytest.fixture
def drawn():
    draw = torch.Generator().manual_seed(3)
    target = torch.randint(7, (R, N), generator=draw)
    centres = torch.randn(7, E, generator=draw, dtype=torch.float64)
    return centres[target] + torch.randn(R, N, E, generator=draw, dtype=torch.float64), target


def metric_learning(embedding, target):
    """Its calculator, with distances of vectors of length 1."""
    names = tuple(NAMES.values())
    calculator = AccuracyCalculator(include=names, k="max_bin_count", knn_func=CustomKNN(LpDistance()))
    return calculator.get_accuracy(embedding, target)


@pytest.mark.parametrize("name", NAMES)
def test_as_pytorch_metric_learning(name, drawn):
    values = metrics.get(name)(*drawn)
    expected = [metric_learning(e, t)[NAMES[name]] for e, t in zip(*drawn, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_that_is_alone_in_its_class_is_left_out(name, drawn):
    embedding, target = drawn
    target[:, :5] = torch.arange(100, 105)
    values, scores = metrics.get(name)(embedding, target), metrics.get(name).score_examples(embedding, target)
    expected = [metric_learning(e, t)[NAMES[name]] for e, t in zip(embedding, target, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert (scores[:, :5] == 0).all()


def test_recall_as_the_nearest_neighbours_of_scikit_learn(drawn):
    embedding, target = drawn
    scores = metrics.get("recall_at_1").score_examples(embedding, target)
    for e, t, found in zip(embedding.numpy(), target.numpy(), scores, strict=True):
        nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(e).kneighbors(return_distance=False)[:, 0]
        np.testing.assert_array_equal(found, t[nearest] == t)


def test_average_precision_of_a_class_that_lies_nearest_is_scikit_learns(drawn):
    """With all of a class among the R nearest, precision at R is all that there is to average."""
    embedding, target = drawn[0][:1], (torch.arange(N) % 2)[None]
    embedding = torch.nn.functional.one_hot(target, E).double() + 1e-3 * embedding
    same = target[0] == target[0, 0]
    distance = torch.cdist(embedding[0, :1], embedding[0])[0]
    wanted = average_precision_score(same[1:], -distance[1:])
    assert metrics.get("map_at_r").score_examples(embedding, target)[0, 0] == wanted == 1


@pytest.mark.parametrize("name", NAMES)
def test_ties_give_what_their_orders_give_on_average(name):
    """All 720 orders of six others, four of them equally near: MAP@R as its definition has it."""
    near, far, alike = [0, 1, 2, 3], [4, 5], np.array([1, 0, 1, 0, 1, 0])
    angles = torch.tensor([0.0, *[0.3] * 4, *[1.0] * 2], dtype=torch.float64)
    embedding = torch.stack([angles.cos(), angles.sin()], -1)[None]
    target = torch.tensor([[1, *alike]])
    values = []
    for order in permutations(range(6)):
        if set(order[:4]) == set(near) and set(order[4:]) == set(far):
            right = alike[list(order)]
            precision = right.cumsum() / np.arange(1, 7)
            values.append(right[0] if name == "recall_at_1" else (right * precision)[:3].sum() / 3)
    assert len(values) == 48
    found = metrics.get(name).score_examples(embedding, target)[0, 0].item()
    assert found == pytest.approx(np.mean(values), rel=1e-12)


def test_a_single_point_is_at_chance_in_any_order():
    target = torch.arange(5).repeat_interleave(4)[None]
    for classes in (target, target[:, torch.randperm(20)]):
        found = metrics.get("recall_at_1")(torch.ones(1, 20, E), classes).item()
        assert found == pytest.approx(3 / 19, rel=1e-6)


def test_map_at_r_of_a_single_point():
    """Three others of which one is alike: right at the only place that counts in a third of the orders."""
    found = metrics.get("map_at_r")(torch.zeros(1, 4, E), torch.tensor([[0, 0, 1, 1]])).item()
    assert found == pytest.approx(1 / 3, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_length_does_not_matter(name, drawn):
    embedding, target = drawn
    longer = embedding * torch.linspace(0.5, 2, N, dtype=torch.float64).unsqueeze(-1)
    torch.testing.assert_close(metrics.get(name)(longer, target), metrics.get(name)(embedding, target))


@pytest.mark.parametrize("name", NAMES)
def test_queries_in_parts_give_the_same(name, drawn, monkeypatch):
    whole = metrics.get(name).score_examples(*drawn)
    monkeypatch.setattr(retrieval, "MAX_DISTANCES", 7 * R * N)
    torch.testing.assert_close(metrics.get(name).score_examples(*drawn), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_without_any_pair_there_is_nothing_to_say(name):
    assert metrics.get(name)(torch.randn(1, 5, E), torch.arange(5)[None]).isnan().all()
