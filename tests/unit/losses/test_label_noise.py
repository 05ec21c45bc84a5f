"""Losses for wrong labels against the papers and their definitions, in NumPy and SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy import special
from scipy.optimize import brentq
from scipy.spatial.distance import jensenshannon
from torch import nn

from lossbench import registry
from lossbench.errors import InvalidValue
from lossbench.losses import (
    AGCE,
    ANLCE,
    AUL,
    ELR,
    AExp,
    BiTempered,
    BootstrappingHard,
    BootstrappingSoft,
    ForwardCorrection,
    GeneralizedCrossEntropy,
    JensenShannon,
    LogitClip,
    MAESoftmax,
    NCEAndMAE,
    NCEAndRCE,
    NormalizedCrossEntropy,
    NormalizedFocal,
    PHuberCE,
    ReverseCrossEntropy,
    SymmetricCrossEntropy,
    TaylorCrossEntropy,
)
from lossbench.losses.label_noise import tempered_log_softmax
from lossbench.types import Problem

C = 5


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def multiclass(n=40, spread=3.0):
    """Random logits and some that saturate."""
    logits = spread * torch.randn(n, C, generator=draw(), dtype=torch.float64)
    logits[:4] *= 100
    return logits, torch.randint(C, (n,), generator=draw(1))


def softmax(logits):
    z = np.asarray(logits)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


@pytest.mark.parametrize("q", [1e-3, 0.3, 0.7, 1])
def test_generalized_cross_entropy_against_the_paper(q):
    # equation 6 of Zhang and Sabuncu 2018: (1 - p^q) / q, which needs a p that does not underflow
    logits, target = multiclass(spread=1.0)
    p = softmax(logits)[np.arange(len(target)), target]
    close(GeneralizedCrossEntropy(q=q)(logits, target), (1 - p**q) / q, rtol=1e-9)


def test_generalized_cross_entropy_where_the_probability_underflows():
    logits = torch.tensor([[2000.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = GeneralizedCrossEntropy(q=0.5)(logits, torch.tensor([1]))
    loss.sum().backward()
    assert loss.item() == 2  # 1/q
    assert logits.grad.isfinite().all()


def elr_in_numpy(logits, target, state, index, beta, lam):
    """Equation 6 of Liu et al. 2020, with the clamp of the authors' code; one example after another."""
    p = np.clip(softmax(logits), 1e-4, 1 - 1e-4)
    state, losses = state.numpy().copy(), []
    for i, row in enumerate(index.tolist()):
        state[row] = beta * state[row] + (1 - beta) * p[i] / p[i].sum()
        nll = -np.log(softmax(logits)[i, target[i]])
        losses.append(nll + lam * np.log(1 - state[row] @ p[i]))
    return np.array(losses), state


@pytest.mark.parametrize(("beta", "lam"), [(0.7, 3.0), (0.9, 1), (0, 7.0)])
def test_elr_against_numpy(beta, lam):
    logits, target = multiclass(n=12, spread=1.0)
    state = torch.rand(30, C, generator=draw(2), dtype=torch.float64) / C
    index = torch.randperm(30, generator=draw(3))[:12]
    losses, after = ELR(beta=beta, lam=lam)(logits, target, state=state, index=index)
    wanted, wanted_state = elr_in_numpy(logits, target, state, index, beta, lam)
    close(losses, wanted)
    close(after, wanted_state)


def test_elr_leaves_its_input_and_other_rows_alone():
    logits, target = multiclass(n=3)
    state = torch.full((6, C), 0.1, dtype=torch.float64)
    _, after = ELR()(logits, target, state=state, index=torch.tensor([4, 0, 2]))
    assert (state == 0.1).all()
    assert (after[[1, 3, 5]] == 0.1).all()
    assert (after[[0, 2, 4]] != 0.1).all()
    assert not after.requires_grad


def test_elr_starts_from_zero():
    assert torch.equal(ELR().init_state(Problem((4,), C, 7)), torch.zeros(7, C))


