"""Protocols: what is tried, and how it is read from a configuration."""

import pytest
from hydra import compose, initialize_config_module

from lossbench.cli.hydra.store import register_choices
from lossbench.config.protocol import Protocol, get_contender
from lossbench.config.resolve import make_plan
from lossbench.errors import LossbenchError
from lossbench.seeds import FIRST_TUNING_SEED


@pytest.fixture
def made():
    """`made(*overrides)`: what a configuration asks for."""
    register_choices()

    def make(*overrides):
        with initialize_config_module("lossbench.configs", version_base="1.3"):
            return make_plan(compose("config", list(overrides)))

    return make


def lrs(found):
    return [e.template.optimizer.lr for e in found.experiments]


def test_quick_tunes_nothing_and_has_five_seeds(made):
    found = made("losses=[mse,mae]")
    assert not found.protocol.tunes
    assert [e.seeds for e in found.experiments] == [tuple(range(5))] * 2


def test_the_grid_is_the_same_for_all_losses_and_around_the_tasks_own_rate(made):
    found = made("losses=[mse,mae]", "protocol=tuned")
    assert lrs(found) == [0.0003, 0.0009, 0.003, 0.009, 0.03] * 2
    assert {e.seeds for e in found.experiments} == {tuple(range(20))}


@pytest.mark.parametrize(
    ("given", "wanted"), [("lr=0.1", [0.01, 0.03, 0.1, 0.3, 1.0]), ("lr=[0.02,0.01]", [0.01, 0.02])]
)
def test_lr_moves_the_grid_and_a_list_is_the_grid(made, given, wanted):
    assert lrs(made("protocol=tuned", given)) == wanted


def test_seeds_that_choose_are_not_those_that_are_reported(made):
    found = made("protocol=tuned")
    tuning = found.protocol.make_tuning_experiment(found.experiments[0])
    assert tuning.seeds == tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + 10))
    assert tuning.rates == found.experiments[0].rates
    clean = made("protocol=tuned", "protocol.tune_at=clean")
    assert clean.protocol.make_tuning_experiment(clean.experiments[0]).rates == (0.0,)


def test_fields_are_tuned_under_the_name_of_their_loss(made):
    found = made("losses=[mse,huber]", "protocol=tuned", "lr=[0.01]", "protocol.search_space={huber:{delta:[0.5,2]}}")
    assert [e.template.loss.label for e in found.experiments] == ["mse", "huber(delta=0.5)", "huber(delta=2.0)"]
    assert [e.template.contender for e in found.experiments] == ["", "huber", "huber"]
    assert len({get_contender(e) for e in found.experiments}) == 2


def test_two_deltas_that_are_listed_compete_with_each_other(made):
    found = made("losses=[{huber:{delta:0.5}},{huber:{delta:2}}]", "protocol=tuned")
    assert len({get_contender(e) for e in found.experiments}) == 2
    assert len(found.experiments) == 10


@pytest.mark.slow
def test_a_search_begins_with_one_experiment_per_loss(made):
    found = made("losses=[mse,huber]", "protocol=tuned", "protocol.search=5")
    assert lrs(found) == [0.003, 0.003]


def test_rigorous_takes_the_tasks_data_sets_and_corruptions_unless_others_are_named(made):
    def parts(*overrides):
        found = made("protocol=rigorous", *overrides).experiments
        return {e.template.data.name for e in found}, {e.template.corruption.name for e in found}

    data, corruptions = parts("task=multiclass")
    assert data == {"digits", "breast_cancer"}
    assert len(corruptions) == 3
    assert parts("task=multiclass", "data=breast_cancer", "corruptions=[symmetric_flips]") == (
        {"breast_cancer"},
        {"symmetric_flips"},
    )
    assert parts("datasets=[friedman1]", "corruption=heavy_tails") == ({"friedman1"}, {"heavy_tails"})


WRONG = {
    "protocol.search_space={hubr:{delta:[1,2]}}": "names 'hubr', which is not among the losses: mse, huber",
    "protocol.search_space={huber:{dlta:[1,2]}}": "Did you mean 'delta'",
    "protocol.search_space={huber:{delta:[1,-2]}}": "Got -2.0",
    "protocol.search_space={huber:{delta:{low:1,high:2}}}": "Set protocol.search=20",
    "protocol.search_space={huber:{delta:{low:1}}}": "must be a list of values, or a range",
    "protocol.search_space=3": "must map losses to those of their fields that are tuned",
    "protocol.tune_at=never": "each_rate",
    "protocol.lr_grid=[]": "must hold at least one factor of the learning rate",
    "protocol.lr_grid=[-1]": "Got -1.0",
    "protocol.search=-1": "Got -1",
    "protocol.seeds=0": "Got 0",
    "lr=[a]": "lr must be a number, or a list of numbers. Got 'a'",
    "lr=a": "lr must be a number, or a list of numbers. Got 'a'",
    "lr=[]": "a list with at least one number",
    "protocol.search=4 protocol.search_space={huber:{delta:{low:2,high:1}}}": "must have low < high. Got low=2, high=1",
    "protocol.search=4 protocol.search_space={huber:{delta:{low:0,high:1,log:true}}}": "as log is set",
    "protocol.search=4 protocol.search_space={huber:{delta:{low:a,high:1}}}": "Got 'a'",
    "seeds=[10000]": "Seeds from 10000 on are for tuning",
    "protocol.tuning_seeds=0 protocol.search=4": "has none",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_settings_are_refused(made, line):
    with pytest.raises(LossbenchError) as caught:
        made("losses=[mse,huber]", "protocol=tuned", *line.split())
    assert WRONG[line] in str(caught.value)


def test_the_ends_of_a_range_are_checked_before_anything_is_trained(made):
    with pytest.raises(LossbenchError, match=r"Got -1\.0"):
        made(
            "losses=[huber]",
            "protocol=tuned",
            "protocol.search=4",
            "protocol.search_space={huber:{delta:{low:-1,high:1}}}",
        )


def test_a_protocol_is_a_value():
    assert Protocol("quick", 5) == Protocol("quick", 5)
    assert not Protocol("quick", 5).tunes
