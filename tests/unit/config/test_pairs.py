"""Which losses and weightings have a meaning together."""

from dataclasses import dataclass

import pytest
import torch

from lossbench import losses, registry, weightings
from lossbench.config.choices import check_pair, check_scheme, is_mean_over_labels
from lossbench.errors import Incompatible, InvalidValue
from lossbench.interfaces import Level, Loss, TermWeighting, Weighting
from lossbench.types import Choice, Encoding, Requirement, Space

MULTILABEL, BINARY, MULTICLASS = (registry.tasks.get(t) for t in ("multilabel", "binary", "multiclass"))
# each label decided by itself, as their formulas say
BY_LABEL = ["bce", "focal", "hinge", "squared_hinge", "asymmetric", "multilabel_soft_margin", "poly1_bce"]
# labels set against each other, or examples
NOT = ["zlpr", "multilabel_margin", "two_way", "dice", "tversky"]


@pytest.mark.parametrize("name", BY_LABEL + NOT)
def test_which_losses_are_means_over_labels(name):
    assert is_mean_over_labels(losses.get(name), MULTILABEL) == (name in BY_LABEL)


@dataclass(frozen=True)
class Own(Loss):
    """A user's."""

    tasks = ("multilabel",)
    space = Space.LOGIT
    encoding = Encoding.MULTI_HOT

    def __call__(self, prediction, target, **requires):
        return (prediction - target).square().sum(-1)


class Fussy(Own):
    def __call__(self, prediction, target, **requires):
        assert prediction.ndim == 2
        return (prediction - target).square().mean(-1)


class Counting(Own):
    requires = (Requirement.CLASS_COUNTS,)


@pytest.mark.parametrize("loss", [Own(), Fussy(), Counting()])
def test_sums_and_what_cannot_be_tried_are_no_means(loss):
    assert not is_mean_over_labels(loss, MULTILABEL)


def test_trying_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    is_mean_over_labels(losses.get("bce"), MULTILABEL)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "task", "n_outputs", "level"),
    [
        ("pos_weight", MULTILABEL, 3, Level.LABEL),
        ("pos_weight", MULTILABEL, 1, Level.EXAMPLE),
        ("focal", MULTILABEL, 3, Level.LABEL),
        ("trimmed", MULTILABEL, 3, Level.EXAMPLE),
        ("focal", MULTICLASS, 3, Level.EXAMPLE),
        ("focal", BINARY, 1, Level.EXAMPLE),  # an example has one label
        ("deferred", MULTICLASS, 3, Level.EXAMPLE),
        ("none", MULTILABEL, 3, Level.EXAMPLE),
        ("uncertainty", MULTILABEL, 3, Level.TERM),
    ],
)
def test_what_weightings_weigh(name, task, n_outputs, level):
    assert weightings.get(name).get_level(task, n_outputs) is level


def test_a_weighting_of_terms_is_no_weighting_of_examples():
    """Neither may be used for the other: they are called with different things."""
    assert not issubclass(TermWeighting, Weighting)
    with pytest.raises(InvalidValue, match=r"must weigh examples or labels, not the terms .* Got 'dwa'"):
        weightings.get("deferred", scheme="dwa")


@pytest.mark.parametrize(
    ("loss", "weighting", "task", "said"),
    [
        ("dice", "trimmed", BINARY, "trimmed weighs single examples, and loss=dice gives one value for a whole batch"),
        ("dice", "pos_weight", MULTILABEL, "gives one value for a whole batch"),
        ("zlpr", "ghm", MULTILABEL, "ghm weighs each label, and loss=zlpr is no mean of one value per label"),
        ("arcface", "focal", MULTICLASS, "focal looks at scores, and loss=arcface trains an embedding"),
        ("bce", "dwa", MULTILABEL, "dwa weighs the terms of a combined loss, and loss=bce is one loss"),
    ],
)
def test_what_has_no_meaning_is_refused_with_the_reason(loss, weighting, task, said):
    with pytest.raises(Incompatible, match=said) as refused:
        check_pair(loss, losses.get(loss), weighting, weightings.get(weighting), task)
    assert refused.value.parts == f"{loss} + {weighting}"


@pytest.mark.parametrize(
    ("loss", "weighting", "task"),
    [
        ("zlpr", "trimmed", MULTILABEL),
        ("zlpr", "none", MULTILABEL),
        ("dice", "none", MULTILABEL),
        ("bce", "pos_weight", MULTILABEL),
        ("arcface", "balanced", MULTICLASS),
        ("brier", "focal", BINARY),
    ],
)
def test_what_has_a_meaning(loss, weighting, task):
    check_pair(loss, losses.get(loss), weighting, weightings.get(weighting), task)


def test_a_deferred_scheme_must_fit_task_and_data():
    scheme, data = weightings.get("deferred", scheme="irls"), Choice("digits")
    with pytest.raises(Incompatible, match=r"deferred\(scheme=irls\) is for regression, not for task=multiclass"):
        check_scheme(Choice.from_fields("deferred", {"scheme": "irls"}), scheme, "multiclass", data)
    with pytest.raises(Incompatible, match="needs data that come with weights, and data=digits does not"):
        check_scheme(Choice("deferred"), weightings.get("deferred", scheme="sample"), "multiclass", data)
    check_scheme(
        Choice("deferred"),
        weightings.get("deferred", scheme="sample"),
        "regression",
        Choice.from_fields("openml", {"id": 12, "weights": "rooms"}),
    )
