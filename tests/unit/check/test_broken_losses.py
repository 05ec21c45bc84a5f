"""Losses with one deliberate mistake each: the check that is there for it finds it."""

import pickle
import random
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch

from lossbench.check import CHECKS, CheckFailed, Status, check_loss
from lossbench.interfaces.loss import Loss, check_same_shape
from lossbench.types import Encoding, Head, Requirement, Space
from lossbench.validation import check_nonnegative, check_positive

BY_NAME = {check.name: check for check in CHECKS}


@dataclass(frozen=True)
class Good(Loss):
    """The squared error to the power of ``power`` over 2, and nothing wrong with it."""

    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE
    power: float = 2.0

    def __post_init__(self):
        check_positive(self, power=self.power)

    def __call__(self, prediction, target):
        check_same_shape(prediction, target)
        return ((prediction - target).abs() ** self.power).mean(-1)


def squared(prediction, target):
    check_same_shape(prediction, target)
    return (prediction - target).square().mean(-1)


class Changed(Good):
    """What is right about `Good`, with another formula; its field is ``power``."""

    def __call__(self, prediction, target):
        return self.formula(prediction, target)


@dataclass(frozen=True)
class WrongShape(Changed):
    """power"""

    def formula(self, prediction, target):
        return (prediction - target).square()


@dataclass(frozen=True)
class OnePerBatch(Changed):
    """power"""

    def formula(self, prediction, target):
        return (prediction - target).square().mean()


@dataclass(frozen=True)
class NoTensor(Changed):
    """power"""

    def formula(self, prediction, target):
        return 1.0


@dataclass(frozen=True)
class NarrowType(Changed):
    """power"""

    def formula(self, prediction, target):
        return squared(prediction, target).float()


@dataclass(frozen=True)
class WideType(Changed):
    """power"""

    def formula(self, prediction, target):
        return squared(prediction.double(), target.double())


@dataclass(frozen=True)
class NoBfloat16(Changed):
    """power"""

    def formula(self, prediction, target):
        return squared(torch.from_numpy(prediction.detach().numpy()), target) + 0 * squared(prediction, target)


@dataclass(frozen=True)
class NaNGradient(Changed):
    """A root whose gradient is 0 / 0 where the error is 0; power."""

    def formula(self, prediction, target):
        check_same_shape(prediction, target)
        distance = (prediction - target).square().sum(-1).sqrt()
        return torch.where(distance > 0, distance, 0)


@dataclass(frozen=True)
class Overflows(Changed):
    """power"""

    def formula(self, prediction, target):
        check_same_shape(prediction, target)
        return ((prediction - target).exp() + (target - prediction).exp()).log().mean(-1)


@dataclass(frozen=True)
class ChangesItsInput(Changed):
    """power"""

    def formula(self, prediction, target):
        check_same_shape(prediction, target)
        target *= 0.5
        return squared(prediction, target)


@dataclass(frozen=True)
class Coupled(Changed):
    """Divides by what the batch has, and does not say so; power."""

    def formula(self, prediction, target):
        losses = squared(prediction, target)
        return losses / losses.detach().mean(-1, keepdim=True)


@dataclass(frozen=True)
class InOrder(Changed):
    """Later examples count more; power."""

    def formula(self, prediction, target):
        losses = squared(prediction, target)
        return losses * torch.arange(1, losses.shape[-1] + 1)


@dataclass(frozen=True)
class DrawsFromTorch(Changed):
    """power"""

    def formula(self, prediction, target):
        return squared(prediction, target) * (1 + 1e-3 * torch.rand(()))


@dataclass(frozen=True)
class DrawsInVain(Changed):
    """power"""

    def formula(self, prediction, target):
        random.random()
        np.random.rand()
        return squared(prediction, target)


@dataclass(frozen=True)
class Detached(Changed):
    """power"""

    def formula(self, prediction, target):
        return squared(prediction.detach(), target)


@dataclass(frozen=True)
class HalfDetached(Changed):
    """power"""

    def formula(self, prediction, target):
        losses = squared(prediction, target)
        return losses * losses.detach()


@dataclass(frozen=True)
class IgnoresAStackedField(Good):
    """Reads ``power`` once, when it is made."""

    def __post_init__(self):
        self.__dict__["kept"] = self.power

    def __call__(self, prediction, target):
        check_same_shape(prediction, target)
        return ((prediction - target).abs() ** self.kept).mean(-1)


