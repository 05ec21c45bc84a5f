"""Losses on boxes against torchvision, the papers' formulas and hand values; what goes wrong elsewhere."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torchvision import ops

from lossbench import losses
from lossbench.errors import InvalidValue
from lossbench.training.routes import Routes, choose_route

CORNERS = ("iou", "giou", "diou", "ciou", "eiou", "focal_eiou", "alpha_iou", "siou", "wiou_v1", "nwd")
BLIND = ("iou", "alpha_iou", "focal_eiou")
"""Without a gradient for disjoint boxes."""


UNIT = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)


def boxes(n=200, seed=0, spread=1.0):
    """Pairs that overlap, contain each other and are disjoint."""
    draw = torch.Generator().manual_seed(seed)
    low = spread * torch.randn(2, n, 2, generator=draw, dtype=torch.float64)
    size = 0.2 + 2 * torch.rand(2, n, 2, generator=draw, dtype=torch.float64)
    return torch.cat([low, low + size], -1)


def value_and_gradient(function, prediction, target):
    prediction = prediction.clone().requires_grad_()
    values = function(prediction, target)
    (gradient,) = torch.autograd.grad(values.sum(), prediction)
    return values.detach(), gradient


def named(name, **fields):
    return losses.get(name, **fields)


@pytest.mark.parametrize(
    ("name", "oracle", "tolerance"),
    [
        ("giou", ops.generalized_box_iou_loss, 1e-10),
        ("diou", ops.distance_box_iou_loss, 1e-10),
        ("ciou", ops.complete_box_iou_loss, 1e-5),  # its eps stays at 1e-7 in the part that it shares with diou
    ],
)
@pytest.mark.parametrize("spread", [0.1, 1.0, 100.0])
def test_value_and_gradient_against_torchvision(name, oracle, tolerance, spread):
    # torchvision adds eps = 1e-7 to its divisors; eps is made small to compare all digits
    prediction, target = boxes(spread=spread)
    wanted = value_and_gradient(lambda p, t: oracle(p, t, eps=1e-15), prediction, target)
    for got, want in zip(value_and_gradient(named(name), prediction, target), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance / 100)


def test_iou_against_torchvision():
    prediction, target = boxes()
    wanted = 1 - ops.box_iou(prediction, target).diagonal()
    torch.testing.assert_close(named("iou")(prediction, target), wanted, rtol=1e-12, atol=1e-14)
    assert 0.1 < (wanted == 1).double().mean() < 0.9  # disjoint ones, and others


# By hand: the unit square against [1, 0, 3, 2]. IoU 0, enclosing box 3 x 2, centres (0.5, 0.5) and (2, 1): offset
# (1.5, 0.5), squared 2.5; squared diagonal 13; sizes differ by (1, 1).
BY_HAND = {
    "iou": 1,
    "alpha_iou": 1,
    "giou": 1 + 1 / 6,  # 6 - (1 + 4) of 6 is covered by neither
    "diou": 1 + 2.5 / 13,
    "ciou": 1 + 2.5 / 13,  # both square
    "eiou": 1 + 2.5 / 13 + 1 / 9 + 1 / 4,
    "focal_eiou": 0,
    # Lambda = 2 * 1.5 * 0.5 / 2.5 = 0.6; rho = (1.5 / 3)^2 and (0.5 / 2)^2; omega = 1/2 twice
    "siou": 1 + (2 - math.exp(-1.4 / 4) - math.exp(-1.4 / 16) + 2 * (1 - math.exp(-0.5)) ** 4) / 2,
    "wiou_v1": math.exp(2.5 / 13),
    "nwd": 1 - math.exp(-math.sqrt(2.5 + 2 / 4) / 12.8),
}


@pytest.mark.parametrize("name", CORNERS)
def test_by_hand(name):
    other = torch.tensor([[1.0, 0.0, 3.0, 2.0]], dtype=torch.float64)
    for pair in ((UNIT, other), (other, UNIT)):
        torch.testing.assert_close(
            named(name)(*pair), torch.tensor([BY_HAND[name]], dtype=torch.float64), rtol=1e-12, atol=1e-15
        )


# By hand: the unit square against [0, 0, 2, 1], which contains it. IoU 1/2, enclosing box 2 x 1, offset (0.5, 0)
INSIDE = {
    "iou": 1 / 2,
    "alpha_iou": 7 / 8,
    "giou": 1 / 2,
    "diou": 1 / 2 + 0.25 / 5,
    "ciou": 1 / 2 + 0.25 / 5 + (v := 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2) ** 2 / (1 / 2 + v),
    "eiou": 1 / 2 + 0.25 / 5 + 1 / 4,
    "focal_eiou": math.sqrt(1 / 2) * (1 / 2 + 0.25 / 5 + 1 / 4),
    "siou": 1 / 2 + (1 - math.exp(-2 / 16) + (1 - math.exp(-0.5)) ** 4) / 2,  # Lambda 0 along an axis
    "wiou_v1": math.exp(0.25 / 5) / 2,
    "nwd": 1 - math.exp(-math.sqrt(0.25 + 1 / 4) / 12.8),
}


@pytest.mark.parametrize("name", CORNERS)
def test_one_inside_the_other_by_hand(name):
    other = torch.tensor([[0.0, 0.0, 2.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(
        named(name)(UNIT, other), torch.tensor([INSIDE[name]], dtype=torch.float64), rtol=1e-12, atol=1e-15
    )


def siou_as_written(p, t, theta):
    """Gevorgyan's formulas with their sines, one pair at a time."""
    (px, py, pw, ph), (tx, ty, tw, th) = (
        [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]] for b in (p, t)
    )
    sigma, c_h = math.hypot(tx - px, ty - py), abs(ty - py)
    angle = 1 - 2 * math.sin(math.asin(c_h / sigma) - math.pi / 4) ** 2
    gamma = 2 - angle
    width, height = max(p[2], t[2]) - min(p[0], t[0]), max(p[3], t[3]) - min(p[1], t[1])
    rhos = ((tx - px) / width) ** 2, ((ty - py) / height) ** 2
    distance = sum(1 - math.exp(-gamma * rho) for rho in rhos)
    omegas = abs(pw - tw) / max(pw, tw), abs(ph - th) / max(ph, th)
    shape = sum((1 - math.exp(-omega)) ** theta for omega in omegas)
    common = max(0, min(p[2], t[2]) - max(p[0], t[0])) * max(0, min(p[3], t[3]) - max(p[1], t[1]))
    return 1 - common / (pw * ph + tw * th - common) + (distance + shape) / 2


