"""CTC and losses of texts against brute force, the forward algorithm in NumPy, torch and optax."""

import itertools
import math
import re
import warnings

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from scipy.stats import entropy
from torch.nn import functional

from lossbench import losses
from lossbench.errors import InvalidValue
from lossbench.losses import CTC, AutoregressiveNLL, FocalCTC, SmoothedCTC, Unlikelihood, get
from lossbench.training.routes import Routes, _has_data_dependent_branches, choose_route


def logits_of(*shape, spread=2.0, seed=0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens(*rows):
    width = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows])


def close(got, wanted, rtol=1e-12, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def read(path):
    """What a path puts out: repeats merged, blanks dropped."""
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def all_alignments(logits):
    """The negative log probability of every transcript, from all N_TOKENS^T paths."""
    logs = log_softmax(logits.numpy(), -1)
    found = {}
    for path in itertools.product(range(logs.shape[1]), repeat=len(logs)):
        found.setdefault(read(path), []).append(sum(step[token] for step, token in zip(logs, path, strict=True)))
    return {transcript: -logsumexp(ways) for transcript, ways in found.items()}


def forward_algorithm(logits, transcript):
    """Graves et al. 2006, section 4.1, in log space: tokens with blanks between and around them, step by step."""
    logs = log_softmax(logits.numpy(), -1)
    labels = [0]
    for token in transcript:
        labels += [token, 0]
    before = np.full(len(labels), -np.inf)
    before[:2] = logs[0, labels[:2]]
    for step in logs[1:]:
        now = np.empty_like(before)
        for s, label in enumerate(labels):
            skips = s >= 2 and label not in (0, labels[s - 2])
            now[s] = step[label] + logsumexp(before[max(0, s - 2 if skips else s - 1) : s + 1])
        before = now
    return -logsumexp(before[-2:])


@pytest.mark.parametrize(("n_steps", "n_tokens"), [(1, 3), (4, 2), (5, 3), (4, 4)])
def test_ctc_sums_over_all_alignments(n_steps, n_tokens):
    logits = logits_of(n_steps, n_tokens, seed=n_steps)
    wanted = all_alignments(logits)
    target = tokens(*wanted)
    got = CTC()(logits.expand(len(target), -1, -1), target)
    close(got, list(wanted.values()))
    # whatever is written, something is: the probabilities of all transcripts sum to 1
    close((-got).exp().sum(), 1)
    assert {len(t) for t in wanted} >= {0, 1}


def test_ctc_against_the_forward_algorithm():
    rows = [(1, 2, 3, 4), (5, 5, 5), (), (3,), (2, 1, 1, 2, 2), (4, 3, 4, 3, 4, 3)]
    logits = logits_of(len(rows), 20, 6, spread=4.0)
    logits[1] *= 10
    close(CTC()(logits, tokens(*rows)), [forward_algorithm(x, row) for x, row in zip(logits, rows, strict=True)])


def test_ctc_against_optax():
    logits = torch.from_numpy(3 * np.sin(1.7 * np.arange(4 * 7 * 5)).reshape(4, 7, 5)).requires_grad_()
    got = CTC()(logits, tokens((1, 2, 3), (2, 2), (4,), ()))
    # optax.ctc_loss of optax 0.2.8 with jax 0.10.2, in float64
    close(got, [9.039071649887235, 10.668021519186631, 18.501046807553156, 21.316945240965413])
    got.sum().backward()
    # and jax.grad of it, example 1 at step 2
    close(logits.grad[1, 2], [-0.53650201, 0.07134358, -0.08079629, 0.02056536, 0.52538936], atol=1e-8)


def test_an_empty_transcript_is_blanks_all_along():
    logits = logits_of(2, 5, 3)
    empty = torch.full((2, 0), -1)
    wanted = -log_softmax(logits.numpy(), -1)[..., 0].sum(-1)
    close(CTC()(logits, empty), wanted)
    close(CTC()(logits, tokens((1,), ()))[1], wanted[1])


def test_per_token_divides_by_the_length_as_the_mean_of_torch_does():
    logits, target = logits_of(3, 8, 4), tokens((1, 2, 3), (2, 2), ())
    whole, parts = CTC()(logits, target), CTC(per_token=True)(logits, target)
    close(parts, whole / torch.tensor([3, 2, 1]))
    lengths = torch.tensor([3, 2, 0])
    arguments = (logits.log_softmax(-1).transpose(0, 1), target.clamp_min(0), torch.tensor([8, 8, 8]), lengths)
    close(torch.nn.functional.ctc_loss(*arguments), parts.mean())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_ctc_against_the_formula(gamma):
    # alpha (1 - p)^gamma ctc of Feng et al. 2019; a probability near 1, where most fades, among them
    logits, target = logits_of(5, 6, 3, spread=1.0), tokens((1, 2), (1,), (), (2, 2), (2,))
    logits[2, :, 0] += 8
    nll = np.array([forward_algorithm(x, t[t > 0].tolist()) for x, t in zip(logits, target, strict=True)])
    p = np.exp(-nll)
    close(FocalCTC(gamma=gamma, alpha=0.25)(logits, target), 0.25 * (1 - p) ** gamma * nll)
    assert p.max() > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_ctc_of_a_certain_transcript(gamma, dtype):
    logits = torch.zeros(1, 4, 3, dtype=dtype)
    logits[..., 0] = 500
    logits.requires_grad_()
    loss = FocalCTC(gamma=gamma)(logits, torch.tensor([[-1]]))
    loss.sum().backward()
    assert loss.abs() < 1e-6
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_ctc_against_scipy(smoothing):
    rows = [(1, 2), (3,), ()]
    logits = logits_of(3, 6, 4, spread=3.0)
    nll = np.array([forward_algorithm(x, row) for x, row in zip(logits, rows, strict=True)])
    p = np.exp(log_softmax(logits.numpy(), -1))
    divergence = entropy(p, np.full_like(p, 1 / 4), axis=-1).mean(-1)
    close(SmoothedCTC(smoothing=smoothing)(logits, tokens(*rows)), (1 - smoothing) * nll + smoothing * divergence)


@pytest.mark.parametrize("name", ["ctc", "focal_ctc", "smoothed_ctc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_and_wrong_is_finite(name, dtype):
    sure = torch.where(torch.arange(4) == torch.arange(4).view(-1, 1, 1), 100.0, -100.0)
    logits = sure.expand(4, 5, 4).to(dtype).repeat_interleave(3, 0).clone().requires_grad_()
    target = tokens((1, 2, 3), (2, 2), ()).repeat(4, 1)
    values = losses.get(name)(logits, target)
    values.sum().backward()
    assert values.isfinite().all()
    assert logits.grad.isfinite().all()
    assert values.max() > 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    logits, target = logits_of(2, 6, 4).to(dtype).requires_grad_(), tokens((1, 2), (3,))
    got = CTC()(logits, target)
    torch.testing.assert_close(got, CTC()(logits.detach().float(), target))
    got.sum().backward()
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("name", ["ctc", "focal_ctc", "smoothed_ctc"])
def test_gradient_of_more_tokens_than_are_done_by_hand(name):
    logits = logits_of(2, 5, 18).requires_grad_()  # torch's own softmax from 16 on
    assert torch.autograd.gradcheck(lambda z: losses.get(name)(z, tokens((1, 17, 3), (2, 2))), logits)


def test_what_cannot_be_written_in_time_is_refused_or_costs_nothing():
    logits, target = logits_of(3, 3, 4), tokens((1, 2, 3), (2, 2, 1), (3, 3))  # the second needs 4 steps
    with pytest.raises(InvalidValue, match=r"target of example 1 needs more than the 3 steps.*Got \[2, 2, 1\]"):
        CTC()(logits, target)
    logits.requires_grad_()
    got = CTC(zero_infinity=True)(logits, target)
    got.sum().backward()
    close(got[[0, 2]].detach(), CTC()(logits[[0, 2]], target[[0, 2]]).detach())
    assert got[1] == 0
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[[0, 2]] != 0).any()


def test_the_fewest_steps_are_enough():
    # 2 2 1 in four steps leaves one path: 2, blank, 2, 1
    logits = logits_of(1, 4, 3)
    path = log_softmax(logits[0].numpy(), -1)[range(4), [2, 0, 2, 1]]
    close(CTC()(logits, tokens((2, 2, 1))), [-path.sum()])


@pytest.mark.parametrize("name", ["ctc", "focal_ctc", "smoothed_ctc"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 2), (1, 0), (0, 1)], "example 1 holds token 0, which is the blank. Got [1, 0]"),
        ([(1, 2), (1, 2), (4, 1)], "example 2 holds a token that is not below C = 4. Got [4, 1]"),
        ([(1, -2), (1, 2), (3, 1)], "example 0 holds a token that is not below C = 4. Got [1, -2]"),
        ([(1, 2), (-1, 2), (3, 1)], "example 1 goes on behind its padding. Got [-1, 2]"),
    ],
)
def test_targets_that_are_none(name, rows, message):
    with pytest.raises(InvalidValue, match=re.escape(message)):
        losses.get(name)(logits_of(3, 6, 4), tokens(*rows))


