"""Numbers of two digits: what is on each canvas, and that no image of a digit is in two classes."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lossbench import datasets
from lossbench.errors import InvalidValue

PIXELS, LABELS = load_digits(return_X_y=True)
IMAGES = (PIXELS / 16).reshape(-1, 8, 8)


@pytest.fixture(scope="module")
def drawing():
    return datasets.get("digit_pairs", n=3000, random_state=1).draw()


def test_the_digits_are_those_of_the_number(drawing):
    tens, units = LABELS[drawing["pasted"]].T
    np.testing.assert_array_equal(10 * tens + units, drawing["targets"])


def test_classes_are_equally_many(drawing):
    assert set(np.bincount(drawing["targets"])) == {30}


def test_no_image_is_in_two_classes_nor_on_both_sides(drawing):
    owners = {}
    for number, pair in zip(drawing["targets"], drawing["pasted"], strict=True):
        for side, image in enumerate(pair):
            assert owners.setdefault(image, (number, side)) == (number, side)
    per_owner = np.unique(list(owners.values()), axis=0, return_counts=True)[1]
    assert len(per_owner) == 200
    assert 5 <= per_owner.min() <= per_owner.max() <= 10


def test_each_half_holds_its_digit_at_one_of_nine_places(drawing):
    places = set()
    for canvas, pair in zip(drawing["inputs"][:300, 0], drawing["pasted"], strict=False):
        for side, image in enumerate(pair):
            half = canvas[:, 10 * side : 10 * side + 10]
            found = [
                (i, j) for i in range(3) for j in range(3) if np.array_equal(half[i : i + 8, j : j + 8],
                                                                             IMAGES[image].astype(np.float32))
            ]  # fmt: skip
            assert found
            places |= set(found)
            assert half.sum() == pytest.approx(IMAGES[image].sum(), rel=1e-5)
    assert len(places) == 9


def test_loading_gives_what_was_drawn_with_its_names(drawing):
    examples = datasets.get("digit_pairs", n=3000, random_state=1).load()
    np.testing.assert_array_equal(examples.inputs, drawing["inputs"])
    np.testing.assert_array_equal(examples.targets, drawing["targets"])
    assert (examples.class_names[0], examples.class_names[7], examples.class_names[99]) == ("00", "07", "99")


def test_n_is_rounded_down_and_of_two_each_at_least():
    assert len(datasets.get("digit_pairs", n=299).load().inputs) == 200
    with pytest.raises(InvalidValue, match=r"'n' parameter of DigitPairs must be an int in the range \[200, inf\)"):
        datasets.get("digit_pairs", n=100)
