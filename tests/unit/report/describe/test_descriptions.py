"""What is told of a name."""

import json
import re

import pytest

from lossbench import registry
from lossbench.registry import list_required
from lossbench.report.describe.descriptions import (
    HEADS,
    describe_class,
    describe_entry,
    list_facts,
    list_weightings,
)
from lossbench.report.describe.docstrings import parse_docstring, to_markdown
from lossbench.types import Head

BUILT_IN = {n: e for n, e in registry.losses.entries().items() if e.kind.__module__.startswith("lossbench.")}


def test_there_are_words_for_whatever_a_loss_takes():
    assert set(HEADS) == set(Head)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_loss_says_what_a_reader_looks_for(name):
    said, kind = parse_docstring(BUILT_IN[name].kind), BUILT_IN[name].kind
    assert all((said.summary, said.formula, said.shapes, said.raises, kind.use_when, kind.pitfall, kind.aliases))
    assert re.search(r"https?://\S+", said.reference)
    assert "Returns" in said.shapes


@pytest.mark.parametrize("name", [n for n, e in BUILT_IN.items() if not list_required(e.kind)])
def test_what_fields_must_be_is_what_their_checks_say(name):
    known = describe_class(registry.losses, BUILT_IN[name])
    unchecked = {"transition"}  # a matrix, which has a check of its own
    assert [f["name"] for f in known["fields"] if not f["must_be"] and f["name"] not in unchecked] == []


def test_a_range_is_that_of_the_error():
    (delta,) = describe_class(registry.losses, BUILT_IN["huber"])["fields"]
    assert delta == {"name": "delta", "type": "float", "default": 1.0, "must_be": "a float in the range (0, inf)"}
    with pytest.raises(Exception, match=re.escape(delta["must_be"])):
        registry.losses.get("huber", delta=-1.0)


def test_facts_are_those_of_the_class_and_of_its_needs():
    assert list_facts(registry.losses.find("mae"))["robust"]
    assert list_facts(registry.losses.find("mse"))["bounded"] is False
    assert list_facts(registry.losses.find("dice"))["batch_level"]
    assert list_facts(registry.losses.find("arcface"))["trains parameters"]
    assert list_facts(registry.losses.find("elr"))["keeps a state"]
    assert list_facts(registry.metrics.find("f1")) == {}


def test_weightings_are_those_that_an_experiment_would_take():
    assert "balanced" in list_weightings(BUILT_IN["bce"])["binary"]
    assert "balanced" not in list_weightings(BUILT_IN["dice"])["binary"]
    assert "irls" in list_weightings(BUILT_IN["huber"])["regression"]


@pytest.mark.parametrize("group", registry.ALL)
def test_everything_can_be_told_as_json(group):
    names = registry.ALL[group]
    for entry in names.entries().values():
        json.dumps(describe_entry(names, entry), allow_nan=False)


def test_markdown_keeps_formulas_code_and_links():
    assert (
        to_markdown(":math:`x_1`, ``[N]``, `huber`, https://x.org/a.") == "$`x_1`$, `[N]`, `huber`, <https://x.org/a>."
    )
    assert to_markdown("https://doi.org/10.1175/1(1950)078<0001:V>2.0.CO;2") == (
        "<https://doi.org/10.1175/1(1950)078%3C0001:V%3E2.0.CO;2>"
    )