def test_the_place_of_a_bad_target_in_a_stack():
    target = torch.ones(2, 3, 2, dtype=torch.long)
    target[1, 2, 0] = 0
    with pytest.raises(InvalidValue, match=r"target of example \[1, 2\] holds token 0"):
        CTC()(logits_of(2, 3, 6, 4), target)
    with pytest.raises(InvalidValue, match="target of the example holds token 0"):
        CTC()(logits_of(6, 4), target[1, 2])


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_an_empty_batch_is_refused(shape):
    with pytest.raises(InvalidValue, match="at least one example, step and token"):
        CTC()(torch.zeros(shape), torch.ones(shape[0], 1, dtype=torch.long))


def test_no_axis_of_steps_is_refused():
    with pytest.raises(InvalidValue, match="shape"):
        CTC()(torch.zeros(3), torch.tensor([1]))


ROWS = {
    "ctc": [{}, {}],
    "focal_ctc": [{"gamma": 1.0}, {"gamma": 2.0}],
    "smoothed_ctc": [{"smoothing": 0.0}, {"smoothing": 0.5}],
}


@pytest.mark.parametrize("name", ROWS)
def test_a_stack_is_one_call_and_nobody_hears_of_vmap(name):
    rows = [losses.get(name, **fields) for fields in ROWS[name]]
    logits, target = logits_of(2, 3, 6, 4), torch.stack([tokens((1, 2), (2, 2), ())] * 2)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert choose_route(rows, logits, target, {}) == "broadcast"
        assert not heard
        # what is not heard would be: vmap has no rule for CTC
        Routes(rows).vmap(logits, target, {})
        assert "batching rule for aten::ctc_loss" in str(heard[0].message)


