"""`@lossbench.loss`: plain functions as losses."""

import pickle
import sys
from dataclasses import fields, is_dataclass

import pytest
import torch

import lossbench
from lossbench import registry
from lossbench.errors import InvalidValue, UnknownName
from lossbench.interfaces import Loss
from lossbench.registry import Registry
from lossbench.types import Encoding, Head, Problem, Requirement, Space


@pytest.fixture(autouse=True)
def losses(monkeypatch):
    """Registration goes to an empty registry of losses."""
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    fresh = Registry("losses", "loss", Loss)
    monkeypatch.setattr(registry, "losses", fresh)
    return fresh


def masked(prediction, target, *, cut: float = 2.0, rounds: int = 1):
    """Absolute error, constant from cut on."""
    losses = (prediction - target).abs()
    losses[losses > cut] = cut
    return losses.mean(-1)


def test_a_plain_function_with_a_boolean_mask(losses):
    kind = lossbench.loss(tasks=("regression",), use_when="a test", pitfall="nothing")(masked)
    assert losses.find("masked") is kind
    assert losses.names() == ["masked"]
    assert losses.entries()["masked"].source == "test_functions.py"
    assert is_dataclass(kind)
    assert [(f.name, f.type, f.default) for f in fields(kind)] == [("cut", float, 2.0), ("rounds", int, 1)]
    assert (kind.__doc__, kind.__module__) == (masked.__doc__, masked.__module__)
    assert (kind.tasks, kind.space, kind.encoding, kind.head) == (
        ("regression",),
        Space.VALUE,
        Encoding.VALUE,
        Head.LINEAR,
    )
    assert (kind.requires, kind.batch_level, kind.use_when, kind.pitfall) == ((), False, "a test", "nothing")
    loss = losses.get("masked", cut=1.0)
    prediction = torch.tensor([[0.5, 9.0], [-0.2, 0.0]])
    torch.testing.assert_close(loss(prediction, torch.zeros(2, 2)), torch.tensor([0.75, 0.1]))
    torch.testing.assert_close(loss.module()(prediction, torch.zeros(2, 2)), torch.tensor(0.425))


def test_is_a_value(monkeypatch):
    kind = lossbench.loss(tasks="regression")(masked)
    monkeypatch.setattr(sys.modules[__name__], "masked", kind)  # as a decorator does
    loss = kind(cut=1.5)
    assert loss == kind(cut=1.5) != kind()
    assert hash(loss) == hash(kind(cut=1.5))
    assert repr(loss) == "masked(cut=1.5, rounds=1)"
    assert pickle.loads(pickle.dumps(loss)) == loss
    with pytest.raises(AttributeError):
        loss.cut = 2


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("cut", float("nan"), "a float. Got nan"),
        ("cut", "far", "a float. Got 'far'"),
        ("rounds", 1.5, "an int. Got 1.5"),
        ("on", 1, "true or false. Got 1"),
    ],
)
def test_fields_are_of_their_type(field, value, wanted):
    @lossbench.loss(tasks="regression")
    def typed(prediction, target, *, cut: float = 2.0, rounds: int = 1, on: bool = False):
        return (prediction - target).abs().mean(-1)

    assert typed(cut=float("inf"), rounds=-2, on=True).cut == float("inf")
    with pytest.raises(InvalidValue, match=f"The '{field}' parameter of typed must be {wanted} instead"):
        typed(**{field: value})


def test_claims_may_be_given():
    @lossbench.loss(tasks="regression", convex=True, bounded=False, robust=True, held_still={})
    def claimed(prediction, target):
        return (prediction - target).abs().mean(-1)

    assert (claimed.convex, claimed.bounded, claimed.robust, claimed.symmetric) == (True, False, True, None)
    assert claimed.held_still == {}
    assert [f.name for f in fields(claimed)] == []


def test_facts_may_be_given_as_text():
    @lossbench.loss(tasks="multiclass", space="logit", encoding="index", head="cosine", name="other", batch_level=True)
    def named(prediction, target):
        return prediction.mean()

    assert registry.losses.names() == ["other"]
    assert (named.tasks, named.space, named.encoding) == (("multiclass",), Space.LOGIT, Encoding.INDEX)
    assert (named.head, named.batch_level) == (Head.COSINE, True)


def test_needs_are_given_at_each_call():
    @lossbench.loss(tasks="regression", requires="progress")
    def annealed(prediction, target, *, progress, power=2.0):
        return (prediction - target).abs().mean(-1) * (1 - progress) ** power

    assert annealed.requires == (Requirement.PROGRESS,)
    assert [f.name for f in fields(annealed)] == ["power"]
    assert fields(annealed)[0].type is float
    got = annealed(power=1.0)(torch.ones(2, 1), torch.zeros(2, 1), progress=0.25)
    assert got.tolist() == [0.75, 0.75]
    assert annealed().module()(torch.ones(2, 1), torch.zeros(2, 1), progress=0.5).item() == 0.25
    with pytest.raises(InvalidValue, match="annealed needs progress with each call"):
        annealed().module()(torch.ones(2, 1), torch.zeros(2, 1))
    assert annealed().init_parameters(Problem((1,), 1, 1), torch.Generator()) == {}


def test_clash_with_a_registered_loss(losses):
    kind = lossbench.loss(tasks="regression")(masked)
    with pytest.raises(registry.NameClash, match=r"'masked' of test_functions\.py clashes with .*masked of test_func"):
        lossbench.loss(tasks="regression", name="masked")(lambda prediction, target: prediction)
    assert losses.find("masked") is kind
    assert lossbench.loss(tasks="regression")(masked) is losses.find("masked")  # as when a notebook's cell is run again


def without_arguments():
    return 0


def with_default(prediction, target=None):
    return prediction


def with_open_field(prediction, target, delta):
    return prediction


def with_list(prediction, target, knots=[1.0]):  # noqa: B006
    return prediction


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (without_arguments, r"A loss function takes \(prediction, target, \.\.\.\)\. without_arguments does not"),
        (with_default, r"with_default does not"),
        (with_open_field, "The argument 'delta' of with_open_field needs a default: it becomes a field"),
        (with_list, "The default of 'knots' of with_list must not be mutable"),
    ],
)
def test_signatures_that_do_not_fit(losses, function, message):
    with pytest.raises(InvalidValue, match=message):
        lossbench.loss(tasks=("regression",))(function)
    assert losses.names() == []


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"space": "logits"}, "The 'space' of a loss must be of value, .* Got 'logits'"),
        ({"encoding": "hot"}, "The 'encoding' of a loss must be of"),
        ({"head": "square"}, "The 'head' of a loss must be of"),
        ({"requires": ("class_count",)}, "The 'requires' of a loss must be of class_counts, .* Got 'class_count'"),
    ],
)
def test_facts_that_do_not_exist(facts, message):
    with pytest.raises(InvalidValue, match=message):
        lossbench.loss(tasks=("regression",), **facts)(masked)


def test_misuse_of_the_decorator():
    with pytest.raises(InvalidValue, match=r"needs to know the tasks: @lossbench\.loss\(tasks="):
        lossbench.loss(masked)
    with pytest.raises(UnknownName, match=r"'use_whn'\. Did you mean 'use_when'"):
        lossbench.loss(tasks="regression", use_whn="?")
    with pytest.raises(InvalidValue, match="has a field called 'weight': that is reserved"):

        @lossbench.loss(tasks="regression")
        def heavy(prediction, target, weight=1.0):
            return prediction
