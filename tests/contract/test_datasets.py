"""What every data set must do."""

from dataclasses import is_dataclass

import numpy as np
import pytest
from registered import built_in
from unit.data_files import FIELDS, Web, no_network

from lossbench import registry
from lossbench.types import Examples

DATASETS = built_in(registry.datasets)
LOADED = [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("digit_")) for name in DATASETS]
"""Those of digits are drawn first, which takes a second."""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that makes a data set for a task; a public one downloads small files in its format, from no web."""
    no_network(monkeypatch)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))

    def make(name, task):
        if not registry.datasets.find(name).public:
            return registry.datasets.get(name)
        Web(monkeypatch).offer(name)
        fields = FIELDS.get(name, {}).get(task, {})
        return registry.datasets.get(name, root=str(tmp_path / "data"), **fields)

    return make


@pytest.mark.parametrize("name", DATASETS)
def test_data_set_is_documented_and_says_where_it_comes_from(name):
    kind = registry.datasets.find(name)
    assert kind.__doc__
    assert kind.source
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("name", LOADED)
def test_loading_gives_the_same_finite_examples_each_time(name, made):
    first, second = (made(name, registry.datasets.find(name).tasks[0]).load() for _ in range(2))
    assert isinstance(first, Examples)
    assert first.inputs.dtype == np.float32
    assert len(first.inputs) == len(first.targets)
    np.testing.assert_array_equal(first.inputs, second.inputs)
    np.testing.assert_array_equal(first.targets, second.targets)
    assert np.isfinite(first.inputs).all()
    assert np.isfinite(first.targets).all()


@pytest.mark.parametrize("name", LOADED)
def test_targets_fit_every_declared_task(name, made):
    tasks = registry.datasets.find(name).tasks
    assert tasks
    for task in tasks:
        assert registry.tasks.get(task).count_outputs(made(name, task).load()) >= 1
