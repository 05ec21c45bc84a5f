"""Weightings that make one loss of another, and limits of their fields."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.losses import BCE, CrossEntropy, Focal, FocalSoftmax
from lossbench.weightings import Balanced, EffectiveNumber, NoWeighting, PosWeight, SelfPaced, Trimmed
from lossbench.weightings import Focal as Fading

GAMMA = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]), st.floats(0.1, 6))
SEED = st.integers(0, 2**31)


def drawn(seed, *shape):
    draw = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(*shape, generator=draw, dtype=torch.float64)
    return logits.requires_grad_(), draw


def weighted(loss, weighting, logits, target, **requires):
    """The weighted losses and their sum's gradient, which goes through the weights."""
    losses = loss(logits, target)
    product = weighting(losses.detach(), logits, target, **requires) * losses
    return product, torch.autograd.grad(product.sum(), logits)[0]


def same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(SEED, GAMMA)
def test_focal_of_cross_entropy_is_focal_softmax(seed, gamma):
    logits, draw = drawn(seed, 20, 5)
    target = torch.randint(5, (20,), generator=draw)
    losses = FocalSoftmax(gamma=gamma)(logits, target)
    got, gradient = weighted(CrossEntropy(), Fading(gamma=gamma), logits, target)
    same(got, losses)
    same(gradient, torch.autograd.grad(losses.sum(), logits)[0])


@settings(deadline=None, max_examples=40)
@given(SEED, GAMMA)
def test_focal_of_bce_is_twice_the_focal_loss_with_even_alpha(seed, gamma):
    logits, draw = drawn(seed, 20, 1)
    target = torch.randint(2, (20, 1), generator=draw).double()
    losses = 2 * Focal(gamma=gamma, alpha=0.5)(logits, target)

    def bce(z, y):  # of each label
        return BCE()(z.unsqueeze(-1), y.unsqueeze(-1))

    got, gradient = weighted(bce, Fading(gamma=gamma), logits, target)
    same(got.mean(-1), losses)
    same(gradient, torch.autograd.grad(losses.sum(), logits)[0])


@settings(deadline=None, max_examples=40)
@given(SEED, GAMMA)
def test_a_detached_focal_weight_only_scales_the_gradient(seed, gamma):
    logits, draw = drawn(seed, 20, 5)
    target = torch.randint(5, (20,), generator=draw)
    losses = CrossEntropy()(logits, target)
    p_t = logits.softmax(-1).gather(-1, target[:, None])
    wanted = (1 - p_t.detach()) ** gamma * torch.autograd.grad(losses.sum(), logits)[0]
    got, gradient = weighted(CrossEntropy(), Fading(gamma=gamma, detach=True), logits, target)
    same(got, FocalSoftmax(gamma=gamma)(logits, target))
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9)


def class_weights(weighting, counts, index):
    return weighting(torch.ones(index.shape, dtype=torch.float64), None, index, class_counts=counts)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=8))
def test_effective_number_lies_between_none_and_balanced(counts):
    counts, index = torch.tensor([counts], dtype=torch.float64), torch.arange(len(counts))
    same(class_weights(EffectiveNumber(beta=0.0), counts, index), torch.ones(len(index), dtype=torch.float64))
    near = class_weights(EffectiveNumber(beta=1 - 1e-13), counts, index)
    torch.testing.assert_close(near, class_weights(Balanced(), counts, index), rtol=1e-6, atol=0)


@settings(deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_pos_weight_of_one_label_is_balanced(negatives, positives):
    counts, index = torch.tensor([[negatives, positives]], dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    hot = index[:, None].double()
    got = PosWeight()(hot, None, hot, class_counts=counts, n_examples=negatives + positives)
    same(got[:, 0], class_weights(Balanced(), counts, index))


@pytest.mark.parametrize("same_as_none", [Trimmed(tau=0.0), SelfPaced(start=1.0), PosWeight(ratio=1.0)])
def test_limits_that_are_no_weighting(same_as_none):
    losses = torch.rand(6, 3, dtype=torch.float64)
    facts = {"progress": 0.5, "class_counts": torch.ones(1, 3), "n_examples": 6}
    requires = {str(n): facts[n] for n in same_as_none.requires}
    same(same_as_none(losses, None, losses.round(), **requires), NoWeighting()(losses, None, None))
