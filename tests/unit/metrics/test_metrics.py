"""Metrics against scikit-learn and torchmetrics, on random inputs with ties, and by hand at the edges."""

import numpy as np
import pytest
import torch
import torchmetrics.functional as tm
from sklearn import metrics as sk

from lossbench import metrics

R, N, C = 4, 61, 5


def rows(function, prediction, target):
    """`function(target, prediction)` of each row, in NumPy: the oracles know no rows."""
    return [float(function(t.numpy(), p.numpy())) for p, t in zip(prediction, target, strict=True)]


def torch_rows(function, prediction, target, **settings):
    return [float(function(p, t, **settings)) for p, t in zip(prediction, target, strict=True)]


def same(values, expected):
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.fixture(params=[1, 3])
def values(request):
    draw = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, R, N, request.param, generator=draw, dtype=torch.float64)
    return prediction, target.round(decimals=1) + 3


@pytest.fixture(params=[None, 1, 0], ids=["no ties", "some ties", "many ties"])
def scores(request):
    draw = torch.Generator().manual_seed(1)
    prediction = 2 * torch.randn(R, N, 1, generator=draw, dtype=torch.float64)
    target = torch.randint(2, (R, N), generator=draw)
    return (prediction if request.param is None else prediction.round(decimals=request.param)), target


@pytest.fixture
def classes():
    draw = torch.Generator().manual_seed(2)
    return torch.randn(R, N, C, generator=draw, dtype=torch.float64), torch.randint(C, (R, N), generator=draw)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("mae", sk.mean_absolute_error),
        ("mape", sk.mean_absolute_percentage_error),
        ("r2", sk.r2_score),
        ("median_absolute_error", sk.median_absolute_error),
    ],
)
def test_regression_as_scikit_learn(name, oracle, values):
    same(metrics.get(name)(*values), rows(oracle, *values))


def test_rmse_is_the_root_of_the_mean_over_all_outputs(values):
    prediction, target = values
    same(metrics.get("rmse")(prediction, target), rows(sk.mean_squared_error, prediction, target) ** np.float64(0.5))
    flat = prediction.flatten(1), target.flatten(1)
    same(metrics.get("rmse")(prediction, target), torch_rows(tm.mean_squared_error, *flat, squared=False))


def test_r2_of_a_constant_target_is_scikit_learns():
    target = torch.full((2, 6, 1), 3.0, dtype=torch.float64)
    prediction = torch.stack([target[0], target[0] + 1])
    same(metrics.get("r2")(prediction, target), rows(sk.r2_score, prediction, target))


@pytest.mark.parametrize("n", [1, 2, 6, 7])
def test_median_of_few(n):
    error = torch.arange(n, dtype=torch.float64).reshape(1, n, 1) ** 2
    same(metrics.get("median_absolute_error")(error, torch.zeros_like(error)), [np.median(error.numpy())])


def test_auroc(scores):
    prediction, target = scores
    auroc = metrics.get("auroc")(prediction, target)
    same(auroc, rows(sk.roc_auc_score, prediction.squeeze(-1), target))
    # torchmetrics takes probabilities and computes the area in float32
    expected = torch_rows(tm.classification.binary_auroc, prediction.squeeze(-1).sigmoid(), target)
    np.testing.assert_allclose(auroc, expected, rtol=1e-6)


def test_auroc_of_float32_scores_counts_pairs_exactly():
    n = 20_001  # rank sums beyond 2**24, where float32 skips whole numbers
    draw = torch.Generator().manual_seed(3)
    prediction, target = torch.randn(1, n, 1, generator=draw), torch.randint(2, (1, n), generator=draw)
    expected = rows(sk.roc_auc_score, prediction.squeeze(-1), target)
    np.testing.assert_allclose(metrics.get("auroc")(prediction, target), expected, rtol=1e-7)


@pytest.mark.parametrize("only", [0, 1])
def test_auroc_of_a_single_class_is_nan(only):
    prediction = torch.tensor([[[0.3], [0.1], [-2.0]]])
    assert metrics.get("auroc")(prediction, torch.full((1, 3), only)).isnan()


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("accuracy", sk.accuracy_score),
        ("balanced_accuracy", sk.balanced_accuracy_score),
        ("f1", sk.f1_score),
        ("macro_f1", lambda t, p: sk.f1_score(t, p, average="macro")),
    ],
)
def test_binary_decisions_as_scikit_learn(name, oracle, scores):
    prediction, target = scores
    decided = (prediction.squeeze(-1) > 0).long()
    same(metrics.get(name)(prediction, target), rows(oracle, decided, target))