@dataclass(frozen=True)
class WrongOnStacks(Changed):
    """Normalises over the first axis, which in a stack are the rows; power."""

    def formula(self, prediction, target):
        losses = squared(prediction, target)
        return losses * len(losses) / 6


@dataclass(frozen=True)
class Broadcasts(Changed):
    """power"""

    def formula(self, prediction, target):
        return (prediction - target).square().mean(-1)


@dataclass(frozen=True)
class TakesNonsense(Good):
    """power"""

    def __post_init__(self):
        pass


@dataclass(frozen=True)
class RaisesOtherwise(Good):
    """power"""

    def __post_init__(self):
        if not self.power > 0:
            raise ValueError("power")


@dataclass(frozen=True)
class Undocumented(Good):
    """It has a field, of which it says nothing."""

    strength: float = 1.0

    def __post_init__(self):
        check_nonnegative(self, strength=self.strength, power=self.power)


@dataclass(frozen=True)
class WithoutDocstring(Good):
    pass


@dataclass(unsafe_hash=True)
class NotFrozen(Loss):
    """An ordinary class."""

    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE

    def __call__(self, prediction, target):
        return squared(prediction, target)


class NoDataclass(Loss):
    """An ordinary class."""

    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE

    def __call__(self, prediction, target):
        return squared(prediction, target)


@dataclass(frozen=True)
class NoHash(Good):
    """It holds a list; power."""

    knots: list = field(default_factory=list)


@dataclass(frozen=True)
class NotPickled(Good):
    """It makes a function when it is called; power."""

    def __call__(self, prediction, target):
        self.__dict__["kept"] = lambda x: x
        return squared(prediction, target)


@dataclass(frozen=True)
class WrongHead(Good):
    """power"""

    head = Head.EMBEDDING


@dataclass(frozen=True)
class UnknownNeed(Good):
    """power"""

    requires = (Requirement.CLASS_COUNTS,)


@dataclass(frozen=True)
class SaysNothing(Good):
    """power"""

    tasks: ClassVar = "regression"


@dataclass(frozen=True)
class WholeNumbersDiffer(Good):
    """power"""

    def __call__(self, prediction, target):
        check_same_shape(prediction, target)
        return ((prediction - target).abs() ** (self.power if isinstance(self.power, float) else 3)).mean(-1)


@dataclass(frozen=True)
class WrongSign(Changed):
    """power"""

    def formula(self, prediction, target):
        return -squared(prediction, target)


@dataclass(frozen=True)
class HingeOfZeroAndOne(Loss):
    """The hinge, which takes -1 and 1, and says that it takes 0 and 1."""

    tasks = ("binary",)
    space = Space.SCORE
    encoding = Encoding.MULTI_HOT

    def __call__(self, prediction, target):
        check_same_shape(prediction, target)
        return (1 - target * prediction).clamp_min(0).mean(-1)


