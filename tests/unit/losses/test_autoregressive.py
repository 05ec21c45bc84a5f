"""Losses of next-token models: torch's cross-entropy on shifted tokens, and loops over positions."""

import math

import pytest
import torch
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.losses import AutoregressiveNLL, Unlikelihood, get

NAMES = ["autoregressive_nll", "unlikelihood"]
C = 5
TOKENS = torch.tensor([[1, 2, 2, 0, 4, 2], [3, 3, 3, -1, -1, -1], [-1, -1, 0, 1, 0, 1], [2, -1, -1, -1, -1, -1]])


def close(got, wanted, rtol=1e-10):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-13)


def drawn(seed=0, spread=2.0):
    draw = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*TOKENS.shape, C, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("spread", [0.1, 3.0, 100.0])
def test_nll_against_torch_on_shifted_tokens(spread):
    logits = drawn(spread=spread)
    for reduction, per_token in (("mean", True), ("sum", False)):
        wanted = [
            functional.cross_entropy(z[:-1], x[1:], ignore_index=-1, reduction=reduction)
            if (x[1:] >= 0).any()
            else torch.tensor(0.0).double()
            for z, x in zip(logits, TOKENS, strict=True)
        ]
        close(AutoregressiveNLL(per_token=per_token)(logits, TOKENS), torch.stack(wanted))


def test_it_is_positive_and_predicts_what_comes_next():
    # the logits that name the next token; those that name the present one; those that are not looked at
    following = 50.0 * functional.one_hot(TOKENS[:1].roll(-1, 1), C).double()
    present = 50.0 * functional.one_hot(TOKENS[:1], C).double()
    assert AutoregressiveNLL()(following, TOKENS[:1]) < 1e-9
    assert AutoregressiveNLL()(present, TOKENS[:1]) > 30
    changed = drawn()
    changed[:, -1] = 1e6
    close(AutoregressiveNLL()(changed, TOKENS), AutoregressiveNLL()(drawn(), TOKENS))


def test_uniform_costs_the_logarithm_of_the_number_of_tokens():
    got = AutoregressiveNLL()(torch.zeros(4, 6, C).double(), TOKENS)
    close(got, [math.log(C), math.log(C), math.log(C), 0])


def by_a_loop(logits, tokens, alpha, per_token):
    p = logits.softmax(-1).tolist()
    total, n = 0.0, 0
    for t in range(len(tokens) - 1):
        following = tokens[t + 1]
        if following < 0:
            continue
        seen = {x for x in tokens[: t + 1] if x >= 0} - {following}
        total += -math.log(p[t][following]) - alpha * sum(math.log(1 - p[t][c]) for c in seen)
        n += 1
    return total / max(n, 1) if per_token else total


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("alpha", [0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_unlikelihood_by_a_loop(seed, alpha, per_token):
    logits = drawn(seed)
    wanted = [by_a_loop(z, x.tolist(), alpha, per_token) for z, x in zip(logits, TOKENS, strict=True)]
    close(Unlikelihood(alpha=alpha, per_token=per_token)(logits, TOKENS), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_repetition_that_is_certain_has_a_gradient(dtype):
    # 1 - p rounds to 0: its logarithm, about -200, comes from the other logits
    logits = torch.full((1, 3, C), -100.0, dtype=dtype)
    logits[..., 1] = 100.0
    logits.requires_grad_()
    tokens = torch.tensor([[1, 2, 3]])
    value = Unlikelihood(per_token=False)(logits, tokens)
    value.sum().backward()
    torch.testing.assert_close(value.detach().double(), torch.tensor([2 * (200 + 200 - math.log(4))]).double())
    assert logits.grad.isfinite().all()
    assert (logits.grad[0, :2, 1] > 1.9).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [[[-1, -1, -1]], [[2, -1, -1]], [[2]], [[]]])
def test_nothing_follows(name, tokens):
    tokens = torch.tensor(tokens, dtype=torch.long)
    logits = torch.randn(*tokens.shape, C, requires_grad=True)
    for per_token in (True, False):
        value = get(name, per_token=per_token)(logits, tokens)
        assert value.tolist() == [0]
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert (gradient == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_ignored(name):
    logits = drawn()
    longer = torch.cat([logits, 1e4 * torch.randn(4, 3, C, generator=torch.Generator().manual_seed(1))], 1)
    padded = torch.cat([TOKENS, torch.full((4, 3), -1)], 1)
    close(get(name)(longer, padded), get(name)(logits, TOKENS))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [C, -2, -100])
def test_tokens_that_are_none(name, wrong):
    with pytest.raises(InvalidValue, match=rf"tokens from 0 to 4, and -1 where none is. Got {wrong}\."):
        get(name)(torch.zeros(1, 3, C), torch.tensor([[1, wrong, 2]]))


@pytest.mark.parametrize("name", NAMES)
def test_shifted_targets_are_refused(name):
    with pytest.raises(InvalidValue, match="shape"):
        get(name)(torch.zeros(2, 6, C), TOKENS[:2, 1:])
    with pytest.raises(InvalidValue, match="shape"):
        get(name)(torch.zeros(C), torch.tensor(1))


@pytest.mark.parametrize("fields", [{"alpha": -1}, {"alpha": math.nan}, {"per_token": "yes"}])
def test_fields_out_of_range(fields):
    with pytest.raises(InvalidValue, match=f"The '{next(iter(fields))}' parameter of Unlikelihood must be .* Got "):
        Unlikelihood(**fields)
