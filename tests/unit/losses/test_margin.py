"""Margin losses against torch, scikit-learn, keras, optax and closed forms."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from lossbench.errors import InvalidValue
from lossbench.losses import (
    CategoricalHinge,
    Exponential,
    Hinge,
    MulticlassPerceptron,
    MultiMargin,
    Perceptron,
    SoftMargin,
    SquaredHinge,
    SquareOnMargin,
)

SCORES = torch.tensor([[0.3, -2.0], [5.0, 0.0], [-40.0, 1.5]], dtype=torch.float64)
SIGNS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, -1.0]], dtype=torch.float64)
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -4.0], [30.0, -20.0, 5.0], [-3.0, -2.5, -6.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1])


def close(got, wanted):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-14)


def drawn(*shape):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_hinge_against_scikit_learn():
    score = drawn(60, 1)
    target = torch.where(torch.arange(60) % 3 == 0, 1.0, -1.0)[:, None].double()
    close(Hinge()(score, target).mean(), metrics.hinge_loss(target[:, 0], score[:, 0]))


def test_hinge_of_labels_by_hand():
    # (max(0, 1 - 0.3) + max(0, 1 + 2) + max(0, 1 - 5)) / 3
    score, target = torch.tensor([[[0.3, 2.0, 5.0]], [[1.0, -1.0, 1.0]]], dtype=torch.float64)
    close(Hinge()(score, target), [(0.7 + 3) / 3])


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [0.5, 1, 3.0])
def test_multi_margin_against_torch(p, margin):
    scores, target = drawn(40, 6), torch.arange(40) % 6
    scores[:3] *= 1e4
    close(
        MultiMargin(p=p, margin=margin)(scores, target),
        nn.MultiMarginLoss(p=p, margin=float(margin), reduction="none")(scores, target),
    )


def test_squared_hinge_against_keras():
    # computed using keras.losses.squared_hinge v3.15.1 (its 1 is a float32)
    torch.testing.assert_close(
        SquaredHinge()(SCORES, SIGNS), torch.tensor([4.74499988556, 0.5, 843.625]).double(), rtol=1e-7, atol=0
    )


def test_square_on_margin_against_torch():
    close(SquareOnMargin()(SCORES, SIGNS), nn.MSELoss(reduction="none")(SCORES, SIGNS).mean(-1))
    # (1 - 0.3)^2 and (1 + 2)^2
    close(SquareOnMargin()(SCORES, SIGNS)[0], (0.49 + 9) / 2)


def test_categorical_hinge_against_optax():
    # computed using optax.losses.multiclass_hinge_loss v0.2.8
    close(CategoricalHinge()(LOGITS, CLASSES), [0.0, 5.3, 51.0, 0.5])


def test_categorical_hinge_of_keras_has_a_rival_of_score_zero():
    # computed using keras.losses.categorical_hinge v3.15.1: its mask turns the target's own score into a rival's 0
    zero = torch.zeros(4, 1, dtype=torch.float64)
    got = CategoricalHinge()(torch.cat([LOGITS, zero], -1), CLASSES)
    torch.testing.assert_close(got, torch.tensor([0.0, 5.3, 51.0, 3.5]).double(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("n_classes", [3, 20])
def test_categorical_hinge_against_scikit_learn(n_classes):
    scores, target = drawn(60, n_classes), torch.arange(60) % n_classes
    close(CategoricalHinge()(scores, target).mean(), metrics.hinge_loss(target, scores, labels=range(n_classes)))


def test_soft_margin_against_torch():
    score = drawn(60, 3)
    target = torch.where(torch.arange(180).view(60, 3) % 2 == 0, 1.0, -1.0).double()
    close(SoftMargin()(score, target), nn.SoftMarginLoss(reduction="none")(score, target).mean(-1))


def test_soft_margin_does_not_overflow():
    # log(1 + e^1000) = 1000
    score = torch.tensor([[1000.0], [-1000.0], [1e4]], requires_grad=True)
    losses = SoftMargin()(score, torch.tensor([[-1.0], [1.0], [1.0]]))
    assert losses.tolist() == [1000, 1000, 0]
    losses.sum().backward()
    assert score.grad.flatten().tolist() == [1, -1, 0]


def test_exponential_in_closed_form():
    score, target = drawn(40, 2), torch.where(torch.arange(80).view(40, 2) % 3 == 0, 1.0, -1.0).double()
    close(Exponential()(score, target), np.exp(-(target * score).numpy()).mean(-1))


@pytest.mark.parametrize("limit", [1, 10.0, 20.0])
def test_exponential_goes_on_as_a_line(limit):
    score = torch.tensor([[-limit - 3.0], [-1e4], [1e4]], dtype=torch.float64, requires_grad=True)
    losses = Exponential(limit=limit)(score, torch.ones_like(score))
    top = math.exp(limit)
    close(losses, [4 * top, (1 + 1e4 - limit) * top, 0])
    losses.sum().backward()
    close(score.grad.flatten(), [-top, -top, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exponential_is_finite_where_it_would_overflow(dtype):
    score = torch.tensor([[-1e4], [-100.0], [1e4]], dtype=dtype, requires_grad=True)
    losses = Exponential()(score, torch.ones_like(score))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert score.grad.isfinite().all()
    assert (score.grad[:2] < -1e4).all()


def test_perceptrons_against_optax():
    # computed using optax.losses.perceptron_loss and multiclass_perceptron_loss v0.2.8
    close(Perceptron()(SCORES, SIGNS), [1.0, 0.0, 20.75])
    close(MulticlassPerceptron()(LOGITS, CLASSES), [0.0, 4.3, 50.0, 0.0])


def test_perceptrons_at_scores_of_zero():
    score = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert Perceptron()(score, torch.ones_like(score)).tolist() == [0, 0]
    losses = MulticlassPerceptron()(score, torch.tensor([0, 2]))
    assert losses.tolist() == [0, 0]
    losses.sum().backward()
    # the target's score still goes up there, and training can start
    close(score.grad, [[-2 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, -2 / 3]])


@pytest.mark.parametrize("fields", [{"p": 3}, {"p": 0}, {"p": 1.5}, {"margin": 0}])
def test_fields_out_of_range(fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of MultiMargin must be .* Got "):
        MultiMargin(**fields)


@pytest.mark.parametrize(("kind", "fields"), [(CategoricalHinge, {"margin": 0}), (Exponential, {"limit": -1.0})])
def test_fields_of_the_others_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
