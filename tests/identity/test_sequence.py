"""What the losses on transcripts are to each other, and where they tend to."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.losses import CTC, CrossEntropy, FocalCTC, SmoothedCTC

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
T, C = 6, 4


def drawn(seed, spread):
    draw = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(5, T, C, generator=draw, dtype=torch.float64)
    tokens = torch.randint(1, C, (5, 3), generator=draw)
    return logits, torch.where(torch.arange(3) < torch.tensor([[3], [2], [1], [0], [3]]), tokens, -1)


SEEDS, SPREADS = st.integers(0, 10_000), st.floats(0.1, 30)


def same(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_limits(seed, spread):
    logits, target = drawn(seed, spread)
    ctc = CTC()(logits, target)
    same(FocalCTC(gamma=0.0, alpha=1.0)(logits, target), ctc)
    same(SmoothedCTC(smoothing=0.0)(logits, target), ctc)
    same(FocalCTC(gamma=1.0, alpha=3.0)(logits, target), 3 * FocalCTC(gamma=1.0)(logits, target))
    assert (ctc > -1e-12).all()
    assert (FocalCTC(gamma=2.0)(logits, target) <= FocalCTC(gamma=1.0)(logits, target) + 1e-12).all()
    # what is added to all logits of a step says nothing
    same(CTC()(logits + torch.arange(T).view(-1, 1), target), ctc, rtol=1e-8)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_one_step_is_cross_entropy(seed, spread):
    logits, target = drawn(seed, spread)
    token = target[:, 0].clamp_min(0)
    same(CTC()(logits[:, :1], target[:, :1]), CrossEntropy()(logits[:, 0], token))


@EXAMPLES
@given(SEEDS, SPREADS)
def test_full_smoothing_is_between_uniform_and_certain(seed, spread):
    logits, target = drawn(seed, spread)
    divergence = SmoothedCTC(smoothing=1.0)
    assert (divergence(logits, target) >= -1e-12).all()
    assert (divergence(logits, target) <= math.log(C) + 1e-12).all()
    same(divergence(torch.zeros_like(logits), target), torch.zeros(5, dtype=torch.float64))
    certain = torch.where(torch.arange(C) == 1, 200.0, 0.0).double().expand(5, T, C)
    same(divergence(certain, target), torch.full((5,), math.log(C), dtype=torch.float64))


@EXAMPLES
@given(SEEDS, SPREADS)
def test_a_transcript_read_backwards_is_the_input_read_backwards(seed, spread):
    logits, target = drawn(seed, spread)
    whole = target[:, -1] > 0  # those without padding
    same(CTC()(logits[whole].flip(1), target[whole].flip(1)), CTC()(logits[whole], target[whole]), rtol=1e-9)
