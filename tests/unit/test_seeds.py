"""Seeds depend on just what they may: that is what makes a comparison paired."""

from dataclasses import make_dataclass, replace

import pytest

from lossbench.seeds import FIRST_SPELLINGS, Purpose, derive_seed, hash_values, trial_id
from lossbench.types import Choice, Optimizer, Trial, define_setting

TRIAL = Trial(
    task=Choice("regression"),
    data=Choice("diabetes"),
    model=Choice("mlp"),
    head="linear",
    loss=Choice("mse"),
    weighting=Choice("none"),
    corruption=Choice("one_sided_outliers"),
    corruption_rate=0.1,
    seed=0,
    optimizer=Optimizer(),
    batch_size=64,
    epochs=10.0,
    evaluations=5,
    metric="mae",
    validation="corrupted",
    split_test=0.25,
    split_validation=0.2,
    precision="32",
)
CHANGES = {
    "seed": {"seed": 1},
    "data": {"data": Choice("friedman1")},
    "model": {"model": Choice.from_fields("mlp", {"width": 8})},
    "corruption": {"corruption": Choice("heavy_tails")},
    "corruption_rate": {"corruption_rate": 0.2},
    "loss": {"loss": Choice("mae")},
    "weighting": {"weighting": Choice("irls")},
    "lr": {"optimizer": Optimizer(lr=0.5)},
    "head": {"head": "mean_scale"},
    "batch size": {"batch_size": 32},
    "epochs": {"epochs": 20.0},
    "metric": {"metric": "rmse"},
    "validation": {"validation": "clean"},
    "precision": {"precision": "64"},
}
# DESIGN: which of the changes each purpose may follow
FOLLOWS = {
    Purpose.TEST: {"data"},
    Purpose.SPLIT: {"data", "seed"},
    Purpose.TRUNK: {"model", "seed"},
    Purpose.HEAD: {"model", "seed"},
    Purpose.LOSS: {"model", "seed"},
    Purpose.ORDER: {"data", "seed"},
    Purpose.CORRUPTION: {"data", "seed", "corruption"},
}


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("change", CHANGES)
def test_a_purpose_follows_its_own_fields_and_no_others(purpose, change):
    changed = derive_seed(purpose, replace(TRIAL, **CHANGES[change])) != derive_seed(purpose, TRIAL)
    assert changed == (change in FOLLOWS[purpose])


def test_purposes_do_not_share_seeds():
    assert len({derive_seed(p, TRIAL) for p in Purpose}) == len(Purpose)


def test_the_hash_is_the_same_on_every_machine():
    """Else records would not be found again: the value was computed once, with Python 3.11 on x86-64."""
    assert hash_values("a", 1, 0.1, Choice.from_fields("huber", {"delta": 2.0}))[:16] == "570bcf3a510e36f2"


@pytest.mark.parametrize("change", CHANGES)
def test_a_trial_is_found_by_everything_that_its_numbers_depend_on(change):
    assert trial_id(replace(TRIAL, **CHANGES[change])) != trial_id(TRIAL)


def test_choices_with_equal_fields_are_equal():
    assert Choice.from_fields("focal", {"gamma": 1.0, "alpha": 0.5}) == Choice.from_fields(
        "focal", {"alpha": 0.5, "gamma": 1.0}
    )
    assert Choice.from_fields("focal", {"gamma": 1.0}).label == "focal(gamma=1.0)"


def test_where_files_lie_changes_no_number():
    """The same files in two folders are the same data: neither a trial's id nor a seed may know the path."""
    here = Choice.from_fields("mnist", {"n": 100}, {"root": "/here"})
    there = Choice.from_fields("mnist", {"n": 100}, {"root": "/there", "download": False})
    assert here == there
    assert hash_values(here) == hash_values(there) != hash_values(Choice.from_fields("mnist", {"n": 200}))
    assert there.fields == {"n": 100, "root": "/there", "download": False}
    assert here.label == "mnist(n=100)"


def test_what_is_renamed_keeps_its_ids_and_seeds(monkeypatch):
    """Classes, choices, their fields and words, also inside other choices: hashes hold their first spellings."""
    terms = Choice.from_fields("combined", {"terms": [{"name": "mse"}, {"name": "huber", "delta": 2.0}]})
    before = replace(TRIAL, loss=terms)
    ids = [trial_id(before), *(derive_seed(purpose, before) for purpose in Purpose)]
    spellings = FIRST_SPELLINGS | {
        "loss/summed": "combined",
        "loss/summed.parts": "terms",
        "loss/squared": "mse",
        "loss/huber.threshold": "delta",
        "data/sugar": "diabetes",
        "metric=absolute": "mae",
        "optimizer.name=adam": "adamw",
    }
    monkeypatch.setattr("lossbench.seeds.FIRST_SPELLINGS", spellings)
    trial_id.cache_clear()
    parts = Choice.from_fields("summed", {"parts": [{"name": "squared"}, {"name": "huber", "threshold": 2.0}]})
    after = replace(TRIAL, loss=parts, data=Choice("sugar"), metric="absolute", optimizer=Optimizer(name="adam"))
    assert [trial_id(after), *(derive_seed(purpose, after) for purpose in Purpose)] == ids
    assert trial_id(replace(after, loss=Choice("summed"))) != ids[0]


def test_a_renamed_field_of_a_trial_keeps_its_id(monkeypatch):
    monkeypatch.setattr("lossbench.seeds.FIRST_SPELLINGS", {"Trial.epochs": "passes"})
    trial_id.cache_clear()
    renamed = trial_id(TRIAL)
    trial_id.cache_clear()
    monkeypatch.setattr("lossbench.seeds.FIRST_SPELLINGS", {"Trial.corruption_rate": "rate"})
    assert renamed != trial_id(TRIAL)


def test_a_setting_that_is_added_later_keeps_the_ids_of_what_is_on_record():
    added = define_setting("optimizer.floor", "of the learning rate", default=0.0, added_later=True)
    kind = make_dataclass("Optimizer", [("floor", float, added)], bases=(Optimizer,), frozen=True)
    assert trial_id(replace(TRIAL, optimizer=kind())) == trial_id(TRIAL)
    assert trial_id(replace(TRIAL, optimizer=kind(floor=0.1))) != trial_id(TRIAL)