def test_binary_probabilities_as_scikit_learn(scores):
    prediction, target = scores
    probability = prediction.squeeze(-1).sigmoid()
    same(metrics.get("log_loss")(prediction, target), rows(sk.log_loss, probability, target))
    same(metrics.get("brier_score")(prediction, target), rows(sk.brier_score_loss, probability, target))


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("accuracy", sk.accuracy_score),
        ("balanced_accuracy", sk.balanced_accuracy_score),
        ("macro_f1", lambda t, p: sk.f1_score(t, p, average="macro")),
    ],
)
def test_multiclass_decisions_as_scikit_learn(name, oracle, classes):
    prediction, target = classes
    same(metrics.get(name)(prediction, target), rows(oracle, prediction.argmax(-1), target))


def test_multiclass_probabilities_as_scikit_learn(classes):
    prediction, target = classes
    labels = list(range(C))
    probability = prediction.softmax(-1)
    log_loss = rows(lambda t, p: sk.log_loss(t, p, labels=labels), probability, target)
    brier = rows(lambda t, p: sk.brier_score_loss(t, p, labels=labels), probability, target)
    same(metrics.get("log_loss")(prediction, target), log_loss)
    same(metrics.get("brier_score")(prediction, target), brier)


@pytest.mark.parametrize(
    ("name", "oracle", "settings"),
    [
        ("accuracy", tm.classification.multiclass_accuracy, {"average": "micro"}),
        ("balanced_accuracy", tm.classification.multiclass_accuracy, {"average": "macro"}),
        ("macro_f1", tm.classification.multiclass_f1_score, {"average": "macro"}),
    ],
)
def test_multiclass_as_torchmetrics(name, oracle, settings, classes):
    expected = torch_rows(oracle, *classes, num_classes=C, **settings)
    np.testing.assert_allclose(metrics.get(name)(*classes), expected, rtol=1e-6)  # it computes in float32


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("accuracy", tm.classification.binary_accuracy), ("f1", tm.classification.binary_f1_score)],
)
def test_binary_as_torchmetrics(name, oracle, scores):
    prediction, target = scores
    # at exactly 0 both say class 0: torchmetrics takes a probability above 0.5 for class 1
    expected = torch_rows(oracle, prediction.squeeze(-1).sigmoid(), target)
    np.testing.assert_allclose(metrics.get(name)(prediction, target), expected, rtol=1e-6)


def test_classes_without_examples_are_left_out_of_the_balance():
    prediction = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]].unsqueeze(0)
    target = torch.tensor([[0, 0, 1, 0]])  # class 2 is predicted and never there
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = rows(sk.balanced_accuracy_score, prediction.argmax(-1), target)
    same(metrics.get("balanced_accuracy")(prediction, target), expected)
    same(metrics.get("macro_f1")(prediction, target), [(0.8 + 0 + 0) / 3])  # by hand: 2·2 / (2·2 + 0 + 1)


def test_macro_f1_leaves_out_what_is_neither_there_nor_predicted():
    prediction = torch.eye(4, dtype=torch.float64)[[0, 1, 1, 0]].unsqueeze(0)
    target = torch.tensor([[0, 1, 0, 0]])
    expected = rows(lambda t, p: sk.f1_score(t, p, average="macro"), prediction.argmax(-1), target)
    same(metrics.get("macro_f1")(prediction, target), expected)


def test_f1_without_any_positive_is_zero():
    assert metrics.get("f1")(torch.full((1, 3, 1), -1.0), torch.zeros(1, 3, dtype=torch.long)) == 0


def test_log_loss_of_a_confident_mistake_is_its_margin():
    assert metrics.get("log_loss")(torch.tensor([[[800.0]]]), torch.tensor([[0]])) == 800
    assert metrics.get("log_loss")(torch.tensor([[[0.0, 800.0]]]), torch.tensor([[0]])) == 800


def test_names_by_task():
    assert "auroc" in metrics.list_names("binary")
    assert "auroc" not in metrics.list_names("regression")
    assert set(metrics.list_names("multiclass")) < set(metrics.list_names())
