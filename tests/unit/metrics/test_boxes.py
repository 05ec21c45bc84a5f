"""Metrics of boxes against torchvision, torchmetrics, pycocotools and hand values."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.detection import intersection_over_union
from torchvision import ops

from lossbench import metrics

R, N = 4, 53


@pytest.fixture
def boxes():
    draw = torch.Generator().manual_seed(0)
    low = 10 * torch.rand(2, R, N, 2, generator=draw, dtype=torch.float64)
    low[1] = low[0] + torch.randn(R, N, 2, generator=draw, dtype=torch.float64)
    size = 1 + 8 * torch.rand(2, R, N, 2, generator=draw, dtype=torch.float64)
    return torch.cat([low, low + size], -1)


def value(name, prediction, target):
    return metrics.get(name)(torch.as_tensor(prediction)[None].double(), torch.as_tensor(target)[None].double()).item()


def test_mean_iou_against_torchvision_and_torchmetrics(boxes):
    prediction, target = boxes
    rows = list(zip(prediction, target, strict=True))
    scores = metrics.get("mean_iou").score_examples(prediction, target)
    torch.testing.assert_close(scores, torch.stack([ops.box_iou(p, t).diagonal() for p, t in rows]))
    wanted = torch.stack([intersection_over_union(p, t, aggregate=False).diagonal().mean() for p, t in rows])
    torch.testing.assert_close(metrics.get("mean_iou")(prediction, target), wanted)


def coco_case(seed, n):
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 20, (n, 2))
    target = np.concatenate([low, low + draw.uniform(4, 12, (n, 2))], 1)
    return target + draw.normal(0, 1.2, (n, 4)), target


# pycocotools 2.0.11, COCOeval("bbox") with one box and one detection per image, misses given the higher confidence
COCO = [
    (0, 37, 0.7449826063687451, 0.011774150388011774),
    (1, 40, 0.8108910891089111, 0.03118811881188118),
    (2, 64, 0.6311881188118812, 0.01608910891089109),
    (3, 101, 0.7082638956965004, 0.03538868738358984),
    (4, 200, 0.6297029702970297, 0.041584158415841586),
]


@pytest.mark.parametrize(("seed", "n", "ap_50", "ap_75"), COCO)
def test_average_precision_against_coco(seed, n, ap_50, ap_75):
    case = coco_case(seed, n)
    assert value("ap_50", *case) == pytest.approx(ap_50, abs=1e-12)
    assert value("ap_75", *case) == pytest.approx(ap_75, abs=1e-12)


def hits_and_misses(n, hits):
    target = np.tile([0.0, 0, 10, 10], (n, 1))
    return np.where(np.arange(n)[:, None] < hits, target, target + 100), target


# pycocotools 2.0.11 again; of 100 with 29 hits, 100 * 0.29 is 28.999999999999996
@pytest.mark.parametrize(
    ("n", "hits", "wanted"),
    [(2, 1, 0.2524752475247525), (100, 29, 0.08613861386138613), (4, 0, 0.0), (4, 4, 1.0)],
)
def test_average_precision_at_the_edges(n, hits, wanted):
    assert value("ap_50", *hits_and_misses(n, hits)) == pytest.approx(wanted, abs=1e-12)


def test_average_precision_is_exact_at_every_hundredth():
    # pycocotools misses the recall 0.57 by rounding (57 * 0.01 > 57 / 100) and gives 0.3217
    assert value("ap_50", *hits_and_misses(100, 57)) == pytest.approx(0.57 * 58 / 101)


@pytest.mark.parametrize("name", ["ap_50", "ap_75"])
def test_average_precision_does_not_depend_on_the_order(name):
    prediction, target = coco_case(2, 64)
    order = np.random.default_rng(0).permutation(64)
    before = value(name, prediction, target)
    assert 0 < before < 1
    assert value(name, prediction[order], target[order]) == before


def test_an_iou_at_the_threshold_is_a_hit():
    target = [[0.0, 0.0, 4.0, 1.0]]
    for name, width in (("ap_50", 2.0), ("ap_75", 3.0)):
        assert value(name, [[0.0, 0.0, width, 1.0]], target) == 1
        assert value(name, [[0.0, 0.0, width - 1e-6, 1.0]], target) == 0


def test_centre_error_by_hand():
    # centres (1, 1) and (4, 5), a distance of 5; and one that fits
    assert value("centre_error", [[0.0, 0, 2, 2], [1, 1, 2, 2]], [[3.0, 3, 5, 7], [0, 0, 3, 3]]) == pytest.approx(2.5)


def test_size_error_is_that_of_boxes_on_one_centre(boxes):
    prediction, target = boxes
    shift = (target[..., :2] + target[..., 2:] - prediction[..., :2] - prediction[..., 2:]) / 2
    aligned = prediction + shift.repeat(1, 1, 2)
    wanted = 1 - metrics.get("mean_iou").score_examples(aligned, target)
    torch.testing.assert_close(metrics.get("size_error").score_examples(prediction, target), wanted)


def test_size_error_by_hand():
    # 2 x 2 against 4 x 1: 2 of 4 + 4 - 2 is common; a box without a width shares nothing
    assert value("size_error", [[0.0, 0, 2, 2]], [[50.0, 0, 54, 1]]) == pytest.approx(1 - 2 / 6)
    assert value("size_error", [[0.0, 0, 0, 2]], [[0.0, 0, 1, 1]]) == 1


def test_place_and_size_are_told_apart(boxes):
    _, target = boxes
    moved, larger = target + 3, target + torch.tensor([-1.0, -1, 1, 1])
    centre, size = metrics.get("centre_error"), metrics.get("size_error")
    torch.testing.assert_close(centre(moved, target), torch.full((R,), 18**0.5, dtype=torch.float64))
    assert size(moved, target).max() < 1e-12
    assert centre(larger, target).max() < 1e-12
    assert size(larger, target).min() > 0.1
