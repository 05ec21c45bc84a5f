"""Losses on lists: rax, torch, scikit-learn's NDCG, and loops over pairs."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.metrics import ndcg_score
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.losses import ApproxNDCG, LambdaRank, ListMLE, ListNet, MarginRanking, PairwiseHinge, RankNet, get

NAMES = ["approx_ndcg", "lambdarank", "listmle", "listnet", "pairwise_hinge", "ranknet"]
SCORES = torch.from_numpy(2 * np.sin(1.3 * np.arange(15)).reshape(3, 5))
GRADES = torch.tensor([[0, 2, 1, 3, 4], [1, 0, 2, 0, -1], [0, 1, 0, -1, -1]], dtype=torch.float64)


def close(got, wanted, rtol=1e-10):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-13)


def lists(seed, n=4, length=6, grades=4, spread=1.0):
    draw = np.random.default_rng(seed)
    scores = spread * draw.normal(size=(n, length))
    relevance = draw.integers(grades, size=(n, length)).astype(float)
    relevance[1:, -1] = -1
    relevance[2, :2] = -1
    return torch.from_numpy(scores), torch.from_numpy(relevance)


def each(scores, grades):
    """Every list without its padding, in numpy."""
    for s, y in zip(scores.numpy(), grades.numpy(), strict=True):
        yield s[y >= 0], y[y >= 0]


def ordered(y):
    n = range(len(y))
    return [(i, j) for i in n for j in n if y[i] > y[j]]


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        # rax 0.4.0 (jax 0.10.2, float64), where=grades >= 0, one list at a time: pairwise_logistic_loss and
        # pairwise_hinge_loss with reduce_fn=mean, softmax_loss with labels=softmax(grades), approx_t12n(ndcg_metric)
        (RankNet(), [1.762380485374424, 0.830341872436845, 0.219091333353552]),
        (PairwiseHinge(), [2.28388264842603, 1.143555986420202, 0.0]),
        (ListNet(), [3.654556317141886, 1.882629973417637, 1.014487365363766]),
        (ApproxNDCG(temperature=0.5), [1 - 0.57411184957133, 1 - 0.624042144204278, 1 - 0.92083656819562]),
    ],
)
def test_against_rax(loss, wanted):
    close(loss(SCORES, GRADES), wanted)


def test_listmle_against_rax():
    # rax.listmle_loss of rax 0.4.0 on the list without equal grades
    close(ListMLE()(SCORES[:1], GRADES[:1]), [8.68596504808262])


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_by_a_loop(seed, spread):
    scores, grades = lists(seed, spread=spread)
    logistic, hinge = [], []
    for s, y in each(scores, grades):
        leads = [s[i] - s[j] for i, j in ordered(y)]
        logistic.append(np.mean([np.logaddexp(0, -d) for d in leads]) if leads else 0)
        hinge.append(np.mean([max(0, 0.7 - d) for d in leads]) if leads else 0)
    close(RankNet()(scores, grades), logistic)
    close(PairwiseHinge(margin=0.7)(scores, grades), hinge)


@pytest.mark.parametrize("seed", range(3))
def test_listwise_by_scipy(seed):
    scores, grades = lists(seed, spread=3.0)
    close(ListNet()(scores, grades), [-(softmax(y) * log_softmax(s)).sum() for s, y in each(scores, grades)])
    # equal grades stand in each other's sum
    wanted = [sum(np.log(np.exp(s[y <= y[i]]).sum()) - s[i] for i in range(len(s))) for s, y in each(scores, grades)]
    close(ListMLE()(scores, grades), wanted)


@pytest.mark.parametrize("seed", range(3))
def test_listmle_is_the_likelihood_of_the_right_order(seed):
    # Plackett-Luce: probabilities of all orders of a list sum to 1
    scores, _ = lists(seed, n=3, length=4)
    total = sum(
        (-ListMLE()(scores, torch.tensor(order, dtype=torch.float64).expand(3, 4))).exp()
        for order in itertools.permutations(range(4))
    )
    close(total, torch.ones(3))


@pytest.mark.parametrize("seed", range(4))
def test_lambdarank_by_swapping(seed):
    scores, grades = lists(seed)
    wanted = []
    for s, y in each(scores, grades):
        gain, order = 2**y - 1, np.argsort(-s)
        placed = np.empty(len(s))
        placed[order] = np.arange(len(s), 0, -1)  # scores that only order
        before = ndcg_score([gain], [placed])
        total = 0.0
        for i, j in ordered(y):
            swapped = placed.copy()
            swapped[[i, j]] = swapped[[j, i]]
            total += abs(ndcg_score([gain], [swapped]) - before) * np.logaddexp(0, s[j] - s[i])
        wanted.append(total)
    close(LambdaRank()(scores, grades), wanted, rtol=1e-9)


def test_lambdarank_pulls_hardest_where_ndcg_gains_most():
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.9]], requires_grad=True)
    LambdaRank()(scores, torch.tensor([[0.0, 0.0, 0.0, 2.0]])).backward()
    assert scores.grad[0, 3] < 0
    assert scores.grad[0, 0] > scores.grad[0, 1] > 0


@pytest.mark.parametrize("seed", range(4))
def test_approx_ndcg_tends_to_ndcg(seed):
    scores, grades = lists(seed)
    wanted = [1 - ndcg_score([2**y - 1], [s]) for s, y in each(scores, grades)]
    exact = torch.tensor(wanted, dtype=torch.float64)
    gaps = [(ApproxNDCG(temperature=t)(scores, grades) - exact).abs().max() for t in (1.0, 0.1, 1e-5)]
    assert gaps[-1] < 1e-9
    assert gaps[0] > gaps[-1]


@pytest.mark.parametrize("margin", [0, 0.5, 2.0])
def test_margin_ranking_against_torch(margin):
    draw = torch.Generator().manual_seed(0)
    prediction = 3 * torch.randn(20, 2, generator=draw, dtype=torch.float64)
    target = torch.where(torch.rand(20, generator=draw) > 0.5, 1.0, -1.0).double()
    wanted = functional.margin_ranking_loss(*prediction.T, target, margin=margin, reduction="none")
    close(MarginRanking(margin=margin)(prediction, target), wanted)


@pytest.mark.parametrize("wrong", [0.0, 0.5, 2.0, math.nan])
def test_an_order_that_is_none(wrong):
    target = torch.tensor([1.0, wrong, -1.0])
    with pytest.raises(InvalidValue, match=rf"target must be 1 .* and -1 .* Got {wrong:g}"):
        MarginRanking()(torch.zeros(3, 2), target)
    # torch takes it: the constant margin, without a gradient
    assert functional.margin_ranking_loss(torch.ones(1), torch.zeros(1), torch.zeros(1), margin=1.0) == 1


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (2, 2)])
def test_two_scores_per_order(shape):
    with pytest.raises(InvalidValue, match=r"two scores per target, shape \[3, 2\].* Got"):
        MarginRanking()(torch.zeros(shape), torch.ones(3))


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_not_there(name):
    scores, grades = lists(5)
    value = get(name)(scores, grades)
    for n, (s, y) in enumerate(each(scores, grades)):
        close(get(name)(torch.from_numpy(s.copy()), torch.from_numpy(y.copy())), value[n])
    wild = torch.where(grades < 0, 1e6, scores).requires_grad_()
    close(get(name)(wild, grades), value)
    get(name)(wild, grades).sum().backward()
    assert (wild.grad[grades < 0] == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("row", [[-1, -1, -1], [2, -1, -1], [0, 0, 0], [3, 3, 3]])
def test_lists_without_an_order(name, row):
    scores = torch.tensor([[0.3, -0.2, 0.9]], requires_grad=True)
    value = get(name)(scores, torch.tensor([row], dtype=torch.float32))
    value.sum().backward()
    assert value.isfinite().all()
    assert scores.grad.isfinite().all()
    # the listwise ones compare with equal chances, and approx_ndcg with the best order of equals
    if name in {"pairwise_hinge", "ranknet", "lambdarank"} or sum(g >= 0 for g in row) < 2:
        assert value.abs() < 1e-6
        assert scores.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_a_list_does_not_matter(name):
    scores, grades = lists(6)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    close(get(name)(scores[:, order], grades[:, order]), get(name)(scores, grades))


@pytest.mark.parametrize("name", NAMES)
def test_a_shift_of_scores_is_not_seen(name):
    scores, grades = lists(7)
    close(get(name)(scores + 50, grades), get(name)(scores, grades))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [-2.0, -0.5, math.nan])
def test_grades_that_are_none(name, wrong):
    with pytest.raises(InvalidValue, match=rf"Relevance must be 0 or more, and -1 .* Got {wrong:g}"):
        get(name)(torch.zeros(1, 3), torch.tensor([[1.0, wrong, 2.0]]))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(MarginRanking, {"margin": -1}), (PairwiseHinge, {"margin": 0}), (ApproxNDCG, {"temperature": 0})],
)
def test_fields_out_of_range(kind, fields):
    with pytest.raises(InvalidValue, match=f"The '{next(iter(fields))}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
