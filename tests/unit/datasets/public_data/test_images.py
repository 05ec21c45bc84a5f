"""Images in classes, from small files in the formats of MNIST and CIFAR."""

import numpy as np
import pytest
from unit.data_files import coloured, grey, labels

from lossbench import datasets
from lossbench.errors import InvalidValue


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_grey_images_are_read_as_they_were_written(name, web):
    web.offer(name)
    examples = datasets.get(name).load()
    expected = np.concatenate([labels(60), labels(30)])
    assert examples.inputs.dtype == np.float32
    assert examples.inputs.shape == (90, 1, 28, 28)
    assert examples.inputs.flags.c_contiguous
    np.testing.assert_array_equal(examples.targets, expected)
    np.testing.assert_allclose(examples.inputs[:, 0], grey(expected) / 255, rtol=1e-6)
    np.testing.assert_array_equal(examples.test, np.arange(60, 90))
    assert examples.class_names[::9] == {"mnist": ("0", "9"), "fashion_mnist": ("T-shirt/top", "Ankle boot")}[name]


@pytest.mark.parametrize(
    ("name", "n_classes", "n_train", "n_test"), [("cifar10", 10, 60, 30), ("cifar100", 100, 600, 100)]
)
def test_colour_images_are_read_as_they_were_written(name, n_classes, n_train, n_test, web):
    web.offer(name)
    examples = datasets.get(name).load()
    expected = np.concatenate([labels(n_train, n_classes), labels(n_test, n_classes)])
    np.testing.assert_array_equal(examples.targets, expected)
    np.testing.assert_allclose(examples.inputs, coloured(expected).reshape(-1, 3, 32, 32) / 255, rtol=1e-6)
    assert examples.inputs.flags.c_contiguous
    np.testing.assert_array_equal(examples.test, n_train + np.arange(n_test))
    assert len(examples.class_names) == n_classes
    assert examples.class_names[3] in {"cat", "kind 3"}


def test_fewer_rows_keep_the_classes_in_proportion(web):
    web.offer("mnist")
    examples = datasets.get("mnist", n=30, n_test=10).load()
    np.testing.assert_array_equal(examples.test, np.arange(30, 40))
    np.testing.assert_array_equal(np.bincount(examples.targets[:30]), np.full(10, 3))
    np.testing.assert_array_equal(np.bincount(examples.targets[30:]), np.ones(10))
    np.testing.assert_allclose(examples.inputs[:, 0, 1, 1], examples.targets * 20 / 255, rtol=1e-6)  # rows stay whole
    other = datasets.get("mnist", n=30, n_test=10, random_state=1).load()
    assert (other.targets != examples.targets).any()


def test_more_rows_than_there_are_is_an_error(web):
    web.offer("mnist")
    with pytest.raises(InvalidValue, match=r"data.n_test=31 asks for more examples than there are: 30"):
        datasets.get("mnist", n_test=31).load()