def test_elr_is_finite_in_bfloat16():
    # 1 - 1e-4 rounds to 1 there, and log(1 - 1) would be -inf
    logits = torch.tensor([[100.0, 0.0, 0.0]], dtype=torch.bfloat16)
    state = torch.tensor([[1.0, 0.0, 0.0]])
    losses, after = ELR(beta=1.0)(logits, torch.tensor([0]), state=state, index=torch.tensor([0]))
    assert losses.item() == pytest.approx(3 * math.log(1e-4), rel=1e-3)
    assert after.dtype == torch.float32


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -4.0], [30.0, -20.0, 5.0], [-3.0, -2.5, -6.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1])


def drawn(n=40, n_classes=C, spread=3.0):
    logits = spread * torch.randn(n, n_classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.arange(n) % n_classes


def test_mae_softmax_against_keras():
    # computed using keras.losses.categorical_generalized_cross_entropy(q=0.9999999) v3.15.1, which is 1 - p
    wanted = torch.tensor([0.214402967894, 0.992927265965, 1.0, 0.389024957572])
    close(MAESoftmax()(LOGITS, CLASSES), 2 * wanted, rtol=1e-6)


def test_mae_softmax_is_the_absolute_distance():
    logits, target = drawn()
    close(MAESoftmax()(logits, target), np.abs(softmax(logits) - np.eye(C)[target]).sum(-1))


@pytest.mark.parametrize("a", [1, 4.0, 9.21])
def test_reverse_cross_entropy_by_its_definition(a):
    # of Wang et al. 2019: -sum p log q, with log 0 := -a
    logits, target = drawn()
    log_label = np.where(np.eye(C)[target] == 1, 0.0, -a)
    close(ReverseCrossEntropy(minus_log_zero=a)(logits, target), -(softmax(logits) * log_label).sum(-1))


def test_log_zero_of_reverse_cross_entropy_is_minus_four():
    logits = torch.tensor([[1000.0, 0.0]], dtype=torch.float64)
    close(ReverseCrossEntropy()(logits, torch.tensor([1])), [4])


@pytest.mark.parametrize(("alpha", "beta", "a"), [(0.1, 1, 4.0), (6.0, 0.1, 4), (1.0, 1.0, 9.21)])
def test_symmetric_cross_entropy_in_numpy(alpha, beta, a):
    logits, target = drawn()
    p = softmax(logits)[range(40), target]
    wanted = -alpha * np.log(p) + beta * a * (1 - p)
    close(SymmetricCrossEntropy(alpha=alpha, beta=beta, minus_log_zero=a)(logits, target), wanted)


@pytest.mark.parametrize("beta", [0, 0.5, 0.95])
def test_bootstrapping_in_numpy(beta):
    # of Reed et al. 2014: the target is mixed with p, or with its largest class
    logits, target = drawn()
    p = softmax(logits)
    for kind, belief in ((BootstrappingSoft, p), (BootstrappingHard, np.eye(C)[p.argmax(-1)])):
        mixture = beta * np.eye(C)[target] + (1 - beta) * belief
        close(kind(beta=beta)(logits, target), -(mixture * np.log(p)).sum(-1))


def test_soft_bootstrapping_lets_the_gradient_through_the_mixture():
    logits = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    BootstrappingSoft(beta=0.0)(logits, torch.tensor([2])).sum().backward()
    p = softmax(logits.detach())
    entropy = -(p * np.log(p)).sum()
    close(logits.grad, -p * (np.log(p) + entropy))  # of the entropy


TRANSITION = ((0.7, 0.2, 0.1), (0.0, 1.0, 0.0), (0.25, 0.25, 0.5))


def test_forward_correction_in_numpy():
    wanted = -np.log((softmax(LOGITS) @ np.array(TRANSITION))[range(4), CLASSES])
    close(ForwardCorrection(transition=TRANSITION)(LOGITS, CLASSES), wanted)
    # any leading axes
    stacked = ForwardCorrection(transition=TRANSITION)(LOGITS.expand(2, 4, 3), CLASSES.expand(2, 4))
    close(stacked, np.stack([wanted, wanted]))


@pytest.mark.parametrize("noise", [0, 0.2, 0.5, 1.0])
def test_symmetric_noise_is_a_matrix(noise):
    logits, target = drawn()
    matrix = np.full((C, C), noise / (C - 1)) + (1 - noise - noise / (C - 1)) * np.eye(C)
    symmetric = ForwardCorrection(noise=noise)(logits, target)
    close(symmetric, -np.log((softmax(logits) @ matrix)[range(40), target]))
    if 0 < noise < 1:
        close(ForwardCorrection(transition=matrix.tolist())(logits, target), symmetric)


def test_forward_correction_where_probabilities_underflow():
    logits = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 1000.0, 1000.0]], requires_grad=True)
    for loss, wanted in ((ForwardCorrection(noise=0.2), 0.1), (ForwardCorrection(transition=TRANSITION), 0.2)):
        losses = loss(logits, torch.tensor([1, 1]))
        assert losses[0].item() == pytest.approx(-np.log(wanted))
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        assert gradient.isfinite().all()
    # a label that the matrix allows for an unlikely class only: bounded below by that class's log probability
    loss = ForwardCorrection(transition=((1.0, 0.0), (0.5, 0.5)))(logits[:1, :2], torch.tensor([1]))
    assert loss.item() == pytest.approx(1000 + np.log(2), rel=1e-4)


