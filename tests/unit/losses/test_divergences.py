"""Divergences against scipy, torch, optax and closed forms."""

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.spatial.distance import jensenshannon
from torch import nn

from lossbench.errors import InvalidValue
from lossbench.losses import NLL, Evidential, JensenShannon, KLDivergence, Sparsemax, SquareOnLogits

C = 5
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -4.0], [30.0, -20.0, 5.0], [-3.0, -2.5, -6.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1])


def drawn(n=40, spread=3.0):
    logits = spread * torch.randn(n, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.arange(n) % C


def hot(target, n_classes=C):
    return nn.functional.one_hot(target, n_classes).double()


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def test_nll_against_torch():
    logits, target = drawn(spread=50.0)
    logs = logits.log_softmax(-1)
    close(NLL()(logs, target), nn.NLLLoss(reduction="none")(logs, target))


@pytest.mark.parametrize("loss", [NLL(), KLDivergence()])
def test_logits_are_refused(loss):
    logits, target = drawn()
    target = target if isinstance(loss, NLL) else hot(target)
    with pytest.raises(InvalidValue, match=r"must hold log probabilities, none of them above 0 .* Got "):
        loss(logits, target)
    # what rounding does to a sure prediction is let through
    loss(logits.bfloat16().log_softmax(-1) + 2**-8, target if isinstance(loss, NLL) else target.bfloat16())


def test_kl_divergence_against_scipy():
    logits, _ = drawn()
    soft = drawn(spread=2.0)[0].flip(0).softmax(-1)
    soft[:5], soft[5:10] = hot(torch.arange(5)), hot(torch.arange(5)) / 2 + 0.5 * hot((torch.arange(5) + 1) % 5)
    close(
        KLDivergence()(logits.log_softmax(-1), soft), special.rel_entr(soft.numpy(), logits.softmax(-1).numpy()).sum(-1)
    )


def test_kl_divergence_against_torch():
    logits, _ = drawn()
    soft, logs = logits.flip(0).softmax(-1), logits.log_softmax(-1)
    close(KLDivergence()(logs, soft).mean(), nn.KLDivLoss(reduction="batchmean")(logs, soft))


def test_kl_divergence_where_both_are_zero():
    logs = torch.tensor([[0.0, -torch.inf, -torch.inf]], dtype=torch.float64, requires_grad=True)
    loss = KLDivergence()(logs, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))
    loss.sum().backward()
    assert loss.item() == 0
    assert logs.grad.tolist() == [[-1, 0, 0]]


def test_kl_divergence_of_what_is_held_for_impossible():
    logs = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64).log()
    close(KLDivergence()(logs, torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)), [torch.inf, 0.0])


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's kl_div under vmap
def test_log_probabilities_of_an_empty_batch_and_inside_vmap():
    assert KLDivergence()(torch.zeros(0, C), torch.zeros(0, C)).shape == (0,)
    assert NLL()(torch.zeros(0, C), torch.zeros(0, dtype=torch.long)).shape == (0,)
    logits, target = drawn()
    logs = logits.log_softmax(-1)
    for loss, wanted in ((NLL(), target), (KLDivergence(), hot(target))):
        close(torch.vmap(loss)(logs, wanted), loss(logs, wanted))


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


@pytest.mark.parametrize(("k", "m"), [(1, 1), (15.0, 30.0)])
def test_square_on_logits_in_numpy(k, m):
    # of Hui and Belkin 2020: k for the target class, M for its aim
    logits, target = drawn()
    z = logits.numpy()
    own = z[range(40), target]
    wanted = (k * (own - m) ** 2 + (z**2).sum(-1) - own**2) / C
    close(SquareOnLogits(k=k, m=m)(logits, hot(target)), wanted)


def test_nll_ignores():
    logs = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log().requires_grad_()
    losses = NLL()(logs, torch.tensor([0, -100]))
    torch.testing.assert_close(losses.detach(), torch.tensor([1.3862944, 0.0]))  # log 4
    losses.sum().backward()
    assert logs.grad.tolist() == [[-1, 0], [0, 0]]
    assert NLL(ignore_index=1)(logs, torch.tensor([1, 1])).tolist() == [0, 0]


def test_sparsemax_against_optax():
    # computed using optax.losses.multiclass_sparsemax_loss v0.2.8
    close(Sparsemax()(LOGITS, CLASSES), [0.0, 4.5025, 50.0, 0.0625])


@pytest.mark.parametrize("spread", [0.0, 0.2, 1.0, 30.0])
def test_sparsemax_gradient_is_the_projection_onto_the_simplex(spread):
    logits, target = drawn(spread=spread)
    logits.requires_grad_()
    Sparsemax()(logits, target).sum().backward()
    p = logits.grad + hot(target)
    assert (p >= -1e-12).all()
    close(p.sum(-1), torch.ones(40))
    # optimal: z - p is the same wherever p > 0, and nowhere above it (Karush-Kuhn-Tucker)
    gap = logits.detach() - p
    level = torch.where(p > 1e-12, gap, -torch.inf).amax(-1, keepdim=True)
    close(torch.where(p > 1e-12, gap, level), level.expand_as(gap))
    assert (gap <= level + 1e-12).all()


def test_sparsemax_of_nan_is_nan_and_no_error():
    logits = torch.full((2, 3), torch.nan)
    assert Sparsemax()(logits, torch.tensor([0, 1])).isnan().all()


@pytest.mark.parametrize(("kl", "progress", "share"), [(1.0, 0.0, 0.0), (1, 0.05, 0.25), (2.0, 0.1, 1.0), (1, 1.0, 1)])
def test_evidential_against_scipy(kl, progress, share):
    logits, target = drawn(n=10)
    alpha = 1 + np.log1p(np.exp(logits.numpy()))
    wanted = []
    for row, y in zip(alpha, target.tolist(), strict=True):
        d, label = stats.dirichlet(row), np.eye(C)[y]
        misleading = np.where(label == 1, 1.0, row)
        flat = -stats.dirichlet(misleading).entropy() - special.gammaln(C)
        wanted.append(((label - d.mean()) ** 2 + d.var()).sum() + share * flat)
    close(Evidential(kl=kl, annealing=0.2)(logits, hot(target), progress=progress), wanted, rtol=1e-9)


def test_evidential_of_no_evidence():
    # alpha = 1: mean 1/2, variance 1/12 each
    logits = torch.full((1, 2), -1e4, dtype=torch.float64)
    close(Evidential()(logits, hot(torch.tensor([0]), 2), progress=1.0), [1 / 2 + 1 / 6])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (JensenShannon, {"pi": 0}),
        (JensenShannon, {"pi": 1.0}),
        (SquareOnLogits, {"k": 0}),
        (SquareOnLogits, {"m": -1}),
        (Evidential, {"kl": -0.1}),
        (Evidential, {"annealing": 0}),
        (Evidential, {"annealing": 1.5}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
