"""A combined loss is the weighted sum of its terms, and says what cannot be one."""

import numpy as np
import pytest
import torch
from torch import nn

from lossbench import losses
from lossbench.errors import Incompatible, InvalidValue
from lossbench.types import Encoding, Problem, Space

PROBLEM = Problem((4,), 3, 100, ("a", "b", "c"))
F64 = torch.float64


def test_it_is_the_weighted_sum():
    draw = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 7, 3, generator=draw, dtype=F64)
    both = losses.get("combined", terms=[{"name": "huber", "delta": 2.0, "weight": 0.3}, "mse"])
    wanted = 0.3 * nn.HuberLoss("none", 2.0)(prediction, target).mean(1) + nn.MSELoss(reduction="none")(
        prediction, target
    ).mean(1)
    torch.testing.assert_close(both(prediction, target), wanted)
    torch.testing.assert_close(both.module()(prediction, target), wanted.mean())


def test_a_coupled_term_makes_it_one_value_per_batch():
    draw = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 7, 3, generator=draw, dtype=F64)
    target = target.round()
    dice = losses.get("dice")
    both = losses.get("combined", terms=["dice", {"name": "soft_f1", "weight": 2}])
    assert both.batch_level
    wanted = dice(prediction, target) + 2 * losses.get("soft_f1")(prediction, target)
    torch.testing.assert_close(both(prediction, target), wanted)


def test_facts_are_those_of_all_terms():
    both = losses.get("combined", terms=["mse", "gaussian_nll"])
    assert (both.space, both.encoding, both.head) == (Space.VALUE, Encoding.VALUE, "mean_scale")
    assert both.tasks == ("regression",)
    assert losses.get("combined", terms=["mae", "huber"]).robust is True
    assert losses.get("combined", terms=["mae", "mse"]).robust is None


def test_parameters_of_the_terms_are_trained():
    both = losses.get("combined", terms=["mse", {"name": "barron_adaptive", "weight": 0.5}])
    module = both.module(problem=PROBLEM)
    assert set(module.trainable) == {"term1_alpha_logit", "term1_log_scale"}
    module(torch.randn(5, 3), torch.zeros(5, 3)).backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ([], "must be a list of losses"),
        ("mse", "must be a list of losses"),
        ([3], "a loss's name"),
        (["mse", "poisson_nll"], "no output can be both"),
        ([{"name": "mse", "weight": -1}], "must be a float in the range"),
        ([{"name": "mse", "outputs": 1}], "list of names or numbers"),
        (["arcface", "cross_entropy"], "agree on a head"),
    ],
)
def test_what_cannot_be_combined_is_refused(terms, told):
    with pytest.raises(InvalidValue, match=told):
        losses.get("combined", terms=terms)


def test_losses_of_different_tasks_are_refused():
    with pytest.raises(Incompatible, match="No task fits all terms"):
        losses.get("combined", terms=["bce", "cross_entropy"])


def test_terms_that_want_different_things_are_not_called_directly():
    both = losses.get("combined", terms=["bce", "dice"])
    with pytest.raises(InvalidValue, match="only be combined in an experiment"):
        both(torch.zeros(2, 3), torch.zeros(2, 3))


def test_outputs_are_found_by_name_and_number():
    both = losses.get("combined", terms=[{"name": "mse", "outputs": ["c", 0]}, {"name": "mae", "outputs": ["b"]}])
    assert [columns for _, columns in both.expand_terms(PROBLEM)] == [(2, 0), (1,)]
    each = losses.get("combined", terms=[{"name": "mse", "outputs": "each"}])
    assert [columns for _, columns in each.expand_terms(PROBLEM)] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("outputs", "told"),
    [(["d"], "Unknown output 'd'"), ([3], "Unknown output '3'"), (["a"], "no term trains output b, c")],
)
def test_outputs_that_are_off_are_told(outputs, told):
    both = losses.get("combined", terms=[{"name": "mse", "outputs": outputs}])
    with pytest.raises(Incompatible, match=told):
        both.check(np.zeros((4, 3)), PROBLEM)