def test_a_transition_may_come_as_lists_and_is_hashable():
    loss = registry.losses.get("forward_correction", transition=[[1, 0], [0.5, 0.5]])
    assert loss == ForwardCorrection(transition=((1.0, 0.0), (0.5, 0.5)))
    assert hash(loss) == hash(ForwardCorrection(transition=((1.0, 0.0), (0.5, 0.5))))


@pytest.mark.parametrize(
    "transition",
    [
        ((1.0, 0.0),),
        ((0.5, 0.4), (0.5, 0.5)),
        ((1.5, -0.5), (0.5, 0.5)),
        ((1.0, 0.0), (1.0, 0.0)),
        ((1.0, float("nan")), (0.0, 1.0)),
        ((1.0,), (0.5, 0.5)),
        (1.0, 0.0),
        0.5,
        "symmetric",
    ],
)
def test_a_transition_that_is_none(transition):
    with pytest.raises(InvalidValue, match=r"The 'transition' parameter of ForwardCorrection must be .* Got "):
        ForwardCorrection(transition=transition)


def test_a_transition_for_other_classes():
    with pytest.raises(InvalidValue, match="has 2 rows, and there are 3 classes"):
        ForwardCorrection(transition=((1.0, 0.0), (0.0, 1.0)))(LOGITS, CLASSES)


def hot(target, n_classes=C):
    return nn.functional.one_hot(target, n_classes).double()


def test_jensen_shannon_against_scipy():
    # scipy's is the root of the divergence with weights 1/2; the scale is -log(1/2) / 2
    logits, target = drawn()
    wanted = jensenshannon(hot(target), logits.softmax(-1), axis=-1) ** 2 / (0.5 * np.log(2))
    close(JensenShannon()(logits, target), wanted)


@pytest.mark.parametrize("pi", [0.01, 0.1, 0.9, 0.99])
def test_jensen_shannon_by_its_definition(pi):
    logits, target = drawn()
    p, y = logits.softmax(-1).numpy(), hot(target).numpy()
    m = pi * y + (1 - pi) * p
    wanted = pi * special.rel_entr(y, m).sum(-1) + (1 - pi) * special.rel_entr(p, m).sum(-1)
    close(JensenShannon(pi=pi)(logits, target), wanted / (-(1 - pi) * np.log(1 - pi)))


def test_jensen_shannon_is_bounded():
    logits = torch.tensor([[1000.0, 0.0]], dtype=torch.float64)
    for pi in (0.1, 0.5, 0.8):
        bound = 1 + pi * np.log(pi) / ((1 - pi) * np.log(1 - pi))
        close(JensenShannon(pi=pi)(logits, torch.tensor([1])), [bound])


def probability_of_target(logits, target):
    return softmax(logits)[range(len(target)), target]


@pytest.mark.parametrize("order", [1, 2, 6])
def test_taylor_in_numpy(order):
    logits, target = drawn()
    p = probability_of_target(logits, target)
    close(TaylorCrossEntropy(order=order)(logits, target), sum((1 - p) ** j / j for j in range(1, order + 1)))
    bound = sum(1 / j for j in range(1, order + 1))
    close(TaylorCrossEntropy(order=order)(torch.tensor([[1e4, 0.0]]).double(), torch.tensor([1])), [bound])


