"""Advice: that every rule can be followed, and that facts find the right ones."""

import shlex
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_module
from registered import built_in

from lossbench import registry
from lossbench.advice import FACTS, Condition, list_rules, matching
from lossbench.advice.rules import parse_rule
from lossbench.cli.commands.check import run_check
from lossbench.cli.hydra import overrides
from lossbench.cli.hydra.store import register_choices
from lossbench.cli.output import OutputMode
from lossbench.config.resolve import resolve
from lossbench.errors import LossbenchError, UnknownName

RULES = list_rules()
TASKS = list(dict.fromkeys(rule.task for rule in RULES))
PLAIN = {
    "id": "one",
    "task": "regression",
    "title": "Title",
    "losses": ["huber"],
    "because": "so",
    "source": "https://example.org",
    "try": "lossbench task=regression",
}


@pytest.fixture(scope="module")
def hydra():
    """Hydra with our configuration, set up once."""
    register_choices()
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        yield


def first(task, **facts):
    return [loss.name for loss in matching(task, facts)[0].losses]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_is_of_losses_and_weightings_for_its_task(rule):
    for registered, choices in ((registry.losses, rule.losses), (registry.weightings, rule.weightings)):
        for choice in choices:
            assert {rule.task, "*"} & set(registered.build(choice).tasks)
    assert rule.losses


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_is_told_in_full(rule):
    assert rule.id.startswith(f"{rule.task}-")
    assert rule.source.startswith("https://")
    for text in (rule.title, rule.because, rule.pitfall):
        assert 15 < len(text) < 400
    for condition in rule.when:
        if condition.fact == "metric":
            assert rule.task in registry.metrics.find(condition.value).tasks


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_command_compares_the_recommended_losses(rule, hydra):
    """It composes and resolves; nothing is trained."""
    program, *words = shlex.split(rule.command)
    assert program == "lossbench"
    if words[0] == "check":
        assert words[1] in [loss.name for loss in rule.losses]
        assert run_check(words[1:], OutputMode.QUIET) == 0
        return
    overrides.check_overrides(words, sweep=False)
    experiments = resolve(compose("config", words))
    compared = {e.template.loss.name for e in experiments}
    assert rule.losses[0].name in compared
    assert len({(e.template.loss, e.template.weighting) for e in experiments}) > 1 or len(rule.losses) == 1
    assert {e.template.task.name for e in experiments} == {rule.task}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_says_what_to_take_where_nothing_is_known(task):
    usual = matching(task, {})
    assert usual
    if task in registry.tasks.names():
        assert registry.tasks.find(task).defaults["loss"] in {loss.name for loss in usual[0].losses}


def test_every_registered_task_and_every_fact_has_rules():
    assert set(built_in(registry.tasks)) <= set(TASKS)
    asked = {condition.fact for rule in RULES for condition in rule.when}
    assert asked == set(FACTS)


def test_facts_find_the_losses_that_were_measured_to_be_right():
    """The orderings of the published studies that the rules cite."""
    assert "mse" in first("regression")
    assert first("regression", outlier_share=0.2, outlier_sides="one") == ["welsch", "tukey"]
    assert first("multiclass", label_noise=0.1, noise_kind="asymmetric")[0] == "nce_rce"
    assert first("regression", counts=True)[0] == "poisson_nll"
    much = first("multiclass", label_noise=0.6, noise_kind="symmetric", n_classes=10)
    assert {"anl_ce", "nce_rce", "nce_mae", "mae_softmax"} == set(much)
    assert first("multiclass", class_ratio=50) == ["logit_adjusted", "ldam", "cross_entropy"]
    assert "iou" not in first("boxes", disjoint_boxes=True)
    for rule in RULES:  # focal losses are no remedy for imbalance by themselves
        if any(condition.fact == "class_ratio" for condition in rule.when):
            assert not [loss for loss in rule.losses if "focal" in loss.name]


def test_the_rule_with_the_most_conditions_comes_first_and_the_default_last():
    found = matching("regression", {"counts": True, "overdispersed": True, "many_zeros": None})
    assert [rule.id for rule in found] == ["regression-noisy-counts", "regression-counts", "regression-default"]