@dataclass(frozen=True)
class LogitsForLogarithms(Loss):
    """The negative log likelihood, which takes log probabilities, and says that it takes logits."""

    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX

    def __call__(self, prediction, target):
        return -prediction.gather(-1, target.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class SaysConvex(Changed):
    """power"""

    convex = True

    def formula(self, prediction, target):
        check_same_shape(prediction, target)
        return (prediction - target).square().log1p().mean(-1)


@dataclass(frozen=True)
class SaysNotConvex(Changed):
    """power"""

    convex = False

    def formula(self, prediction, target):
        return squared(prediction, target)


@dataclass(frozen=True)
class SaysBounded(SaysConvex):
    """Grows like a logarithm; power."""

    bounded = True


@dataclass(frozen=True)
class SaysUnbounded(Changed):
    """power"""

    bounded = False

    def formula(self, prediction, target):
        return 1 - (-squared(prediction, target)).exp()


@dataclass(frozen=True)
class SaysRobust(SaysNotConvex):
    """power"""

    robust = True


@dataclass(frozen=True)
class SaysRobustAtZero(Changed):
    """The root of the error, which is steep at 0; power."""

    robust = True

    def formula(self, prediction, target):
        check_same_shape(prediction, target)
        return (prediction - target).abs().sqrt().mean(-1)


@dataclass(frozen=True)
class SaysSymmetric(Loss):
    """Cross-entropy."""

    tasks = ("multiclass",)
    space = Space.LOGIT
    encoding = Encoding.INDEX
    symmetric = True

    def __call__(self, prediction, target):
        return -prediction.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class SymmetricValues(Good):
    """power"""

    symmetric = True


@dataclass(frozen=True)
class WrongModule(Good):
    """power"""

    def module(self, reduction="mean", **extras):
        return super().module("mean", **extras)


@dataclass(frozen=True)
class ScoresPerExample(Loss):
    """Takes embeddings, and gives one score for all classes."""

    tasks = ("multiclass",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    requires = (Requirement.PARAMETERS,)

    def init_parameters(self, problem, generator):
        return {"weight": torch.randn(problem.n_outputs, 32, generator=generator)}

    def score_classes(self, prediction, parameters):
        return prediction.sum(-1)

    def __call__(self, prediction, target, *, parameters):
        scores = prediction @ parameters["weight"].mT
        return -scores.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class CountsAxes(Changed):
    """power"""

    def formula(self, prediction, target):
        return squared(prediction, target) * min(prediction.ndim, 2)


@dataclass(frozen=True)
class Loops(Changed):
    """power"""

    __module__ = "lossbench.losses.of_our_own"

    def formula(self, prediction, target):
        return squared(prediction, target) if prediction.max().item() > -9 else 2 * squared(prediction, target)


CASES = [
    (WrongModule, "module_is_the_call", r"module\('sum'\) against the call"),
    (ScoresPerExample, "embeddings_give_scores", r"scores: got shape \[6\], expected \[6, 4\]"),
    (CountsAxes, "batch_axis_is_free", "an example without a batch axis"),
    (Loops, "route_through_a_stack", "got loop, one call per replica"),
    (WrongShape, "one_value_per_example", r"got shape \[6, 4\], expected \[6\]"),
    (OnePerBatch, "one_value_per_example", r"got shape \[\], expected \[6\]"),
    (NoTensor, "one_value_per_example", "got float, expected a tensor"),
    (NarrowType, "one_value_per_example", r"got torch.float32, expected torch.float64"),
    (WideType, "float32_is_kept", "got torch.float64, expected torch.float32"),
    (NoBfloat16, "bfloat16_is_taken", "it raises TypeError"),
    (NaNGradient, "finite_values_have_gradients", "gradient of a finite value in torch.float64: got nan"),
    (NaNGradient, "extremes_are_finite", "gradient in torch.float32: got nan for prediction"),
    (Overflows, "extremes_are_finite", "value in torch.float32: got inf for prediction"),
    (Overflows, "extremes_are_finite_in_bfloat16", "value in torch.bfloat16: got inf"),
    (ChangesItsInput, "inputs_are_left_alone", "the call changes target in place"),
    (Coupled, "examples_are_independent", r"does it couple them\? then batch_level = True"),
    (InOrder, "order_does_not_matter", "a permuted batch: got"),
    (DrawsFromTorch, "nothing_is_drawn", "the second call against the first"),
    (DrawsInVain, "nothing_is_drawn", "global generator of Python, numpy"),
    (Detached, "gradient_reaches_the_prediction", "got a tensor without a gradient"),
    (HalfDetached, "gradient_is_that_of_the_value", "not the slope of the value"),
    (IgnoresAStackedField, "fields_may_differ_by_replica", "a stack with a value of power per replica"),
    (WrongOnStacks, "leading_axes_are_free", "a stack against its batches one by one"),
    (Broadcasts, "broadcasting_is_refused", r"prediction \[6, 4\] with target \[6, 1\] gives \[6\], expected an error"),
    (TakesNonsense, "fields_are_validated", "power=nan is taken, expected InvalidValue"),
    (RaisesOtherwise, "fields_are_validated", "raises ValueError: power, expected InvalidValue"),
    (Undocumented, "fields_are_documented", "does not name power, strength"),
    (WithoutDocstring, "docstring_is_complete", "got no docstring"),
    (NotFrozen, "is_a_value", "its attributes can be set"),
    (NoDataclass, "is_a_value", "is no dataclass"),
    (NoHash, "is_a_value", "unhashable type: 'list'"),
    (NotPickled, "pickles", "pickle"),
    (WrongHead, "facts_are_declared", "got head embedding with space value"),
    (UnknownNeed, "facts_are_declared", "got class_counts, which __call__ does not take"),
    (SaysNothing, "facts_are_declared", "got 'regression', expected a tuple of names"),
    (WholeNumbersDiffer, "whole_numbers_are_floats", "power=1 against power=1.0"),
    (WrongSign, "right_beats_wrong", "got 0 for right predictions and -4 for wrong ones"),
    (HingeOfZeroAndOne, "right_beats_wrong", "for targets 0 of class 0 got"),
    (LogitsForLogarithms, "certainty_does_not_fall_forever", "got -20 for right predictions of ±20 and -2000"),
    (SaysConvex, "convex_as_claimed", "convex is claimed, got a value"),
    (SaysNotConvex, "convex_as_claimed", "convex = False is claimed, got nothing against it"),
    (SaysBounded, "bounded_as_claimed", "bounded is claimed, got"),
    (SaysUnbounded, "bounded_as_claimed", "bounded = False is claimed, got nothing against it"),
    (SaysRobust, "robust_as_claimed", "robust is claimed, got a slope of"),
    (SaysRobustAtZero, "robust_as_claimed", "robust is claimed, got a slope of"),
    (SaysSymmetric, "symmetric_as_claimed", "symmetric is claimed, got sums over the classes from"),
    (SymmetricValues, "symmetric_as_claimed", "on classes only, got encoding value"),
]


def test_the_good_one_passes():
    assert [r for r in check_loss(Good()) if r.status is Status.FAILED] == []


@pytest.mark.parametrize(("kind", "check", "message"), CASES, ids=lambda x: getattr(x, "__name__", None))
def test_the_right_check_fails(kind, check, message):
    with pytest.raises(CheckFailed, match=rf"^{kind.__name__}: {check}: .*{message}"):
        BY_NAME[check].verify(kind())


def test_every_check_that_can_fail_has_a_case():
    assert {check for _, check, _ in CASES} == BY_NAME.keys() - {"time_per_element"}


@pytest.mark.parametrize("kind", [NotPickled, DrawsFromTorch, ChangesItsInput, NoDataclass, NoTensor])
def test_all_checks_run_on_a_broken_loss(kind):
    results = check_loss(kind())
    assert [r.check for r in results] == list(BY_NAME)
    assert any(r.status is Status.FAILED for r in results)
    assert all(r.message for r in results if r.status is not Status.PASSED)


def test_a_check_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    BY_NAME["one_value_per_example"].run(DrawsFromTorch())
    assert torch.equal(torch.get_rng_state(), before)


def test_one_mistake_fails_few_checks():
    """A loss that is only wrong where exponents overflow is told nothing else."""
    failed = [r.check for r in check_loss(Overflows()) if r.status is Status.FAILED]
    assert failed == ["extremes_are_finite", "extremes_are_finite_in_bfloat16"]


def test_what_is_held_still_on_purpose():
    kind = dataclass(frozen=True)(type("Weighed", (HalfDetached,), {"held_still": {}, "__module__": __name__}))
    result = BY_NAME["gradient_is_that_of_the_value"].run(kind())
    assert (result.status, result.message) == (
        Status.NOT_APPLICABLE,
        "part of the formula has no gradient on purpose (held_still)",
    )


def test_a_flaw_that_a_loss_names_is_known_and_no_failure():
    kind = type("Named", (Overflows,), {"flaws": {"extremes_are_finite": "it squares"}, "__module__": __name__})
    flaw = BY_NAME["extremes_are_finite"].run(kind())
    assert flaw.status is Status.KNOWN
    assert flaw.message.startswith("it squares (")
    assert BY_NAME["extremes_are_finite_in_bfloat16"].run(kind()).status is Status.FAILED
    assert BY_NAME["facts_are_declared"].run(kind()).status is Status.PASSED
    assert BY_NAME["extremes_are_finite"].run(Overflows()).status is Status.FAILED


def test_a_built_in_loss_has_no_flaws():
    kind = type("Named", (Good,), {"flaws": {"pickles": "why not"}, "__module__": "lossbench.losses"})
    result = BY_NAME["facts_are_declared"].run(kind())
    assert (result.status, result.message) == (Status.FAILED, "flaws: got pickles, expected none in a built-in loss")


def test_results_are_plain():
    results = check_loss(Good())
    assert pickle.loads(pickle.dumps(results)) == results
    assert all(r.demand.endswith(".") for r in results)
    assert len({r.demand for r in results}) == len(CHECKS)
