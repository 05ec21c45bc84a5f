"""What the corruptions do to boxes."""

import numpy as np
import pytest
from scipy import stats

from lossbench import corruptions
from lossbench.errors import InvalidValue
from lossbench.types import Examples

N = 4000
DRAW = np.random.default_rng(100)
LOW = DRAW.normal([10.0, 30.0], [2.0, 6.0], (N, 2))
SIZE = DRAW.uniform(2, 12, (N, 2))
BOXES = Examples(np.zeros((N, 1), np.float32), np.concatenate([LOW, LOW + SIZE], 1))
KINDS = ("box_jitter", "box_truncation", "box_swap", "box_outliers")


def draw(name, examples=BOXES, seed=0, **fields):
    return corruptions.get(name, **fields)(examples, np.random.default_rng(seed))


def moved(name, **fields):
    """How far each corner coordinate went, in widths and heights."""
    return (draw(name, **fields).targets - BOXES.targets) / np.tile(SIZE, 2)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_box_changes_and_is_still_a_box(name, dtype):
    examples = Examples(BOXES.inputs, BOXES.targets.astype(dtype))
    drawn = draw(name, examples)
    assert drawn.targets.dtype == dtype
    assert (drawn.targets[:, :2] < drawn.targets[:, 2:]).all()
    assert (drawn.targets != examples.targets).any(1).all()
    assert drawn.eligible is None or drawn.eligible.all()


@pytest.mark.parametrize("share", [0.3, 0.499])
def test_jitter_moves_each_side_by_up_to_the_share(share):
    steps = moved("box_jitter", share=share)
    assert stats.kstest(steps.ravel(), stats.uniform(-share, 2 * share).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(steps.T) - np.eye(4)).max() < 0.06  # sides are moved independently
    after = draw("box_jitter", share=share).targets
    assert (after[:, :2] < after[:, 2:]).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncation_cuts_the_share_off_one_side(share):
    steps = moved("box_truncation", share=share)
    cut = np.abs(steps) > 1e-9
    assert (cut.sum(1) == 1).all()
    assert stats.chisquare(cut.sum(0)).pvalue > 1e-3
    np.testing.assert_allclose(steps[cut], (np.array([1, 1, -1, -1]) * share * cut)[cut])


def test_swap_gives_every_box_to_another_image():
    drawn = draw("box_swap")
    order = np.lexsort(BOXES.targets.T)
    np.testing.assert_array_equal(drawn.targets[np.lexsort(drawn.targets.T)], BOXES.targets[order])
    assert abs(stats.pearsonr(drawn.targets[:, 0], BOXES.targets[:, 0]).statistic) < 0.06


def test_swap_spares_images_that_would_get_an_equal_box():
    examples = Examples(np.zeros((6, 1)), np.repeat([[0.0, 0, 1, 1], [0, 0, 2, 2]], [5, 1], axis=0))
    drawn = draw("box_swap", examples)
    np.testing.assert_array_equal(drawn.eligible, (drawn.targets != examples.targets).any(1))
    assert drawn.eligible.sum() == 2


def test_outliers_go_in_all_directions_by_the_asked_number_of_deviations():
    shift = draw("box_outliers", low=5.0, high=8.0).targets - BOXES.targets
    np.testing.assert_allclose(shift[:, :2], shift[:, 2:], atol=1e-9)  # sizes stay
    spread = 1.4826 * stats.median_abs_deviation(BOXES.targets[:, :2] + SIZE / 2)
    x, y = (shift[:, :2] / spread).T
    assert stats.kstest(np.hypot(x, y), stats.uniform(5, 3).cdf).pvalue > 1e-3
    assert stats.kstest(np.arctan2(y, x), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_outliers_of_equal_centres_still_move():
    alike = Examples(BOXES.inputs[:9], np.tile([0.0, 0, 2, 2], (9, 1)))
    assert (np.abs(draw("box_outliers", alike).targets).max(1) > 5).all()


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("box_jitter", {"share": 0.5}, "'share' parameter of BoxJitter"),
        ("box_jitter", {"share": 0.0}, "'share' parameter"),
        ("box_truncation", {"share": 1.0}, "'share' parameter of BoxTruncation"),
        ("box_truncation", {"share": 0.0}, "'share' parameter"),
        ("box_outliers", {"low": -1.0}, "'low' parameter"),
        ("box_outliers", {"low": 5.0, "high": 2.0}, "must not be above 'high'"),
    ],
)
def test_fields_out_of_range(name, fields, message):
    with pytest.raises(InvalidValue, match=message):
        corruptions.get(name, **fields)


def test_names():
    assert set(KINDS) <= set(corruptions.list_names("boxes"))
    assert not set(KINDS) & set(corruptions.list_names("regression"))
