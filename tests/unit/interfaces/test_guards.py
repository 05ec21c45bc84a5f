"""Values that a loss cannot take are refused by its module, with what was given, what was wanted and the remedy."""

import pytest
import torch
from torch.nn import functional as F

from lossbench import losses
from lossbench.check.calls import PROBLEM, draw_call
from lossbench.errors import InvalidValue
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.guards import check_nothing
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Encoding, Requirement, Space

Z = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -0.5]]).repeat(5, 1)  # logits of 10 examples
INDEX = torch.arange(10) % 3
ONES = torch.ones(10, 3)
HOT = F.one_hot(INDEX, 3).float()


def one(value, of=ONES):
    """Targets of which a single one, of example 4, is another."""
    changed = of.clone()
    changed[(4, 1)[: changed.ndim]] = value
    return changed


WRONG = [
    # 0 and 1, or a half, where -1 and 1 are wanted
    (
        "hinge",
        Z,
        one(0.0),
        r"Hinge takes targets of -1 and 1. \(Of 0 and 1: 2 \* y - 1.\) Got 0 for example 4, .* 0 to 1",
    ),
    ("squared_hinge", Z, HOT, "targets of -1 and 1"),
    ("soft_margin", Z, HOT, "targets of -1 and 1"),
    ("exponential", Z, HOT, "targets of -1 and 1"),
    ("perceptron", Z, HOT, "targets of -1 and 1"),
    ("auc_margin", Z, HOT, "targets of -1 and 1"),
    ("lovasz_hinge", Z, HOT, "targets of -1 and 1"),
    # the reverse, counts, and lists of labels padded with -1
    ("bce", Z, 2 * HOT - 1, r"BCE takes targets of 0 and 1. \(Of -1 and 1: \(y \+ 1\) / 2"),
    ("focal", Z, one(255.0), "Focal takes targets of 0 and 1.* Got 255 for example 4"),
    ("multilabel_margin", Z, torch.tensor([[2, -1, -1]]).expand(10, 3), "of lists of labels: make them multi-hot"),
    ("dice", Z.sigmoid(), one(-0.5), "Dice takes targets of 0 and 1"),
    ("bce", Z, one(torch.nan), "Got nan for example 4"),
    # logits where probabilities or their logarithms are wanted, and the reverse
    ("brier", Z, HOT, r"Brier takes probabilities, from 0 to 1. \(Of logits: their softmax.\)"),
    ("brier", Z.sigmoid(), HOT, r"add up to 1 over the classes. .*their softmax.* Got 1.772 for example 0"),
    ("dice", Z, HOT, r"Dice takes probabilities, from 0 to 1. \(Of logits: their sigmoid.\)"),
    ("nll", Z, INDEX, "NLL takes log probabilities, none of them above 0"),
    ("nll", Z.softmax(-1), INDEX, "NLL takes log probabilities, none of them above 0"),
    ("nll", F.logsigmoid(Z), INDEX, "the probabilities adding up to 1"),
    ("kl_divergence", -Z.abs(), HOT, "the probabilities adding up to 1"),
    (
        "cross_entropy",
        Z.softmax(-1),
        INDEX,
        "CrossEntropy takes logits. These are probabilities: leave the softmax out",
    ),
    ("focal_softmax", Z.softmax(-1), INDEX, "FocalSoftmax takes logits"),
    # classes that do not exist, or are no whole numbers
    (
        "cross_entropy",
        Z,
        one(3, INDEX),
        "class indices from 0 to 2 as targets, or ignore_index=-100. Got 3 for example 4",
    ),
    ("cross_entropy", Z, one(-1, INDEX), "Got -1 for example 4"),
    ("poly1", Z, one(-100, INDEX), "Poly1 takes class indices from 0 to 2 as targets. Got -100"),
    ("poly1", Z, one(0.5, INDEX.float()), "Got 0.5 for example 4"),
    ("nt_xent", Z, one(0.5, INDEX.float()), "NTXent takes whole numbers as targets"),
    # distributions that are none
    ("cross_entropy", Z, 2 * HOT, "or the shares of the classes, from 0 to 1. Got 2 for example 0"),
    ("cross_entropy", Z, HOT / 2, "targets that add up to 1 over the classes. Got 0.5 for example 0"),
    ("kl_divergence", Z.log_softmax(-1), ONES, "targets that add up to 1"),
    ("distillation", Z, torch.stack([HOT, Z], -2), "Distillation takes one-hot targets"),
    # values that have no logarithm or share
    ("poisson_nll", Z, one(-1.0), "PoissonNLL takes targets of 0 and more. Got -1 for example 4"),
    ("msle", Z.abs(), one(-2.0), "MSLE takes targets of 0 and more"),
    ("msle", Z, ONES, "MSLE takes predictions of 0 and more. .*softplus"),
    ("mape", Z.abs(), one(0.0), "MAPE takes targets above 0. Got 0 for example 4"),
    ("gamma_deviance", Z, one(0.0), "GammaDeviance takes targets above 0"),
    # those that a loss looks at itself
    (
        "giou",
        torch.tensor([[0.0, 0, 1, 1]]),
        torch.tensor([[1.0, 0, 0, 1]]),
        "target must hold corners .* for example 0",
    ),
    ("ciou", torch.tensor([[0.0, 2, 1, 1]]), torch.tensor([[0.0, 0, 1, 1]]), "prediction must hold corners"),
    ("ctc", torch.zeros(2, 5, 3), torch.tensor([[1, 2], [1, 0]]), "example 1 holds token 0, which is the blank"),
    ("ctc", torch.zeros(1, 2, 3), torch.tensor([[1, 1]]), "example 0 needs more than the 2 steps"),
    ("ctc", torch.zeros(0, 2, 3), torch.zeros(0, 2, dtype=torch.long), "at least one example"),
    ("autoregressive_nll", torch.zeros(1, 2, 3), torch.tensor([[1, 3]]), "tokens from 0 to 2"),
    ("margin_ranking", torch.zeros(2, 2), torch.tensor([1.0, 0.0]), "1 where the first .* Got 0"),
    ("ranknet", torch.zeros(1, 2), torch.tensor([[0.0, -2.0]]), "Relevance must be 0 or more"),
    # shapes that would broadcast
    ("mse", torch.zeros(5, 1), torch.zeros(5), "same shape"),
    ("cross_entropy", Z, torch.zeros(10, 1, dtype=torch.long), "one class index per prediction"),
]


