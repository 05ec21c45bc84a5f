"""Facts of the built-in data sets, as their sources state them."""

import numpy as np
import pytest
from registered import built_in

from lossbench import datasets, registry
from lossbench.errors import InvalidValue


def test_diabetes_keeps_its_units():
    examples = datasets.get("diabetes").load()
    assert (examples.inputs.shape, examples.targets.shape) == ((442, 10), (442, 1))
    assert (examples.targets.min(), examples.targets.max()) == (25, 346)  # scikit-learn's description
    assert examples.inputs[:, 0].max() == 79  # age in years


def test_breast_cancer_counts_benign_as_positive():
    examples = datasets.get("breast_cancer").load()
    assert examples.class_names == ("malignant", "benign")
    assert np.bincount(examples.targets).tolist() == [212, 357]  # scikit-learn's description


def test_digits_are_images_between_zero_and_one():
    examples = datasets.get("digits").load()
    assert examples.inputs.shape == (1797, 1, 8, 8)
    assert (examples.inputs.min(), examples.inputs.max()) == (0, 1)
    assert examples.class_names == tuple("0123456789")
    assert np.bincount(examples.targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_friedman1_without_noise_is_its_formula():
    examples = datasets.get("friedman1", n=50, noise=0.0, random_state=3).load()
    x = examples.inputs.astype(np.float64).T
    y = 10 * np.sin(np.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4]
    np.testing.assert_allclose(examples.targets[:, 0], y, rtol=1e-5)  # inputs are float32


def test_friedman1_fields():
    assert len(datasets.get("friedman1", n=7).load().targets) == 7
    one, other = (datasets.get("friedman1", random_state=seed).load() for seed in (0, 1))
    assert (one.targets != other.targets).all()


@pytest.mark.parametrize("fields", [{"n": 0}, {"noise": -1.0}, {"random_state": -1}])
def test_friedman1_refuses(fields):
    with pytest.raises(InvalidValue, match=f"'{next(iter(fields))}' parameter of Friedman1"):
        datasets.get("friedman1", **fields)


def test_names_by_task():
    assert built_in(registry.datasets, "regression") == [
        "diabetes",
        "friedman1",
        "friedman_outputs",
        "linnerud",
        "openml",
    ]
    assert "digits" not in datasets.list_names("binary")