@pytest.mark.parametrize("theta", [1.0, 4.0, 6.0])
def test_siou_as_the_paper_writes_it(theta):
    prediction, target = boxes()
    wanted = [siou_as_written(p, t, theta) for p, t in zip(prediction.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(
        named("siou", theta=theta)(prediction, target), torch.tensor(wanted, dtype=torch.float64)
    )


def test_nwd_is_the_wasserstein_distance_of_gaussians():
    # the general formula: |m1 - m2|^2 + tr(A + B - 2 (B^1/2 A B^1/2)^1/2), with scipy's matrix root
    prediction, target = boxes(n=20)
    wanted = []
    for p, t in zip(prediction.numpy(), target.numpy(), strict=True):
        (m1, a), (m2, b) = (((x[:2] + x[2:]) / 2, np.diag((x[2:] - x[:2]) ** 2 / 4)) for x in (p, t))
        root = linalg.sqrtm(b)
        squared = ((m1 - m2) ** 2).sum() + np.trace(a + b - 2 * linalg.sqrtm(root @ a @ root))
        wanted.append(1 - math.exp(-math.sqrt(squared) / 3))
    torch.testing.assert_close(
        named("nwd", constant=3.0)(prediction, target), torch.tensor(wanted, dtype=torch.float64)
    )


def numeric_gradient(function, prediction, step=1e-6):
    columns = []
    for i in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[i] = step
        columns.append((function(prediction + shift) - function(prediction - shift)) / (2 * step))
    return torch.stack(columns, -1)


def test_wiou_holds_the_enclosing_box_still():
    prediction, target = boxes()
    _, gradient = value_and_gradient(named("wiou_v1"), prediction, target)
    size = torch.maximum(prediction[:, 2:], target[:, 2:]) - torch.minimum(prediction[:, :2], target[:, :2])

    def as_written(p):
        offset = (p[:, :2] + p[:, 2:] - target[:, :2] - target[:, 2:]) / 2
        iou = ops.box_iou(p, target).diagonal()
        return (offset.square().sum(-1) / size.square().sum(-1)).exp() * (1 - iou)

    torch.testing.assert_close(gradient, numeric_gradient(as_written, prediction), rtol=1e-5, atol=1e-7)


def test_the_weight_of_focal_eiou_has_no_gradient():
    prediction, target = boxes()
    _, gradient = value_and_gradient(named("focal_eiou", gamma=0.7), prediction, target)
    _, plain = value_and_gradient(named("eiou"), prediction, target)
    weight = ops.box_iou(prediction, target).diagonal() ** 0.7
    torch.testing.assert_close(gradient, weight[:, None] * plain)


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("offset", [(1.5, 0.0), (0.0, -2.0), (3.0, 4.0)])
def test_disjoint_boxes_are_pulled_in_except_by_the_overlap_alone(name, offset):
    prediction = UNIT + torch.tensor([*offset, *offset]).double()
    value, gradient = value_and_gradient(named(name), prediction, UNIT)
    assert (gradient == 0).all() == (name in BLIND)
    if name not in BLIND:
        nearer = prediction - 1e-3 * gradient / gradient.norm()
        assert named(name)(nearer, UNIT) < value


DEGENERATE = [
    [0.5, 0.5, 0.5, 0.5],  # a point inside the unit square
    [0.0, 0.0, 0.0, 0.0],  # on its corner
    [0.5, 0.0, 0.5, 1.0],  # no width
    [0.0, 0.5, 1.0, 0.5],  # no height
    [0.0, 0.0, 1.0, 1.0],  # itself
    [1.0, 0.0, 2.0, 1.0],  # touching
    [1e4, 1e4, 1e4 + 1, 1e4 + 1],
    [1e4, 1e4, 1e4, 1e4],
    [-1e4, 0.0, 1e4, 1e-7],
    [0.0, 0.0, 1e-20, 1e-20],
]


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_finite_for_degenerate_boxes(name, dtype):
    everything = torch.tensor(DEGENERATE, dtype=dtype)
    prediction, target = everything.repeat_interleave(len(everything), 0), everything.repeat(len(everything), 1)
    value, gradient = value_and_gradient(named(name), prediction, target)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_the_gradient_of_torchvision_is_nan_without_a_height_and_ours_is_not():
    flat = torch.tensor([[0.0, 0.5, 1.0, 0.5], [0.2, 0.2, 0.2, 0.2]]).double()
    _, gradient = value_and_gradient(ops.complete_box_iou_loss, flat, UNIT.expand(2, 4))
    assert gradient.isnan().any()
    _, gradient = value_and_gradient(named("ciou"), flat, UNIT.expand(2, 4))
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", CORNERS)
def test_a_flat_box_inside_its_target_is_made_to_grow(name):
    flat = torch.tensor([[0.2, 0.5, 0.8, 0.5]]).double()
    _, gradient = value_and_gradient(named(name), flat, UNIT)
    grows = bool(gradient[0, 3] < 0 < gradient[0, 1])
    # by the overlap alone it is lost, and diou and wiou_v1 have nothing but the overlap once centres agree
    assert grows == (name in {"giou", "eiou", "siou", "nwd"})


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("side", ["prediction", "target"])
def test_swapped_corners_are_refused_and_named(name, side):
    pair = {"prediction": boxes(n=4)[0], "target": boxes(n=4)[1]}
    pair[side][2] = torch.tensor([3.0, 0.0, 1.0, 2.0])
    message = rf"^{side} must hold corners x1, y1, x2, y2 .* Got \[3.0, 0.0, 1.0, 2.0\] for example 2\.$"
    with pytest.raises(InvalidValue, match=message):
        named(name)(**pair)
    stacked = {k: torch.stack([boxes(n=4)[0], v]) for k, v in pair.items()}
    with pytest.raises(InvalidValue, match=r"for example \[1, 2\]\.$"):
        named(name)(**stacked)


def test_a_diverged_row_is_nan_and_is_not_taken_for_swapped():
    prediction, target = boxes(n=3)
    prediction[1, 0] = torch.nan
    values = named("giou")(prediction, target)
    assert values.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("name", [*CORNERS, "l1"])
def test_boxes_have_four_numbers(name):
    with pytest.raises(InvalidValue, match=r"shape \[..., 4\]. Got \(2, 3\)"):
        named(name)(torch.ones(2, 3), torch.ones(2, 3))


FIELDS = {"alpha_iou": ("alpha", 2.0), "focal_eiou": ("gamma", 1.0), "siou": ("theta", 2.0), "nwd": ("constant", 5.0)}


@pytest.mark.parametrize("name", [*CORNERS, "l1", "smooth_l1"])
def test_the_route_in_a_stack_is_broadcast(name):
    field, value = {**FIELDS, "smooth_l1": ("beta", 0.0)}.get(name, ("", 0))
    rows = [named(name), named(name, **({field: value} if field else {})), named(name)]
    prediction, target = (torch.stack([boxes(n=30, seed=s)[i] for s in range(3)]) for i in range(2))
    assert choose_route(rows, prediction, target, {}) == "broadcast"


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [("alpha_iou", "alpha", 0.0), ("focal_eiou", "gamma", -0.1), ("siou", "theta", 0.5), ("nwd", "constant", 0.0),
     ("smooth_l1", "beta", -1.0)],
)  # fmt: skip
def test_fields_out_of_range(name, field, wrong):
    with pytest.raises(InvalidValue, match=f"The '{field}' parameter of .* Got {wrong}"):
        named(name, **{field: wrong})


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_a_small_power_has_a_finite_gradient_for_disjoint_boxes(alpha):
    prediction, target = boxes(spread=3.0)
    value, gradient = value_and_gradient(named("alpha_iou", alpha=alpha), prediction, target)
    disjoint = ops.box_iou(prediction, target).diagonal() == 0
    assert disjoint.any()
    assert (value[disjoint] == 1).all()
    assert gradient.isfinite().all()
    assert (gradient[disjoint] == 0).all()


def test_l1_is_the_mean_of_torchs():
    prediction, target = boxes()
    wanted = torch.nn.functional.l1_loss(prediction, target, reduction="none").mean(-1)
    torch.testing.assert_close(named("l1")(prediction, target), wanted)


@pytest.mark.parametrize("beta", [0.0, 1e-3, 0.5, 1.0, 20.0])
def test_smooth_l1_against_torch(beta):
    prediction, target = boxes()
    prediction = torch.cat([prediction, target[:3] + torch.tensor([0.0, beta, -beta, 1e4])])
    target = torch.cat([target, target[:3]])

    def oracle(p, t):
        return torch.nn.functional.smooth_l1_loss(p, t, beta=beta, reduction="none").mean(-1)

    wanted = value_and_gradient(oracle, prediction, target)
    for got, want in zip(value_and_gradient(named("smooth_l1", beta=beta), prediction, target), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


def test_smooth_l1_takes_a_stack_with_and_without_a_bend():
    betas = (0.0, 0.5, 2.0)
    pairs = [boxes(n=8, seed=s) for s in range(3)]
    prediction, target = (torch.stack([p[i] for p in pairs]) for i in range(2))
    rows = [named("smooth_l1", beta=b) for b in betas]
    wanted = torch.stack([row(p, t) for row, (p, t) in zip(rows, pairs, strict=True)])
    torch.testing.assert_close(Routes(rows).broadcast(prediction, target, {}), wanted, rtol=1e-12, atol=0)
