"""Losses on overlap against scikit-learn, segmentation-models-pytorch, monai, keras and closed forms."""

import itertools

import pytest
import torch
from sklearn import metrics

from lossbench.errors import InvalidValue
from lossbench.losses import (
    Dice,
    Jaccard,
    LovaszHinge,
    SoftF1,
    Tversky,
)


def test_dice_of_decisions_is_one_minus_f1():
    hot = (torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0)) > 0.6).double()
    wanted = 1 - metrics.f1_score(hot[1].numpy(), hot[0].numpy(), average="macro")
    assert Dice(smooth=1e-12)(hot[0], hot[1]).item() == pytest.approx(wanted, abs=1e-12)


def test_dice_of_probabilities_by_hand():
    # 1 - (2 (0.9 + 0.4) + 1) / (0.9 + 0.4 + 0.2 + 2 + 1) = 1 - 3.6 / 4.5
    p, y = torch.tensor([[0.9], [0.4], [0.2]]).double(), torch.tensor([[1.0], [1.0], [0.0]]).double()
    assert Dice()(p, y).item() == pytest.approx(0.2)


def test_dice_without_positives_is_defined():
    nothing = torch.zeros(4, 2, dtype=torch.float64)
    assert Dice()(nothing, nothing).item() == 0
    # 1 - (0 + 1) / (4 + 0 + 1)
    assert Dice()(nothing + 1, nothing).item() == pytest.approx(0.8)


def test_dices_smooth_must_be_positive():
    with pytest.raises(InvalidValue, match="The 'smooth' parameter of Dice"):
        Dice(smooth=0)


def close(got, wanted, rtol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-13)


def test_soft_f1_of_decisions_is_one_minus_f1():
    hot = (torch.rand(2, 50, 4, generator=torch.Generator().manual_seed(0)) > 0.6).double()
    hot[:, :, 3] = 0
    hot[0, 0, 3] = 1  # a label that is predicted once and never there
    wanted = 1 - metrics.f1_score(hot[1].numpy(), hot[0].numpy(), average="macro")
    close(SoftF1()(hot[0], hot[1]), wanted)


def test_soft_f1_of_probabilities_by_hand():
    # TP = 0.8 + 0.4, FP = 0.3 + 0.7, FN = 0.2 + 0.6: 1 - 2.4 / (2.4 + 1 + 0.8)
    p, y = torch.tensor([[0.8], [0.3], [0.4], [0.7]]).double(), torch.tensor([[1.0], [0.0], [1.0], [0.0]]).double()
    close(SoftF1()(p, y), 1 - 2.4 / 4.2, rtol=1e-7)  # 0.8 is rounded to float32


@pytest.mark.parametrize("probability", [0.0, 1e-30, 0.3])
def test_soft_f1_of_an_absent_label_costs_one_and_teaches_nothing(probability):
    p = torch.full((4, 1), probability, requires_grad=True)
    loss = SoftF1()(p, torch.zeros(4, 1))
    loss.backward()
    assert loss.item() == 1
    assert (p.grad == 0).all()


P = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.7], [0.05, 0.3]], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
SCORES = torch.tensor([[0.5, -2.0], [-0.3, 0.8], [1.2, 3.0], [-2.0, 0.1]], dtype=torch.float64)


def labels_alone(loss, prediction, target):
    """The loss of each label, and that of both is their mean."""
    values = [loss(prediction[:, [k]], target[:, [k]]).item() for k in range(2)]
    assert loss(prediction, target).item() == pytest.approx(sum(values) / 2)
    return values


def decisions(seed):
    return (torch.rand(50, 1, generator=torch.Generator().manual_seed(seed)) > 0.6).double()


def test_tversky_against_segmentation_models_and_monai():
    # computed using segmentation_models_pytorch.losses.TverskyLoss v0.6.0 (alpha=0.3, beta=0.7, smooth=1), and
    # monai.losses.TverskyLoss v1.6.1, which agree
    assert labels_alone(Tversky(), P, Y) == pytest.approx([0.197207678883, 0.230769230769], rel=1e-10)


def test_tversky_of_keras_has_alpha_and_beta_swapped():
    # computed using keras.losses.tversky v3.15.1 (alpha=0.3, beta=0.7; its smooth is 1e-7)
    swapped = Tversky(alpha=0.7, beta=0.3, smooth=1e-7)
    assert labels_alone(swapped, P, Y) == pytest.approx([0.228486692671, 0.530201373812], rel=1e-6)


def test_jaccard_against_segmentation_models_and_monai():
    # computed using segmentation_models_pytorch.losses.JaccardLoss v0.6.0 (smooth=1)
    assert labels_alone(Jaccard(), P, Y) == pytest.approx([0.292307692308, 0.433333333333], rel=1e-10)
    # computed using monai.losses.DiceLoss(jaccard=True) v1.6.1 with both its smooths 1, which is half of ours
    assert labels_alone(Jaccard(smooth=0.5), P, Y) == pytest.approx([0.345454545455, 0.52], rel=1e-10)


def test_jaccard_of_decisions_against_scikit_learn():
    hot, decided = decisions(0), decisions(1)
    wanted = 1 - metrics.jaccard_score(hot[:, 0], decided[:, 0])
    assert Jaccard(smooth=1e-12)(decided, hot).item() == pytest.approx(wanted, abs=1e-12)


def test_tversky_of_decisions_against_scikit_learn():
    # at alpha = 0, beta = 1 it is the recall, the other way round the precision
    hot, decided = decisions(0), decisions(1)
    recall, precision = (f(hot[:, 0], decided[:, 0]) for f in (metrics.recall_score, metrics.precision_score))
    assert Tversky(alpha=0, beta=1, smooth=1e-12)(decided, hot).item() == pytest.approx(1 - recall)
    assert Tversky(alpha=1, beta=0, smooth=1e-12)(decided, hot).item() == pytest.approx(1 - precision)


def test_lovasz_hinge_against_segmentation_models():
    # computed using segmentation_models_pytorch.losses.LovaszLoss(mode="binary") v0.6.0, in float32
    assert labels_alone(LovaszHinge(), SCORES, 2 * Y - 1) == pytest.approx([1.33333325386, 1.08333325386], rel=1e-6)
    # without positives: the worst error alone
    assert labels_alone(LovaszHinge(), SCORES, 0 * Y - 1) == pytest.approx([2.2, 4.0])


def test_lovasz_hinge_extends_one_minus_the_jaccard_index():
    # with margins of 0 for right and 1 for wrong decisions (scores 1 and 0 of the right sign) it is the index itself
    y = torch.tensor([1, 1, 1, 0, 0], dtype=torch.float64)
    for wrong in itertools.product([False, True], repeat=5):
        mistaken = torch.tensor(wrong)
        signs = 2 * y - 1
        decided = torch.where(mistaken, 1 - y, y)
        scores = torch.where(mistaken, 0.0, signs)
        wanted = 1 - metrics.jaccard_score(y, decided)
        assert LovaszHinge()(scores[:, None], signs[:, None]).item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("kind", [Tversky, Jaccard])
def test_tversky_and_jaccard_without_positives_are_defined(kind):
    nothing = torch.zeros(4, 2, dtype=torch.float64)
    assert kind()(nothing, nothing).item() == 0
    weight = kind().alpha if kind is Tversky else 1
    assert kind()(nothing + 1, nothing).item() == pytest.approx(1 - 1 / (4 * weight + 1))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(Tversky, {"alpha": -1}), (Tversky, {"beta": -0.1}), (Tversky, {"smooth": 0}), (Jaccard, {"smooth": 0})],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