@pytest.mark.parametrize(("name", "prediction", "target", "message"), WRONG, ids=[w[0] for w in WRONG])
def test_is_refused(name, prediction, target, message):
    with pytest.raises(InvalidValue, match=message):
        losses.get(name).module()(prediction, target)


def test_class_vectors_say_how_many_classes_there_are():
    module = losses.get("arcface").module(problem=PROBLEM)  # of 4 classes
    with pytest.raises(InvalidValue, match=r"ArcFace takes class indices from 0 to 3 as targets. Got 4"):
        module(torch.ones(2, 32), torch.tensor([0, 4]))


def test_labels_of_pairs_may_be_any_whole_numbers():
    assert losses.get("nt_xent").module()(Z, 1000 * INDEX - 5).isfinite()


@pytest.mark.parametrize("name", [n for n in losses.list_names() if n not in {"external", "combined"}])
def test_what_is_right_passes(name):
    loss = losses.get(name)
    call = draw_call(loss)
    held = {n: v for n, v in call.requires.items() if n in {Requirement.CLASS_COUNTS, Requirement.RESIDUAL_SCALE}}
    problem = {"problem": PROBLEM} if {Requirement.PARAMETERS, Requirement.STATE} & set(loss.requires) else {}
    given = {n: v for n, v in call.requires.items() if n in {Requirement.INDEX, Requirement.PROGRESS}}
    assert loss.module(**held, **problem).double()(call.prediction, call.target, **given).isfinite()


@pytest.mark.parametrize("soft", [HOT, torch.full((10, 3), 1 / 3), HOT.double()])
def test_cross_entropy_takes_distributions(soft):
    found = losses.get("cross_entropy").module()(Z, soft)
    torch.testing.assert_close(found, F.cross_entropy(Z, soft.float()))


def test_ignored_examples_and_whole_numbers_of_any_type_pass():
    target = one(-100, INDEX)
    found = losses.get("cross_entropy").module("sum")(Z, target)
    torch.testing.assert_close(found, F.cross_entropy(Z, target, reduction="sum"))
    hot = (INDEX[:, None] == torch.arange(3)).int()
    torch.testing.assert_close(losses.get("bce").module()(Z, hot), F.binary_cross_entropy_with_logits(Z, hot.float()))


def test_rounding_in_half_precision_passes():
    p = (5 * torch.randn(50, 100, generator=torch.Generator().manual_seed(0))).bfloat16()
    index = torch.arange(50)
    for name, prediction in (("nll", p.log_softmax(-1)), ("cross_entropy", p)):
        assert losses.get(name).module()(prediction, index).isfinite()


def test_can_be_switched_off():
    assert losses.get("hinge").module(check=False)(Z, HOT).isfinite()


def test_a_prediction_of_nan_is_no_wrong_input():
    assert losses.get("dice").module()(torch.full_like(Z, torch.nan), HOT).isnan()


def test_under_vmap_values_are_hidden():
    module = losses.get("hinge").module("none")
    torch.testing.assert_close(torch.vmap(module)(Z, HOT), module.loss(Z, HOT))


def test_every_space_and_encoding_is_guarded_or_free_on_purpose():
    # any number will do, or the loss itself looks (boxes, tokens, grades, orders)
    free = {Space.VALUE, Space.ORIGINAL, Space.LOG_RATE, Space.MEAN_LOG_SCALE, Space.ZERO_INFLATED, Space.SCORE}
    free |= {Space.EMBEDDING, Space.BOX_XYXY, Space.SEQUENCE_LOGIT, Space.NEXT_TOKEN, Space.LIST_SCORE}
    assert {s for s, facts in SPACES.items() if facts.guard is check_nothing} == free | {Space.PAIR_SCORE}
    looked_at = {Encoding.BOX_XYXY, Encoding.TOKENS, Encoding.SEQUENCE, Encoding.RELEVANCE, Encoding.ORDER}
    looked_at |= {Encoding.VALUE, Encoding.ORIGINAL}
    assert {e for e, facts in ENCODINGS.items() if facts.guard is check_nothing} == looked_at