@pytest.mark.parametrize(("a", "q"), [(0.6, 0.6), (6, 1.5), (1.0, 1), (0.01, 3.0)])
def test_agce_in_numpy(a, q):
    logits, target = drawn()
    close(AGCE(a=a, q=q)(logits, target), ((a + 1) ** q - (a + probability_of_target(logits, target)) ** q) / q)


@pytest.mark.parametrize(("a", "q"), [(6.3, 1.5), (5.5, 3), (1, 0.5), (1.0, 1.0)])
def test_aul_in_numpy(a, q):
    logits, target = drawn()
    close(
        AUL(a=a, q=q)(logits, target), ((a - probability_of_target(logits, target)) ** q - (a - 1) ** q) / q, rtol=1e-8
    )


def test_aul_of_sure_predictions_where_its_power_has_no_slope():
    logits = torch.tensor([[100.0, -100.0], [1e4, 0.0]], requires_grad=True)
    losses = AUL(a=1.0, q=0.1)(logits, torch.tensor([0, 0]))
    losses.sum().backward()
    assert logits.grad.isfinite().all()
    assert losses.abs().max() < 1e-2


@pytest.mark.parametrize("a", [0.5, 1, 2.5])
def test_aexp_in_numpy(a):
    logits, target = drawn()
    close(AExp(a=a)(logits, target), np.exp(-probability_of_target(logits, target) / a))


@pytest.mark.parametrize("tau", [0.5, 2, 10.0])
def test_logit_clip_in_numpy(tau):
    logits, target = drawn()
    z = logits.numpy()
    length = np.linalg.norm(z, axis=-1, keepdims=True)
    assert (length > 0.5).any()
    clipped = np.where(length > tau, tau * z / length, z)
    close(LogitClip(tau=tau)(logits, target), -np.log(softmax(clipped)[range(40), target]))


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_logit_clip_is_bounded(tau):
    # the extremes: along the target's direction, with the mean taken off
    direction = torch.eye(C, dtype=torch.float64)[:1] - 1 / C
    got = [LogitClip(tau=tau)(sign * 1e6 * direction, torch.tensor([0])) for sign in (1, -1)]
    reach = tau * math.sqrt(C / (C - 1))
    close(torch.cat(got), [math.log1p((C - 1) * math.exp(-reach)), math.log1p((C - 1) * math.exp(reach))])
    logits, target = drawn(n=400, spread=100.0)
    losses = LogitClip(tau=tau)(logits, target)
    assert (losses >= got[0] - 1e-12).all()
    assert (losses <= got[1] + 1e-12).all()


def test_logit_clip_of_no_logits_at_all():
    logits = torch.zeros(1, C, requires_grad=True)
    LogitClip()(logits, torch.tensor([0])).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[1 / C - 1, *[1 / C] * (C - 1)]]))


@pytest.mark.parametrize("tau", [1, 2.0, 10.0])
def test_phuber_ce_in_numpy(tau):
    # of Menon et al. 2020: a line below 1/tau
    logits, target = drawn()
    p = probability_of_target(logits, target)
    wanted = np.where(p > 1 / tau, -np.log(p), -tau * p + np.log(tau) + 1)
    assert tau == 1 or (p > 1 / tau).any()
    close(PHuberCE(tau=tau)(logits, target), wanted)


def test_phuber_ce_is_smooth_at_its_seam():
    # p = 1/4 at logits (0, log 3)
    seam = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    around = torch.cat([seam - torch.tensor([1e-9, 0]), seam + torch.tensor([1e-9, 0])]).requires_grad_()
    losses = PHuberCE(tau=4.0)(around, torch.tensor([0, 0]))
    losses.sum().backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-8)
    close(around.grad[0], around.grad[1], rtol=1e-7)
    assert PHuberCE(tau=4.0)(torch.tensor([[-1e4, 0.0]]), torch.tensor([0])).item() == pytest.approx(1 + math.log(4))


@pytest.mark.parametrize(("kind", "fields"), [(AUL, {"a": 1e300}), (AUL, {"q": 1e10}), (AGCE, {"a": 1e10, "q": 9.0})])
def test_powers_that_nothing_can_hold(kind, fields):
    with pytest.raises(InvalidValue, match=rf"of {kind.__name__} must keep .* to the power q below 1e\+38. Got a="):
        kind(**fields)


