"""What every corruption must do, on data of every task that it fits."""

from dataclasses import is_dataclass

import numpy as np
import pytest
from registered import built_in

from lossbench import registry
from lossbench.types import Examples

DATA = {task: registry.tasks.find(task).defaults["data"] for task in built_in(registry.tasks)}
PAIRS = [(name, task) for task in DATA for name in built_in(registry.corruptions, task)]
ASSURED = [pair for pair in PAIRS if pair[0] != "none"]


def load(task):
    """The task's own data, of no more than 300 rows where they are made."""
    kind = registry.datasets.find(DATA[task])
    return kind(**({"n": 300} if "n" in registry.get_annotations(kind) else {})).load()


def draw(name, task, seed=0):
    examples = load(task)
    return examples, registry.corruptions.get(name)(examples, np.random.default_rng(seed))


def changed(before, after):
    return (before != after).reshape(len(before), -1).any(1)


@pytest.mark.parametrize("name", built_in(registry.corruptions))
def test_corruption_is_documented_and_frozen(name):
    kind = registry.corruptions.find(name)
    assert kind.__doc__
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_same_generator_same_values_and_the_clean_examples_stay(name, task):
    examples, first = draw(name, task)
    _, second = draw(name, task)
    clean = load(task)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(examples.inputs, clean.inputs)
    np.testing.assert_array_equal(examples.targets, clean.targets)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_shapes_and_kinds_are_those_of_the_examples(name, task):
    examples, drawn = draw(name, task)
    for after, before in ((drawn.inputs, examples.inputs), (drawn.targets, examples.targets)):
        if after is not None:
            assert (after.shape, after.dtype) == (before.shape, before.dtype)
            assert np.isfinite(after).all()
    if drawn.eligible is not None:
        assert (drawn.eligible.shape, drawn.eligible.dtype) == ((len(examples.targets),), np.dtype(bool))


@pytest.mark.parametrize(("name", "task"), ASSURED)
def test_every_eligible_row_really_changes(name, task):
    examples, drawn = draw(name, task)
    rows = np.zeros(len(examples.targets), dtype=bool)
    for after, before in ((drawn.inputs, examples.inputs), (drawn.targets, examples.targets)):
        rows |= False if after is None else changed(before, after)
    eligible = np.ones_like(rows) if drawn.eligible is None else drawn.eligible
    assert eligible.any()
    assert rows[eligible].all()


@pytest.mark.parametrize(("name", "task"), ASSURED)
def test_corrupted_examples_still_fit_the_task(name, task):
    examples, drawn = draw(name, task)
    if drawn.targets is not None:
        kind = registry.tasks.get(task)
        after = Examples(examples.inputs, drawn.targets, examples.class_names)
        assert kind.count_outputs(after) == kind.count_outputs(examples)
