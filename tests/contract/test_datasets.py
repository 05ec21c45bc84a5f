"""What every data set must do."""

from dataclasses import is_dataclass

import numpy as np
import pytest

from lossbench import registry
from lossbench.types import Examples

DATASETS = registry.datasets.names()


@pytest.mark.parametrize("name", DATASETS)
def test_data_set_is_documented_and_says_where_it_comes_from(name):
    kind = registry.datasets.find(name)
    assert kind.__doc__
    assert kind.source
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("name", DATASETS)
def test_loading_gives_the_same_finite_examples_each_time(name):
    first, second = registry.datasets.get(name).load(), registry.datasets.get(name).load()
    assert isinstance(first, Examples)
    assert first.inputs.dtype == np.float32
    assert len(first.inputs) == len(first.targets)
    np.testing.assert_array_equal(first.inputs, second.inputs)
    np.testing.assert_array_equal(first.targets, second.targets)
    assert np.isfinite(first.inputs).all()
    assert np.isfinite(first.targets).all()


@pytest.mark.parametrize("name", DATASETS)
def test_targets_fit_every_declared_task(name):
    dataset = registry.datasets.get(name)
    assert dataset.tasks
    for task in dataset.tasks:
        assert registry.tasks.get(task).n_outputs(dataset.load()) >= 1