def normalised(costs, target):
    return costs[range(len(costs)), target] / costs.sum(-1)


def test_normalized_cross_entropy_in_numpy():
    logits, target = drawn()
    close(NormalizedCrossEntropy()(logits, target), normalised(-np.log(softmax(logits)), target))


@pytest.mark.parametrize("gamma", [0, 0.5, 3.0])
def test_normalized_focal_in_numpy(gamma):
    logits, target = drawn()
    p = softmax(logits)
    close(NormalizedFocal(gamma=gamma)(logits, target), normalised(-((1 - p) ** gamma) * np.log(p), target), rtol=1e-9)


@pytest.mark.parametrize(("alpha", "beta", "a"), [(1, 1.0, 4.0), (10.0, 0.1, 9.21)])
def test_active_and_passive_in_numpy(alpha, beta, a):
    logits, target = drawn()
    p = softmax(logits)
    active, missing = normalised(-np.log(p), target), 1 - p[range(40), target]
    close(NCEAndRCE(alpha=alpha, beta=beta, minus_log_zero=a)(logits, target), alpha * active + beta * a * missing)
    close(NCEAndMAE(alpha=alpha, beta=beta)(logits, target), alpha * active + beta * 2 * missing)


def test_reverse_cross_entropy_normalises_to_the_error_over_its_number_of_rivals():
    # whatever log 0 is taken for: the factor (K - 1) / 4 that was published is another function
    p = softmax(drawn()[0])
    for a in (4.0, 9.21):
        costs = a * (1 - p)
        close(torch.from_numpy(normalised(costs, 0)), (1 - p[:, 0]) / (C - 1))


@pytest.mark.parametrize(("alpha", "beta", "p_min"), [(5, 5.0, 1e-7), (1.0, 0.0, 1e-7), (0.0, 1.0, 1e-3)])
def test_anl_ce_in_numpy(alpha, beta, p_min):
    # of Ye et al. 2023: 1 - (A - CE) / sum_k (A - CE_k), with p clamped at p_min and A = -log p_min
    logits, target = drawn(spread=6.0)
    p = softmax(logits)
    assert (p < p_min).any()
    flipped = np.log(np.maximum(p, p_min)) - np.log(p_min)
    wanted = alpha * normalised(-np.log(p), target) + beta * (1 - normalised(flipped, target))
    close(ANLCE(alpha=alpha, beta=beta, p_min=p_min)(logits, target), wanted)


