"""The embedding task: classes are held out, labels go wrong among those of a split, all losses of embeddings fit."""

import numpy as np
import pytest
import torch
from stack.conftest import make_trials  # noqa: F401

from lossbench import registry, tasks
from lossbench.corruptions import WrongIdentities
from lossbench.errors import Incompatible
from lossbench.interfaces import Dataset, Scaling
from lossbench.training import data as preparing
from lossbench.training.data import prepare
from lossbench.types import Encoding, Examples, Problem, Space

TASK = tasks.get("embedding")
NONE = Scaling(torch.zeros(1), torch.ones(1))


def classes(prepared, rows):
    return set(prepared.targets[rows].tolist())


@pytest.mark.slow
def test_splits_share_no_class_and_test_classes_depend_on_the_data_alone(make_trials):  # noqa: F811
    prepared, _ = prepare(make_trials("task=embedding", "rates=[0]", "seeds=3"))
    test, validations = classes(prepared, prepared.test), []
    for variant in prepared.variants:
        train, validation = (classes(prepared, part.targets) for part in (variant.train, variant.validation))
        assert (len(train), len(validation), len(test)) == (60, 15, 25)
        assert len(train | validation | test) == 100
        validations.append(frozenset(validation))
    assert len(set(validations)) > 1


@pytest.mark.slow
def test_a_split_of_one_class_is_refused_with_the_settings_that_make_it(make_trials):  # noqa: F811
    trials = make_trials("task=embedding", "rates=[0]", "seeds=1", "split.validation=0.01")
    with pytest.raises(Incompatible, match=r"leaves validation a single class.*split.validation=0.01"):
        prepare(trials)


def test_wrong_identities_stay_among_the_classes_of_their_split(make_trials):  # noqa: F811
    trials = make_trials("task=embedding", "rates=[0,0.4]", "seeds=1")
    prepared, _ = prepare(trials)
    clean, dirty = prepared.variants
    for part in ("train", "validation"):
        before, after = (prepared.targets[getattr(v, part).targets] for v in (clean, dirty))
        assert (before != after).sum() == round(0.4 * len(before))
        assert set(after) <= set(before)


def test_wrong_identities_are_all_other_classes_alike():
    targets = np.array([3, 5, 9, 12]).repeat(3000)
    drawn = WrongIdentities()(Examples(np.zeros((12000, 1)), targets), np.random.default_rng(0))
    assert drawn.eligible.all()
    for before in (3, 5, 9, 12):
        others, counts = np.unique(drawn.targets[targets == before], return_counts=True)
        assert set(others) == {3, 5, 9, 12} - {before}
        assert counts.min() > 900  # 1000 each; 4 standard deviations are 103


def test_a_single_class_cannot_be_mistaken():
    drawn = WrongIdentities()(Examples(np.zeros((4, 1)), np.full(4, 7)), np.random.default_rng(0))
    assert not drawn.eligible.any()


@pytest.mark.parametrize(("held", "kept"), [([6, 7], True), ([5, 7], False)])
def test_a_test_split_of_the_data_counts_if_its_classes_are_held_out(held, kept):
    test = np.array([r for r in range(16) if r // 2 in held])
    test = test if kept else test[:-1]
    examples = Examples(np.zeros((16, 1), np.float32), np.arange(16) // 2, test=test)
    found = preparing.group_by_class(TASK, examples)
    assert (found.test is not None) == kept
    np.testing.assert_array_equal(found.groups, examples.targets)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.arange(20) % 5, "at least 6, two for each split. Got 5"),
        (np.linspace(0, 1, 20), r"whole-number targets of shape \[N\]. Got float64"),
        (np.zeros((20, 2), int), r"Got int64 of shape \[20, 2\]"),
    ],
)
def test_targets_that_do_not_fit(targets, message):
    with pytest.raises(Incompatible, match=message):
        TASK.count_outputs(Examples(np.zeros((20, 1)), targets))


def test_what_is_measured_is_the_embedding_itself():
    raw, problem = torch.randn(2, 5, 32), Problem((1,), 10, 5)
    assert TASK.predict(raw, Space.EMBEDDING, problem, NONE) is raw
    assert TASK.convert(raw, Space.EMBEDDING, NONE) is raw
    assert TASK.encode(torch.tensor([1, 2]), Encoding.INDEX, problem, NONE).tolist() == [1, 2]
    assert TASK.count_per_class(np.array([1, 1, 4]), problem).tolist() == [0, 2, 0, 0, 1, 0, 0, 0, 0, 0]


def test_every_loss_of_embeddings_is_there():
    own = {n for n, e in registry.losses.entries().items() if e.kind.__module__.startswith("lossbench.losses")}
    found = {n for n in registry.losses.names("embedding") if n in own}
    wanted = {n for n in own if getattr(registry.losses.find(n), "space", None) is Space.EMBEDDING}
    assert {"arcface", "triplet", "supcon"} <= wanted <= found


def test_data_of_images_in_classes_fit():
    fits = set(registry.datasets.names("embedding"))
    assert {"digit_pairs", "cifar100"} <= fits
    assert not fits & {"digits", "digit_boxes"}
    assert all(issubclass(registry.datasets.find(name), Dataset) for name in fits)
