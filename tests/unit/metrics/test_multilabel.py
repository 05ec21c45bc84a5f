"""Metrics of label scores against scikit-learn and torchmetrics, with and without ties, and by hand at the edges."""

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from sklearn import metrics as sk

from lossbench import metrics

R, N, L = 4, 61, 5


@pytest.fixture(params=[None, 1, 0, -1], ids=["no ties", "some ties", "many ties", "all tied or nearly"])
def scores(request):
    draw = torch.Generator().manual_seed(1)
    prediction = 2 * torch.randn(R, N, L, generator=draw, dtype=torch.float64)
    target = (torch.rand(R, N, L, generator=draw) < torch.linspace(0.1, 0.9, L)).long()
    return (prediction if request.param is None else prediction.round(decimals=request.param)), target


def by_row(function, prediction, target):
    """`function(target, prediction)` of each row, in NumPy: the oracles know no rows."""
    return [float(function(t.numpy(), p.numpy())) for p, t in zip(prediction, target, strict=True)]


def same(values, expected, rtol=1e-12):
    np.testing.assert_allclose(values.numpy(), expected, rtol=rtol, atol=1e-14)


def mean_over_positives(target, prediction):
    present = target.any(0)
    return sk.average_precision_score(target[:, present], prediction[:, present], average="macro")


def test_mean_average_precision_as_scikit_learn(scores):
    prediction, target = scores
    same(metrics.get("mean_average_precision")(prediction, target), by_row(mean_over_positives, prediction, target))


def test_mean_average_precision_as_torchmetrics(scores):
    prediction, target = scores
    value = metrics.get("mean_average_precision")(prediction, target)
    pairs = zip(prediction.sigmoid(), target, strict=True)
    same(value, [float(tm.multilabel_average_precision(p, t, L)) for p, t in pairs], rtol=1e-6)  # in float32


@pytest.mark.parametrize("positives", [0, 1])
def test_labels_without_positives_are_left_out_and_those_without_negatives_count(scores, positives):
    prediction, target = scores
    target[..., 2] = positives
    value = metrics.get("mean_average_precision")(prediction, target)
    same(value, by_row(mean_over_positives, prediction, target))
    rest = [0, 1, 3, 4]
    others = by_row(mean_over_positives, prediction[..., rest], target[..., rest])
    same(value, others if positives == 0 else (4 * np.array(others) + 1) / 5)


def test_mean_average_precision_by_hand():
    # from the top: right, wrong, {right, wrong} tied: (1/1 + 2/4) / 2
    prediction, target = torch.tensor([[[4.0], [3.0], [1.0], [1.0]]]), torch.tensor([[[1], [0], [1], [0]]])
    assert metrics.get("mean_average_precision")(prediction, target).tolist() == [0.75]


def test_constant_scores_give_the_share_of_positives():
    target = torch.tensor([[[1, 0], [0, 0], [0, 1], [0, 1]]])
    assert metrics.get("mean_average_precision")(torch.zeros(1, 4, 2), target).tolist() == [(0.25 + 0.5) / 2]


def test_mean_average_precision_without_any_positive_is_nan():
    assert metrics.get("mean_average_precision")(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2).long()).isnan()


def test_mean_average_precision_sees_the_order_alone(scores):
    prediction, target = scores
    metric = metrics.get("mean_average_precision")
    same(metric(prediction.sinh(), target), metric(prediction, target))


def test_broken_scores_of_one_row_harm_no_other(scores):
    prediction, target = scores
    before = metrics.get("mean_average_precision")(prediction, target)
    prediction[1] = torch.nan
    prediction[2, :30] = torch.inf
    after = metrics.get("mean_average_precision")(prediction, target)
    assert after.isnan().tolist() == [False, True, True, False]
    assert torch.equal(after[[0, 3]], before[[0, 3]])


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("macro_f1", lambda t, p: sk.f1_score(t, p, average="macro", zero_division=np.nan)),
        ("subset_accuracy", sk.accuracy_score),
        ("hamming_accuracy", lambda t, p: 1 - sk.hamming_loss(t, p)),
    ],
)
def test_decisions_as_scikit_learn(name, oracle, scores):
    prediction, target = scores
    prediction[0] = torch.where(target[0] == 1, 1.0, -1.0)  # some right ones for the subset
    prediction[0, ::3] *= -1
    same(metrics.get(name)(prediction, target), by_row(oracle, (prediction > 0).long(), target))


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("macro_f1", tm.multilabel_f1_score),
        ("subset_accuracy", tm.multilabel_exact_match),
        ("hamming_accuracy", tm.multilabel_accuracy),
    ],
)
def test_decisions_as_torchmetrics(name, oracle, scores):
    prediction, target = scores
    # at exactly 0 both say that the label does not hold: torchmetrics takes a probability above 0.5
    pairs = zip(prediction.sigmoid(), target, strict=True)
    same(metrics.get(name)(prediction, target), [float(oracle(p, t, num_labels=L)) for p, t in pairs], rtol=1e-6)


def test_log_loss_is_the_mean_of_the_labels(scores):
    prediction, target = scores
    per_label = [
        by_row(lambda t, p: sk.log_loss(t, p, labels=[0, 1]), prediction[..., label].sigmoid(), target[..., label])
        for label in range(L)
    ]
    same(metrics.get("log_loss")(prediction, target), np.mean(per_label, 0))


def test_log_loss_of_a_confident_mistake_is_its_margin():
    assert metrics.get("log_loss")(torch.tensor([[[800.0, -800.0]]]), torch.tensor([[[0, 0]]])) == 400


def test_macro_f1_leaves_out_labels_that_are_neither_there_nor_predicted():
    prediction = torch.tensor([[[1.0, -1.0, -1.0], [1.0, -1.0, 1.0]]])
    target = torch.tensor([[[1, 0, 0], [0, 0, 0]]])
    # 2·1 / (2·1 + 1) for the first label, 0 for the last
    assert metrics.get("macro_f1")(prediction.double(), target).item() == pytest.approx(1 / 3, abs=1e-15)


def test_one_label_is_a_set_of_one():
    draw = torch.Generator().manual_seed(2)
    prediction, target = torch.randn(2, 30, 1, generator=draw), torch.randint(2, (2, 30, 1), generator=draw)
    assert torch.equal(metrics.get("macro_f1")(prediction, target), metrics.get("f1")(prediction, target[..., 0]))
    assert torch.equal(metrics.get("log_loss")(prediction, target), metrics.get("log_loss")(prediction, target[..., 0]))


def test_names_by_task():
    assert metrics.list_names("multilabel") == [
        "hamming_accuracy",
        "log_loss",
        "macro_f1",
        "mean_average_precision",
        "subset_accuracy",
    ]
