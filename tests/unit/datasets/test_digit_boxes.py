"""A digit on a photograph: its box is tight, and it can be seen."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch.nn.functional import interpolate

from lossbench import datasets
from lossbench.datasets import digit_boxes


@pytest.fixture(scope="module")
def drawing():
    return datasets.get("digit_boxes", n=600, random_state=5).draw()


@pytest.mark.parametrize("fields", [{}, {"smallest": 8, "largest": 8}, {"smallest": 30, "largest": 32}])
def test_boxes_are_tight_and_inside(fields):
    drawing = datasets.get("digit_boxes", n=200, **fields).draw()
    for (x1, y1, x2, y2), covered in zip(drawing["targets"].astype(int), drawing["covered"], strict=True):
        assert 0 <= x1 < x2 <= 32
        assert 0 <= y1 < y2 <= 32
        inside = covered[y1:y2, x1:x2] >= 0.3
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        assert inside.sum() == (covered >= 0.3).sum()


def test_pictures_are_the_digit_in_one_ink_on_a_photograph(drawing):
    inks, covered, backgrounds = drawing["inks"][:, :, None, None], drawing["covered"][:, None], drawing["backgrounds"]
    backgrounds = backgrounds.transpose(0, 3, 1, 2)
    mixed = covered * inks + (1 - covered) * backgrounds
    np.testing.assert_allclose(drawing["inputs"], mixed, atol=1e-6)
    x1, y1, x2, y2 = drawing["targets"].T[:, :, None, None]
    y, x = np.mgrid[:32, :32]
    far = (x < x1 - 4) | (x >= x2 + 4) | (y < y1 - 4) | (y >= y2 + 4)
    untouched = np.broadcast_to(far[:, None], mixed.shape)
    np.testing.assert_allclose(drawing["inputs"][untouched], backgrounds[untouched], atol=1e-6)


def test_backgrounds_are_crops_of_both_photographs(drawing):
    reduced = [np.asarray(_reduced(image)) / 255 for image in load_sample_images().images]
    windows = [np.lib.stride_tricks.sliding_window_view(image, (32, 32), (0, 1)) for image in reduced]
    found = [
        [_holds(photograph, crop.transpose(2, 0, 1)) for photograph in windows] for crop in drawing["backgrounds"][:100]
    ]
    assert (np.sum(found, axis=1) == 1).all()
    assert np.sum(found, axis=0).min() > 20


def _holds(windows, crop):
    """Whether one of `windows` is `crop`; only those that agree in their first pixel are looked at."""
    likely = np.abs(windows[:, :, :, 0, 0] - crop[:, 0, 0]).max(2) < 0.6 / 255  # Pillow rounds to whole 255ths
    return bool((np.abs(windows[likely] - crop) < 0.6 / 255).all((1, 2, 3)).any())


def _reduced(image):
    """Means of 4 by 4 pixels, by Pillow."""
    from PIL import Image

    return Image.fromarray(image[:424]).reduce(4)


@pytest.mark.slow
@pytest.mark.parametrize("state", [0, 1])
def test_digits_can_be_told_from_what_is_below(state):
    drawing = datasets.get("digit_boxes", random_state=state).draw()
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    differences = np.abs((drawing["backgrounds"] - drawing["inks"][:, None, None]) @ weights)
    inked = drawing["covered"] >= 0.3
    shares = ((differences >= 0.35) & inked).sum((1, 2)) / inked.sum((1, 2))
    assert shares.min() >= 0.9
    pale = drawing["inks"].mean(1) > 0.5
    assert 0.3 < pale.mean() < 0.7


def test_the_search_for_contrast_ends():
    grey = np.full((40, 40, 3), 0.5)
    crop, ink = digit_boxes._draw_scene([grey], np.ones((32, 32)), np.random.default_rng(0))
    assert crop.shape == (32, 32, 3)
    assert np.abs(ink - 0.5).min() >= 0.2
    chequered = np.indices((40, 40)).sum(0) % 2
    crop, ink = digit_boxes._draw_scene([np.stack([chequered] * 3, -1)], np.ones((32, 32)), np.random.default_rng(0))
    assert digit_boxes.visible_share(crop, np.ones((32, 32)), ink) == 0.5


def test_sizes_and_aspects_of_boxes_vary():
    x1, y1, x2, y2 = datasets.get("digit_boxes").load().targets.T
    width, height = x2 - x1, y2 - y1
    assert width.max() == height.max() == 20
    assert min(width.min(), height.min()) >= 4
    assert 8 <= np.quantile(height, 0.1) <= 10
    assert np.quantile(height, 0.9) >= 18
    assert np.quantile(width / height, 0.9) / np.quantile(width / height, 0.1) > 1.5
    for low, high in ((x1, x2), (y1, y2)):
        assert (low.min(), high.max()) == (0, 32)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("size", [8, 13, 20])
def test_digits_are_scaled_bilinearly(n, size):
    row = np.random.default_rng(0).random(n)
    wanted = interpolate(torch.as_tensor(row)[None, None], size=size, mode="linear", align_corners=False)[0, 0]
    np.testing.assert_allclose(digit_boxes.interpolation_weights(n, size) @ row, wanted, atol=1e-12)
