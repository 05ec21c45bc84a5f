"""What the corruptions do to labels, targets and inputs."""

import numpy as np
import pytest
from scipy import stats

from lossbench import corruptions
from lossbench.errors import InvalidValue, UnknownName
from lossbench.types import Examples

N = 4000
LABELS = np.random.default_rng(100).integers(0, 4, N)  # not the stream that the flips are drawn from
CLASSES = Examples(np.zeros((N, 3), np.float32), LABELS, ("a", "b", "c", "d"))
BINARY = Examples(np.zeros((N, 3), np.float32), LABELS % 2)
VALUES = Examples(np.zeros((N, 3), np.float32), np.random.default_rng(1).normal([5.0, -3.0], [1.0, 10.0], (N, 2)))
ROBUST = 1.4826 * stats.median_abs_deviation(VALUES.targets)


def draw(name, examples, seed=0, **fields):
    return corruptions.get(name, **fields)(examples, np.random.default_rng(seed))


def shifts(name, **fields):
    return (draw(name, VALUES, **fields).targets - VALUES.targets) / ROBUST


def test_none_leaves_everything_and_offers_no_row():
    drawn = draw("none", CLASSES)
    assert drawn.inputs is None
    assert drawn.targets is None
    assert not drawn.eligible.any()


def test_symmetric_flips_go_to_each_other_class_alike():
    after = draw("symmetric_flips", CLASSES).targets
    table = np.zeros((4, 4), int)
    np.add.at(table, (LABELS, after), 1)
    assert (table.diagonal() == 0).all()
    others = table[~np.eye(4, dtype=bool)].reshape(4, 3)
    assert stats.chisquare(others, axis=1).pvalue.min() > 1e-3


def test_symmetric_flips_of_two_classes_swap_them():
    np.testing.assert_array_equal(draw("symmetric_flips", BINARY).targets, 1 - BINARY.targets)


def test_symmetric_flips_of_one_class_that_is_left_go_to_the_other():
    only = Examples(np.zeros((3, 1)), np.zeros(3, int))
    np.testing.assert_array_equal(draw("symmetric_flips", only).targets, 1)


def test_asymmetric_flips_go_to_the_next_class():
    drawn = draw("asymmetric_flips", CLASSES)
    np.testing.assert_array_equal(drawn.targets, (LABELS + 1) % 4)
    assert drawn.eligible.all()


def test_asymmetric_flips_of_two_classes_lose_positives():
    drawn = draw("asymmetric_flips", BINARY)
    assert (drawn.targets == 0).all()
    np.testing.assert_array_equal(drawn.eligible, BINARY.targets == 1)


@pytest.mark.parametrize("pairs", [{"a": "d", "c": "b"}, {"0": "3", "2": "1"}])
def test_asymmetric_flips_by_pairs(pairs):
    drawn = draw("asymmetric_flips", CLASSES, pairs=pairs)
    np.testing.assert_array_equal(drawn.targets, np.array([3, 1, 1, 3])[LABELS])
    np.testing.assert_array_equal(drawn.eligible, np.isin(LABELS, [0, 2]))


def test_asymmetric_flips_refuses_a_class_for_itself():
    with pytest.raises(InvalidValue, match="'a' for itself"):
        corruptions.get("asymmetric_flips", pairs={"a": "a"})


@pytest.mark.parametrize("pairs", [{"aa": "b"}, {"a": "4"}])
def test_asymmetric_flips_refuses_an_unknown_class(pairs):
    with pytest.raises(UnknownName, match="Classes: a, b, c, d"):
        draw("asymmetric_flips", CLASSES, pairs=pairs)


def test_one_sided_outliers_go_up_by_the_asked_number_of_deviations():
    shift = shifts("one_sided_outliers")
    assert 10 <= shift.min() < 10.1
    assert 14.9 < shift.max() <= 15
    assert stats.kstest(shift[:, 0], stats.uniform(10, 5).cdf).pvalue > 1e-3


def test_symmetric_outliers_go_both_ways_alike():
    shift = shifts("symmetric_outliers", low=2.0, high=3.0)
    assert np.abs(shift).min() >= 2
    assert np.abs(shift).max() <= 3
    assert stats.binomtest(int((shift[:, 0] > 0).sum()), N).pvalue > 1e-3
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.06  # outputs are moved independently


def test_heavy_tails_are_student_t():
    shift = shifts("heavy_tails", df=3.0, scale=0.5)
    assert stats.kstest(shift[:, 0] / 0.5, stats.t(3).cdf).pvalue > 1e-3


def test_the_scale_is_not_moved_by_outliers_already_there():
    targets = VALUES.targets.copy()
    targets[:400] += 1e6
    after = corruptions.get("one_sided_outliers")(Examples(VALUES.inputs, targets), np.random.default_rng(0)).targets
    assert (after - targets).max() < 15 * 1.3 * ROBUST.max()


def test_feature_outliers_move_the_asked_share_of_those_that_vary():
    inputs = np.random.default_rng(2).normal(0, [1, 2, 3, 4, 5, 0], (N, 6)).astype(np.float32)
    after = draw("feature_outliers", Examples(inputs, LABELS), share=0.4).inputs
    moved = after != inputs
    assert (moved.sum(1) == 2).all()  # 0.4 of 5
    assert not moved[:, 5].any()
    assert stats.chisquare(moved[:, :5].sum(0)).pvalue > 1e-3
    deviations = np.abs(after - inputs)[:, :5] / inputs[:, :5].std(0)
    assert deviations[moved[:, :5]].min() > 9.99
    assert deviations.max() < 15.01


def test_feature_outliers_move_at_least_one_feature():
    inputs = np.random.default_rng(2).random((50, 1, 2, 2), np.float32)
    after = draw("feature_outliers", Examples(inputs, LABELS[:50]), share=0.01).inputs
    assert ((after != inputs).sum((1, 2, 3)) == 1).all()


def test_feature_outliers_leave_inputs_that_never_vary():
    after = draw("feature_outliers", CLASSES).inputs
    np.testing.assert_array_equal(after, CLASSES.inputs)


@pytest.mark.parametrize("name", ["symmetric_outliers", "one_sided_outliers", "feature_outliers"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low": -1.0}, "'low' parameter"),
        ({"high": 0.0}, "'high' parameter"),
        ({"low": 5.0, "high": 2.0}, "must not be above 'high'. Got 5.0 and 2.0"),
    ],
)
def test_ranges_are_checked(name, fields, message):
    with pytest.raises(InvalidValue, match=message):
        corruptions.get(name, **fields)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("heavy_tails", {"df": 0.0}), ("heavy_tails", {"scale": -1.0}), ("feature_outliers", {"share": 0.0}),
     ("feature_outliers", {"share": 1.1})],
)  # fmt: skip
def test_other_fields_are_checked(name, fields):
    with pytest.raises(InvalidValue, match=f"'{next(iter(fields))}' parameter of"):
        corruptions.get(name, **fields)


def test_names_by_task():
    assert corruptions.list_names("regression") == [
        "feature_outliers",
        "heavy_tails",
        "none",
        "one_sided_outliers",
        "symmetric_outliers",
    ]
    assert "symmetric_flips" in corruptions.list_names("binary")