def test_other_warnings_are_heard_while_routes_are_tried():
    class Noisy:
        def vmap(self, *_):
            warnings.warn("Rounded down.", stacklevel=1)

    with pytest.warns(UserWarning, match="Rounded down"):
        _has_data_dependent_branches(Noisy(), None, None, {})


TEXT_LOSSES = ["autoregressive_nll", "unlikelihood"]
N_TOKENS = 5
TEXTS = torch.tensor([[1, 2, 2, 0, 4, 2], [3, 3, 3, -1, -1, -1], [-1, -1, 0, 1, 0, 1], [2, -1, -1, -1, -1, -1]])


def drawn_text(seed=0, spread=2.0):
    draw = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*TEXTS.shape, N_TOKENS, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("spread", [0.1, 3.0, 100.0])
def test_nll_against_torch_on_shifted_tokens(spread):
    logits = drawn_text(spread=spread)
    for reduction, per_token in (("mean", True), ("sum", False)):
        wanted = [
            functional.cross_entropy(z[:-1], x[1:], ignore_index=-1, reduction=reduction)
            if (x[1:] >= 0).any()
            else torch.tensor(0.0).double()
            for z, x in zip(logits, TEXTS, strict=True)
        ]
        close(AutoregressiveNLL(per_token=per_token)(logits, TEXTS), torch.stack(wanted), rtol=1e-10, atol=1e-13)