def test_anl_ce_where_all_probabilities_lie_below_its_floor():
    logits = torch.zeros(1, C, requires_grad=True)
    loss = ANLCE(p_min=0.5)(logits, torch.tensor([0]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [NormalizedCrossEntropy(), NormalizedFocal(), NormalizedFocal(gamma=0.0), ANLCE()])
def test_normalised_losses_of_sure_predictions(loss):
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    losses = loss(logits, torch.zeros(3, dtype=torch.long))
    losses.sum().backward()
    assert losses[0] == 0
    assert losses[1] > losses[2] > 0
    assert logits.grad.isfinite().all()


TEMPERATURES = (1.0, 1 + 1e-9, 1.2, 2.0, 4.0, 10.0)


def exp_t(x, t):
    return np.exp(x) if t == 1 else np.maximum(1 + (1 - t) * x, 0) ** (1 / (1 - t))


def log_t(x, t):
    return np.log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def tempered_softmax(z, t):
    """Of Amid et al. 2019; the normaliser lies between those of one class and of all alike."""
    top = z.max()
    high = top - log_t(1 / len(z), t)
    normaliser = brentq(lambda x: exp_t(z - x, t).sum() - 1, top, high + 1e-9, xtol=1e-14, rtol=1e-15)
    return exp_t(z - normaliser, t)


@pytest.mark.parametrize("t2", [1, 1.2, 2.0, 4.0])
@pytest.mark.parametrize("t1", [0, 0.5, 0.8, 1.0])
def test_bi_tempered_against_its_definition(t1, t2):
    # the Bregman divergence: sum y (log y - log p) - (y^(2 - t1) - p^(2 - t1)) / (2 - t1)
    logits, target = drawn()
    wanted = []
    for z, y in zip(logits.numpy(), target.tolist(), strict=True):
        p = tempered_softmax(z, t2)
        wanted.append(-log_t(p[y], t1) - (1 - (p ** (2 - t1)).sum()) / (2 - t1))
    close(BiTempered(t1=t1, t2=t2)(logits, target), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize(("n_classes", "spread"), [(2, 1.0), (10, 0.0), (10, 100.0), (1000, 1.0), (10000, 10.0)])
def test_tempered_probabilities_sum_to_one(t, n_classes, spread):
    logits, _ = drawn(n=5, n_classes=n_classes, spread=spread)
    logs = tempered_log_softmax(logits + 1e3, torch.full((5, 1), 1 - t, dtype=torch.float64))
    assert (logs <= 1e-12).all()
    close(logs.exp().sum(-1), np.ones(5), atol=1e-12 * n_classes, rtol=1e-9)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_gradient_of_the_tempered_normaliser_is_that_of_the_implicit_function(t):
    logits, _ = drawn(n=4)
    s = torch.full((4, 1), 1 - t, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: tempered_log_softmax(z, s), logits.requires_grad_())
    # p sums to 1 whatever the logits, so its gradient is that of a constant
    (gradient,) = torch.autograd.grad(tempered_log_softmax(logits, s).exp().sum(), logits)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("t1", [0.0, 0.5, 0.8])
def test_bi_tempered_is_bounded(t1):
    logits = torch.tensor([[1e12, 0.0]], dtype=torch.float64)
    close(BiTempered(t1=t1, t2=1.0)(logits, torch.tensor([1])), [1 / (1 - t1)], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t2", [1.0, 1.001, 1.2, 4.0])
def test_bi_tempered_at_extremes(t2, dtype):
    edge = torch.tensor([[100.0, -100.0, 0.0], [-100.0, 100.0, 0.0], [0.0, 0.0, 0.0], [1e4, -1e4, 0.0]])
    logits = edge.to(dtype).requires_grad_()
    losses = BiTempered(t2=t2)(logits, torch.zeros(4, dtype=torch.long))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()
    assert losses[0] < losses[2] < losses[1]
    wide = BiTempered(t2=t2)(logits.detach().double(), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(losses.double(), wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (GeneralizedCrossEntropy, {"q": 0}),
        (GeneralizedCrossEntropy, {"q": 1.1}),
        (ELR, {"beta": 1.2}),
        (ELR, {"lam": -1}),
        (ReverseCrossEntropy, {"minus_log_zero": -4}),
        (SymmetricCrossEntropy, {"alpha": -0.1}),
        (SymmetricCrossEntropy, {"beta": -1}),
        (SymmetricCrossEntropy, {"minus_log_zero": 0}),
        (BootstrappingSoft, {"beta": 1.1}),
        (BootstrappingHard, {"beta": -0.1}),
        (ForwardCorrection, {"noise": 1.5}),
        (JensenShannon, {"pi": 0}),
        (JensenShannon, {"pi": 1.0}),
        (TaylorCrossEntropy, {"order": 0}),
        (AGCE, {"a": 0}),
        (AGCE, {"q": -1}),
        (AUL, {"a": 0.9}),
        (AUL, {"q": 0}),
        (AExp, {"a": 0}),
        (LogitClip, {"tau": 0}),
        (PHuberCE, {"tau": 0.5}),
        (NormalizedFocal, {"gamma": -1}),
        (NCEAndRCE, {"alpha": -1}),
        (NCEAndRCE, {"minus_log_zero": 0}),
        (NCEAndMAE, {"beta": -0.5}),
        (ANLCE, {"p_min": 0}),
        (ANLCE, {"p_min": 1}),
        (ANLCE, {"alpha": -1}),
        (BiTempered, {"t1": -0.1}),
        (BiTempered, {"t1": 1.1}),
        (BiTempered, {"t2": 0.9}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)


def test_a_single_class_has_a_gradient_of_zero():
    for name in ("anl_ce", "normalized_cross_entropy", "nce_rce", "nce_mae", "normalized_focal"):
        prediction = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
        registry.losses.get(name)(prediction, torch.zeros(2, dtype=torch.long)).sum().backward()
        assert torch.equal(prediction.grad, torch.zeros(2, 1, dtype=torch.float64)), name
