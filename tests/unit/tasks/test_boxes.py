"""The boxes task's scaling, decoding and refusals."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision import ops

from lossbench import tasks
from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling
from lossbench.tasks.boxes import decode
from lossbench.types import Encoding, Examples, Head, Picture, Problem, Space

TASK = tasks.get("boxes")
PROBLEM = Problem((3, 32, 32), 4, 100)


def made_up(n=400, seed=0):
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 18, (n, 2))
    return np.concatenate([low, low + draw.lognormal(2, 0.3, (n, 2))], 1)


BOXES = made_up()
SCALING = Scaling(*(torch.as_tensor(part)[None] for part in TASK.fit_scaling(BOXES)))


def test_scaling_is_the_median_and_mad_of_centre_and_log_size():
    size = BOXES[:, 2:] - BOXES[:, :2]
    deltas = np.concatenate([BOXES[:, :2] + size / 2, np.log(size)], 1)
    shift, scale = TASK.fit_scaling(BOXES)
    np.testing.assert_allclose(shift, np.median(deltas, 0))
    np.testing.assert_allclose(scale, stats.median_abs_deviation(deltas, scale="normal"), rtol=1e-4)


def test_scaling_does_not_follow_outliers():
    spoilt = BOXES.copy()
    spoilt[:80] += 1e4
    before, after = TASK.fit_scaling(BOXES), TASK.fit_scaling(spoilt)
    assert abs(after[0] - before[0])[:2].max() < before[1][:2].max()
    assert (after[1] < 2 * before[1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deltas_go_there_and_back(dtype):
    target = torch.as_tensor(BOXES)
    deltas = TASK.encode(target, Encoding.VALUE, PROBLEM, SCALING).to(dtype)
    for corners in (TASK.convert(deltas, Space.BOX_XYXY, SCALING), TASK.predict(deltas, Space.VALUE, PROBLEM, SCALING)):
        torch.testing.assert_close(corners.double(), target, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-4)
    assert TASK.convert(deltas, Space.VALUE, SCALING) is deltas
    assert TASK.encode(target, Encoding.BOX_XYXY, PROBLEM, SCALING) is target


def test_deltas_by_hand():
    scaling = Scaling(torch.tensor([10.0, 20.0, 0.0, 1.0]).double(), torch.tensor([2.0, 4.0, 1.0, 0.5]).double())
    target = torch.tensor([[11.0, 18.0, 13.0, 30.0]]).double()  # centre (12, 24), size (2, 12)
    wanted = torch.tensor([[1.0, 1.0, np.log(2), 2 * (np.log(12) - 1)]], dtype=torch.float64)
    torch.testing.assert_close(TASK.encode(target, Encoding.VALUE, PROBLEM, scaling), wanted)


def test_zero_is_the_anchor():
    size = np.median(np.log(BOXES[:, 2:] - BOXES[:, :2]), 0)
    centre = np.median((BOXES[:, 2:] + BOXES[:, :2]) / 2, 0)
    anchor = np.concatenate([centre - np.exp(size) / 2, centre + np.exp(size) / 2])
    zero = TASK.predict(torch.zeros(1, 4).double(), Space.BOX_XYXY, PROBLEM, SCALING)
    np.testing.assert_allclose(zero[0].numpy(), anchor)


def test_the_trivial_prediction_overlaps_better_than_the_anchor():
    """A constant box is to meet boxes all around: one of the median size is too small for it."""
    anchor = TASK.predict(torch.zeros(1, 4).double(), Space.BOX_XYXY, PROBLEM, SCALING)
    trivial = torch.from_numpy(TASK.predict_baseline(BOXES, 3, PROBLEM))
    assert (trivial == trivial[0]).all()
    constant, middle = (ops.box_iou(box[:1], torch.from_numpy(BOXES)).mean() for box in (trivial, anchor))
    assert constant >= middle
    torch.testing.assert_close((trivial[0, :2] + trivial[0, 2:]) / 2, (anchor[0, :2] + anchor[0, 2:]) / 2)


EXTREMES = torch.cartesian_prod(*[torch.tensor([-1e3, -30.0, 0.0, 30.0, 1e3])] * 4)


@pytest.mark.parametrize("scaling_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_any_output_decodes_to_a_box_with_a_finite_gradient(scaling_dtype, offset):
    targets = BOXES + offset
    scaling = Scaling(*(torch.as_tensor(part, dtype=scaling_dtype)[None] for part in TASK.fit_scaling(targets)))
    raw = EXTREMES.clone().requires_grad_()
    corners = TASK.convert(raw, Space.BOX_XYXY, scaling).float()  # the engine rounds to the precision of `raw`
    corners.sum().backward()
    assert corners.isfinite().all()
    assert (corners[:, :2] < corners[:, 2:]).all()
    assert raw.grad.isfinite().all()


def test_the_gradient_reaches_all_four_where_boxes_are_usual():
    raw = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    TASK.convert(raw, Space.BOX_XYXY, SCALING)[:, 2:].sum().backward()
    assert (raw.grad > 0).all()


def test_sizes_stay_within_a_factor_of_the_median():
    corners = TASK.convert(EXTREMES.double(), Space.BOX_XYXY, SCALING)
    factor = (corners[:, 2:] - corners[:, :2]) / SCALING.shift[0, 2:].exp()
    assert factor.max() == pytest.approx(62.5)
    assert factor.min() == pytest.approx(1 / 62.5)


@pytest.mark.parametrize("encoding", TASK.encodings)
@pytest.mark.parametrize("swap", [[2, 1, 0, 3], [0, 3, 2, 1], [0, 1, 0, 3]])
def test_swapped_corners_are_refused_with_the_row(encoding, swap):
    targets = BOXES.copy()
    targets[[7, 9]] = targets[[7, 9]][:, swap]
    row = str(targets[7].tolist()).replace("[", r"\[").replace("]", r"\]")
    message = rf"x1 < x2 and y1 < y2\. 2 of 400 are not: example 7 is {row}\."
    with pytest.raises(Incompatible, match=message):
        TASK.check(targets, encoding)
    with pytest.raises(Incompatible, match=message):
        TASK.count_outputs(Examples(np.zeros((400, 1)), targets))
    TASK.check(BOXES, encoding)


def test_what_is_not_finite_is_refused():
    targets = BOXES.copy()
    targets[3, 1], targets[4, 2] = np.nan, np.inf
    with pytest.raises(Incompatible, match=r"2 of 1600 corner coordinates .* not finite"):
        TASK.check(targets, Encoding.BOX_XYXY)


@pytest.mark.parametrize("targets", [np.zeros(5), np.zeros((5, 5)), np.zeros((5, 4), int), np.zeros((5, 1, 4))])
def test_targets_must_be_floats_of_four(targets):
    with pytest.raises(Incompatible, match=r"float targets of shape \[N, 4\]. Got"):
        TASK.count_outputs(Examples(np.zeros((5, 1)), targets))


def test_facts():
    assert TASK.get_head_width(Head.LINEAR, PROBLEM) == TASK.count_outputs(Examples(np.zeros((400, 1)), BOXES)) == 4
    assert TASK.count_per_class(BOXES, PROBLEM) is None
    assert TASK.picture is Picture.BOX
    assert TASK.shortlist[0] == TASK.defaults["loss"]


@pytest.mark.parametrize("delta", [-1e3, 1e3])
def test_a_size_that_has_run_away_can_come_back(delta):
    """At the clip a plain clamp has no gradient: two of five trainings on 40% outliers ended in boxes of no size."""
    raw = torch.tensor([0.0, 0.0, delta, delta], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(4, dtype=torch.float64)
    low, high = decode(raw, Scaling(zero, zero + 1)).chunk(2)
    (high - low).log().sum().backward()
    torch.testing.assert_close(raw.grad[2:], torch.ones(2, dtype=torch.float64))