def test_autoregressive_nll_is_positive_and_predicts_what_comes_next():
    # the logits that name the next token; those that name the present one; those that are not looked at
    following = 50.0 * functional.one_hot(TEXTS[:1].roll(-1, 1), N_TOKENS).double()
    present = 50.0 * functional.one_hot(TEXTS[:1], N_TOKENS).double()
    assert AutoregressiveNLL()(following, TEXTS[:1]) < 1e-9
    assert AutoregressiveNLL()(present, TEXTS[:1]) > 30
    changed = drawn_text()
    changed[:, -1] = 1e6
    close(AutoregressiveNLL()(changed, TEXTS), AutoregressiveNLL()(drawn_text(), TEXTS), rtol=1e-10, atol=1e-13)


def test_uniform_predictions_of_texts_cost_the_logarithm_of_the_number_of_tokens():
    got = AutoregressiveNLL()(torch.zeros(4, 6, N_TOKENS).double(), TEXTS)
    close(got, [math.log(N_TOKENS), math.log(N_TOKENS), math.log(N_TOKENS), 0], rtol=1e-10, atol=1e-13)


def unlikelihood_by_a_loop(logits, tokens, alpha, per_token):
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
    logits = drawn_text(seed)
    wanted = [unlikelihood_by_a_loop(z, x.tolist(), alpha, per_token) for z, x in zip(logits, TEXTS, strict=True)]
    close(Unlikelihood(alpha=alpha, per_token=per_token)(logits, TEXTS), wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_repetition_that_is_certain_has_a_gradient(dtype):
    # 1 - p rounds to 0: its logarithm, about -200, comes from the other logits
    logits = torch.full((1, 3, N_TOKENS), -100.0, dtype=dtype)
    logits[..., 1] = 100.0
    logits.requires_grad_()
    tokens = torch.tensor([[1, 2, 3]])
    value = Unlikelihood(per_token=False)(logits, tokens)
    value.sum().backward()
    torch.testing.assert_close(value.detach().double(), torch.tensor([2 * (200 + 200 - math.log(4))]).double())
    assert logits.grad.isfinite().all()
    assert (logits.grad[0, :2, 1] > 1.9).all()


@pytest.mark.parametrize("name", TEXT_LOSSES)
@pytest.mark.parametrize("tokens", [[[-1, -1, -1]], [[2, -1, -1]], [[2]], [[]]])
def test_texts_after_whose_tokens_nothing_follows(name, tokens):
    tokens = torch.tensor(tokens, dtype=torch.long)
    logits = torch.randn(*tokens.shape, N_TOKENS, requires_grad=True)
    for per_token in (True, False):
        value = get(name, per_token=per_token)(logits, tokens)
        assert value.tolist() == [0]
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert (gradient == 0).all()


@pytest.mark.parametrize("name", TEXT_LOSSES)
def test_padding_of_texts_is_ignored(name):
    logits = drawn_text()
    longer = torch.cat([logits, 1e4 * torch.randn(4, 3, N_TOKENS, generator=torch.Generator().manual_seed(1))], 1)
    padded = torch.cat([TEXTS, torch.full((4, 3), -1)], 1)
    close(get(name)(longer, padded), get(name)(logits, TEXTS), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", TEXT_LOSSES)
@pytest.mark.parametrize("wrong", [N_TOKENS, -2, -100])
def test_texts_of_tokens_that_are_none(name, wrong):
    with pytest.raises(InvalidValue, match=rf"tokens from 0 to 4, and -1 where none is. Got {wrong}\."):
        get(name)(torch.zeros(1, 3, N_TOKENS), torch.tensor([[1, wrong, 2]]))


@pytest.mark.parametrize("name", TEXT_LOSSES)
def test_shifted_texts_are_refused(name):
    with pytest.raises(InvalidValue, match="shape"):
        get(name)(torch.zeros(2, 6, N_TOKENS), TEXTS[:2, 1:])
    with pytest.raises(InvalidValue, match="shape"):
        get(name)(torch.zeros(N_TOKENS), torch.tensor(1))


@pytest.mark.parametrize("fields", [{"alpha": -1}, {"alpha": math.nan}, {"per_token": "yes"}])
def test_fields_out_of_range(fields):
    with pytest.raises(InvalidValue, match=f"The '{next(iter(fields))}' parameter of Unlikelihood must be .* Got "):
        Unlikelihood(**fields)
