"""What the corruptions do to sets of labels."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from lossbench import corruptions
from lossbench.errors import Incompatible, InvalidValue
from lossbench.types import Examples

N, L = 3000, 6
LABELS = (np.random.default_rng(100).random((N, L)) < np.linspace(0.2, 0.7, L)).astype(np.int64)
EXAMPLES = Examples(np.zeros((N, 3), np.float32), LABELS, tuple("abcdef"))
N_POSITIVES = LABELS.sum(1)


def draw(name, examples=EXAMPLES, seed=0, **fields):
    return corruptions.get(name, **fields)(examples, np.random.default_rng(seed))


@pytest.mark.parametrize("share", ["0.01", "0.3", "0.5", "0.75", "1"])
def test_missing_positives_loses_exactly_the_share_rounded_up(share):
    drawn = draw("missing_positives", share=float(share))
    n_lost = [math.ceil(Fraction(share) * int(n)) for n in N_POSITIVES]
    assert set(n_lost) != {0}
    np.testing.assert_array_equal((LABELS - drawn.targets).sum(1), n_lost)
    assert ((LABELS - drawn.targets) >= 0).all()  # none is added


def test_missing_positives_rounds_no_rounding_error_up():
    targets = np.ones((1, 25), np.int64)
    assert 0.56 * 25 > 14
    assert draw("missing_positives", Examples(np.zeros((1, 1)), targets), share=0.56).targets.sum() == 11


def test_rows_without_positives_cannot_miss_any():
    drawn = draw("missing_positives")
    np.testing.assert_array_equal(drawn.eligible, N_POSITIVES > 0)
    assert not drawn.eligible.all()
    assert (drawn.targets != LABELS).any(1)[drawn.eligible].all()


def test_which_positives_are_missed_is_drawn_alike():
    full = Examples(EXAMPLES.inputs, np.ones((N, L), np.int64))
    missed = draw("missing_positives", full, share=0.2).targets == 0  # 2 of 6
    assert (missed.sum(1) == 2).all()
    assert stats.chisquare(missed.sum(0)).pvalue > 1e-3


@pytest.mark.parametrize("count", [1, 2, L])
def test_label_flips_flips_exactly_the_count(count):
    drawn = draw("label_flips", count=count)
    flipped = drawn.targets != LABELS
    assert (flipped.sum(1) == count).all()
    assert drawn.eligible is None
    assert set(np.unique(drawn.targets)) == {0, 1}
    assert count == L or stats.chisquare(flipped.sum(0)).pvalue > 1e-3


def test_label_flips_cannot_flip_more_than_there_are():
    with pytest.raises(Incompatible, match="cannot flip 7 of 6 labels"):
        draw("label_flips", count=7)


@pytest.mark.parametrize("name", ["missing_positives", "label_flips"])
def test_draws_depend_on_the_generator_alone(name):
    first, second, other = draw(name, seed=3), draw(name, seed=3), draw(name, seed=4)
    np.testing.assert_array_equal(first.targets, second.targets)
    assert (first.targets != other.targets).any()
    assert first.targets.dtype == LABELS.dtype
    assert first.inputs is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [("missing_positives", {"share": 0.0}), ("missing_positives", {"share": 1.1}), ("label_flips", {"count": 0})],
)
def test_fields_are_checked(name, fields):
    with pytest.raises(InvalidValue, match=f"'{next(iter(fields))}' parameter of"):
        corruptions.get(name, **fields)


def test_names_by_task():
    assert corruptions.list_names("multilabel") == ["feature_outliers", "label_flips", "missing_positives", "none"]