def test_a_rate_finds_one_rule_of_several_ranges():
    ids = {
        rate: [r.id for r in matching("multiclass", {"label_noise": rate, "n_classes": 9})]
        for rate in (0, 0.1, 0.3, 0.49, 0.5, 0.9)
    }
    little, some, much = "multiclass-little-noise", "multiclass-noise", "multiclass-much-noise"
    assert [found[0] for found in ids.values()] == ["multiclass-default", little, some, some, much, much]


@pytest.mark.parametrize(
    ("fact", "text", "value", "holds"),
    [
        ("class_ratio", ">= 10", 10, True),
        ("class_ratio", "> 10", 10, False),
        ("label_noise", "<= 0.5", 0.5, True),
        ("label_noise", "< 0.5", 0.5, False),
        ("label_noise", "< 0.5", None, False),
        ("counts", True, True, True),
        ("counts", False, True, False),
        ("counts", False, None, False),
        ("outlier_sides", "one", "one", True),
        ("outlier_sides", "one", "both", False),
    ],
)
def test_conditions(fact, text, value, holds):
    assert Condition.parse(fact, text).holds({fact: value}) is holds


def test_conditions_are_told_as_they_are_written():
    told = [str(Condition.parse(*pair)) for pair in (("class_ratio", ">=10"), ("counts", True), ("counts", False))]
    assert told == ["class_ratio >= 10", "counts", "counts = false"]
    assert str(Condition.parse("outlier_sides", "one")) == "outlier_sides = one"


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"class_ration": 3}, "Unknown fact 'class_ration'. Did you mean 'class_ratio'?"),
        ({"outlier_sides": "left"}, "Unknown value of 'outlier_sides': 'left'. Its values: both, one."),
        ({"counts": 1}, "The fact 'counts' must be true or false. Got 1 instead."),
        ({"label_noise": True}, "The fact 'label_noise' must be a number. Got True instead."),
        ({"metric": 0.5}, "The fact 'metric' must be a word. Got 0.5 instead."),
    ],
)
def test_facts_that_are_none(facts, message):
    with pytest.raises(LossbenchError) as error:
        matching("regression", facts)
    assert message in str(error.value)


def test_a_task_without_advice():
    with pytest.raises(UnknownName, match=r"Unknown task 'regresion'. Did you mean 'regression'"):
        list_rules("regresion")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": ["mse"]}, "Unknown key of a rule: 'loss'. Did you mean 'losses'?"),
        ({"because": ""}, "The rule 'one' needs because."),
        ({"losses": ["hubert"]}, "Unknown loss 'hubert'. Did you mean 'huber'?"),
        ({"losses": [{"huber": {"delt": 2}}]}, "Unknown field of loss 'huber': 'delt'"),
        ({"losses": [{"huber": {"delta": -2}}]}, "The 'delta' parameter of Huber must be"),
        ({"losses": ["bce"]}, "The loss 'bce' is for binary and multilabel, not for regression."),
        ({"weightings": ["balanced"]}, "The weighting 'balanced' is for binary and multiclass, not for regression."),
        ({"when": {"class_ratio": "many"}}, "class_ratio is a number: write for example '>= 0.3'. Got 'many' instead."),
        ({"when": {"ratio": ">= 3"}}, "Unknown fact 'ratio'"),
    ],
)
def test_rules_that_are_none(change, message):
    with pytest.raises(LossbenchError) as error:
        parse_rule(PLAIN | change)
    assert message in str(error.value)


def test_a_rule_of_two_bounds_and_a_field():
    rule = parse_rule(PLAIN | {"losses": [{"huber": {"delta": 2}}], "when": {"outlier_share": ["> 0", "< 0.1"]}})
    assert [loss.label for loss in rule.losses] == ["huber(delta=2)"]
    assert [str(condition) for condition in rule.when] == ["outlier_share > 0", "outlier_share < 0.1"]


@pytest.mark.slow
def test_reading_the_package_needs_no_torch():
    code = "import sys, lossbench.advice; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
