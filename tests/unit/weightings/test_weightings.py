"""Weightings against scikit-learn, and against the losses that they imitate."""

import numpy as np
import pytest
import torch
from registered import built_in
from sklearn.utils.class_weight import compute_sample_weight
from torch.nn import functional

from lossbench import registry, weightings
from lossbench.errors import InvalidValue, UnknownName

INDEX = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
COUNTS = torch.tensor([[4, 2, 4]])
LOSSES = torch.ones(10, dtype=torch.float64)
FACTS = {"class_counts": COUNTS, "class_names": ("ant", "bee", "cow")}


def weigh(name, index=INDEX, counts=COUNTS, names=FACTS["class_names"], **fields):
    losses = torch.ones(index.shape, dtype=torch.float64)
    return weightings.get(name, **fields)(losses, None, index, class_counts=counts, class_names=names)


def test_none_is_ones():
    assert torch.equal(weightings.get("none")(LOSSES, None, None), LOSSES)


def test_balanced_is_scikit_learns():
    np.testing.assert_allclose(weigh("balanced"), compute_sample_weight("balanced", INDEX.numpy()))


def test_balanced_without_a_class_is_scikit_learns():
    index = torch.tensor([0, 0, 0, 2])
    weights = weigh("balanced", index, torch.tensor([[3, 0, 1]]))
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", index.numpy()))


def test_balanced_gives_an_absent_class_a_finite_weight():
    assert weigh("balanced", torch.tensor([1]), torch.tensor([[3, 0, 1]])).isfinite().all()


def test_balanced_counts_beyond_half_precision():
    counts = torch.tensor([[3001.0, 999.0]])
    losses = torch.ones(2, dtype=torch.bfloat16)
    weights = weightings.get("balanced")(losses, None, torch.tensor([0, 1]), class_counts=counts)
    expected = torch.tensor([4000 / 6002, 4000 / 1998])
    torch.testing.assert_close(weights, expected.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("given", [[1, 3, 2], {"bee": 3, "cow": 2}, {"1": 3, "2": 2.0}, {0: 1, 1: 3, 2: 2}])
def test_classes_by_place_name_or_number(given):
    by_class = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64) * 10 / (4 * 1 + 2 * 3 + 4 * 2)
    torch.testing.assert_close(weigh("classes", weights=given), by_class[INDEX])


def test_classes_names_come_before_numbers():
    weights = weigh("classes", names=("1", "0", "x"), weights={"1": 5})
    assert weights[0] == 5 * weights[-1]


def test_classes_without_names_goes_by_number():
    assert weigh("classes", names=(), weights={"2": 0})[-1] == 0


def test_classes_may_leave_a_class_out():
    assert weigh("classes", weights=[0, 1, 1])[:4].eq(0).all()


@pytest.mark.parametrize("bad", [[1, -2, 1], {"bee": -1}, [1, "x", 1], [1, float("nan"), 1], [1, True, 1]])
def test_classes_refuses_what_is_no_weight(bad):
    with pytest.raises(InvalidValue, match=r"parameter of Classes must be a float in the range \[0, inf\)"):
        weightings.get("classes", weights=bad)


@pytest.mark.parametrize("bad", [[], {}])
def test_classes_refuses_nothing(bad):
    with pytest.raises(InvalidValue, match="must not be empty"):
        weightings.get("classes", weights=bad)


def test_classes_refuses_what_is_no_list():
    with pytest.raises(InvalidValue, match="a list in the classes' order or a mapping from class names"):
        weightings.get("classes", weights="bee")


def test_classes_refuses_a_wrong_number():
    with pytest.raises(InvalidValue, match=r"one weight for each of 3 classes\. Got 2"):
        weigh("classes", weights=[1, 2])


def test_classes_refuses_only_zeros():
    with pytest.raises(InvalidValue, match="At least one weight"):
        weigh("classes", weights=[0, 0, 0])


def test_classes_helps_with_an_unknown_name():
    with pytest.raises(UnknownName, match="Did you mean 'bee'"):
        weigh("classes", weights={"bees": 2})


def test_classes_needs_its_weights():
    with pytest.raises(InvalidValue, match="needs a value for weights"):
        weightings.get("classes")


def huber(r, k):
    return functional.huber_loss(r, torch.zeros_like(r), reduction="none", delta=k)


def tukey(r, k):
    # Beaton, Tukey 1974, https://doi.org/10.1080/00401706.1974.10489171
    return k**2 / 6 * (1 - (1 - (r / k).square()).clamp_min(0) ** 3)


def cauchy(r, k):
    return k**2 / 2 * torch.log1p((r / k).square())


@pytest.mark.parametrize("loss", [huber, tukey, cauchy])
@pytest.mark.parametrize("scale", [0.3, 2.0])
@pytest.mark.parametrize("constant", [0.0, 0.8])
def test_reweighted_half_square_has_the_robust_losss_gradient(loss, scale, constant):
    target = torch.zeros(201, 1, dtype=torch.float64)
    prediction = torch.linspace(-12, 12, 201, dtype=torch.float64)[:, None].requires_grad_()
    k = (constant or {huber: 1.345, tukey: 4.685, cauchy: 2.385}[loss]) * scale
    (expected,) = torch.autograd.grad(loss(prediction, k).sum(), prediction)
    weighting = weightings.get("irls", function=loss.__name__, constant=constant)
    half_squares = 0.5 * (prediction - target).square().mean(-1)
    residual_scale = torch.full((1, 1), scale, dtype=torch.float64)
    weights = weighting(half_squares.detach(), prediction, target, residual_scale=residual_scale)
    (gradient,) = torch.autograd.grad((weights * half_squares).sum(), prediction)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_irls_takes_the_root_mean_square_over_outputs():
    prediction = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    scale = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    weights = weightings.get("irls", constant=1.0)(LOSSES[:1], prediction, 0 * prediction, residual_scale=scale)
    torch.testing.assert_close(weights, torch.tensor([1 / (13 / 2) ** 0.5], dtype=torch.float64))


@pytest.mark.parametrize("fields", [{"function": "hampel"}, {"constant": -1.0}])
def test_irls_refuses(fields):
    with pytest.raises(InvalidValue, match=f"'{next(iter(fields))}' parameter of IRLS"):
        weightings.get("irls", **fields)


def test_names_by_task():
    of_terms = {"dwa", "gradnorm", "pcgrad", "random", "uncertainty"}
    everywhere = {"deferred", "none", "sample", "self_paced", "trimmed"} | of_terms
    by_class = {"balanced", "classes", "effective_number", "inverse_sqrt"}
    by_error = {"focal", "ghm"}
    assert set(built_in(registry.weightings, "regression")) == everywhere | {"irls"}
    assert set(built_in(registry.weightings, "binary")) == everywhere | by_class | by_error | {"pos_weight"}
    assert set(built_in(registry.weightings, "multiclass")) == everywhere | by_class | by_error
    assert set(built_in(registry.weightings, "multilabel")) == everywhere | by_error | {"pos_weight"}
