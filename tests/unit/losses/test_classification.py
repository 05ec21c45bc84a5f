"""Losses of classes against torch, torchvision, scikit-learn, scipy, optax and closed forms."""

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn import metrics
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from lossbench.errors import InvalidValue
from lossbench.losses import (
    BCE,
    NLL,
    AsymmetricSoftmax,
    Brier,
    CrossEntropy,
    Evidential,
    Focal,
    FocalSoftmax,
    KLDivergence,
    Poly1,
    Poly1BCE,
    Sparsemax,
    SquareOnLogits,
)

C = 5


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def multiclass(n=40, spread=3.0):
    """Random logits and some that saturate."""
    logits = spread * torch.randn(n, C, generator=draw(), dtype=torch.float64)
    logits[:4] *= 100
    return logits, torch.randint(C, (n,), generator=draw(1))


def multilabel(n=40, n_labels=3, spread=3.0):
    logits = spread * torch.randn(n, n_labels, generator=draw(), dtype=torch.float64)
    return logits, torch.randint(2, (n, n_labels), generator=draw(1)).double()


def softmax(logits):
    z = logits.numpy()
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


def test_bce_against_scikit_learn():
    logits, target = multilabel()
    probability = 1 / (1 + np.exp(-logits.numpy()))
    wanted = np.mean([metrics.log_loss(target[:, k], probability[:, k], labels=[0, 1]) for k in range(3)])
    close(BCE()(logits, target).mean(), wanted)


def test_bce_of_saturated_logits():
    # -log sigmoid(-z) = z + log(1 + e^-z), which is z itself from 40 on
    z = torch.tensor([[100.0], [-100.0], [1e4]], dtype=torch.float64)
    close(BCE()(z, torch.tensor([[0.0], [1.0], [0.0]]).double()), [100, 100, 1e4])
    assert BCE()(z, torch.tensor([[1.0], [0.0], [1.0]]).double()).max() < 1e-40


@pytest.mark.parametrize("smoothing", [0, 0.1, 1.0])
def test_cross_entropy_against_torch(smoothing):
    logits, target = multiclass()
    target[::7] = -100
    oracle = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    close(CrossEntropy(label_smoothing=smoothing)(logits, target), oracle(logits, target))


def test_cross_entropy_against_scikit_learn():
    logits, target = multiclass(spread=1.0)
    wanted = metrics.log_loss(target[4:], softmax(logits[4:]), labels=range(C))
    close(CrossEntropy()(logits[4:], target[4:]).mean(), wanted)


def test_cross_entropy_ignores():
    logits, target = multiclass()
    logits.requires_grad_()
    losses = CrossEntropy(label_smoothing=0.1, ignore_index=2)(logits, target)
    losses.sum().backward()
    ignored = target == 2
    assert ignored.any()
    assert (losses[ignored] == 0).all()
    assert (logits.grad[ignored] == 0).all()
    assert (losses[~ignored] > 0).all()
    # all ignored is 0, not NaN
    assert CrossEntropy()(logits, torch.full_like(target, -100)).sum() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_of_distributions_against_torch(smoothing):
    logits, target = multiclass()
    soft = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=logits.dtype).softmax(-1)
    ours = CrossEntropy(label_smoothing=smoothing)
    for given in (soft, nn.functional.one_hot(target, logits.shape[-1]).to(logits.dtype)):
        wanted = nn.functional.cross_entropy(logits, given, reduction="none", label_smoothing=smoothing)
        torch.testing.assert_close(ours(logits, given), wanted)
        # leading axes are free
        torch.testing.assert_close(ours(logits[None], given[None]), wanted[None])
    torch.testing.assert_close(ours(logits, given), ours(logits, target))


def test_cross_entropy_of_distributions_against_optax():
    # computed using optax.losses.softmax_cross_entropy v0.2.8, the second with optax.smooth_labels(labels, 0.1)
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -500.0]])
    labels = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.75, 0.0]])
    torch.testing.assert_close(CrossEntropy()(logits, labels), torch.tensor([0.9913113, 0.7985873]))
    smoothed = CrossEntropy(label_smoothing=0.1)(logits, labels)
    torch.testing.assert_close(smoothed, torch.tensor([1.0663114, 17.590256]))


def test_cross_entropy_of_a_masked_class_without_a_share():
    logits = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    found = CrossEntropy()(logits, torch.tensor([[0.5, 0.5, 0.0]]))
    # log(1 + e) - 1/2 for logits 0 and 1
    torch.testing.assert_close(found.detach(), torch.tensor([0.8132617]))
    found.sum().backward()
    assert logits.grad.isfinite().all()


def test_brier_against_scikit_learn():
    logits, target = multilabel(n_labels=1)
    p = logits.sigmoid()
    wanted = metrics.brier_score_loss(target[:, 0], p[:, 0])
    close(Brier()(p, target).mean(), wanted)


def test_brier_of_classes_by_hand():
    # (0.7 - 1)^2 + 0.2^2 + 0.1^2 = 0.14; all on a wrong class: 1 + 1
    p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]], dtype=torch.float64)
    hot = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    close(Brier()(p, hot), [0.14, 2])


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (0.5, 0.9), (5, 1)])
def test_focal_against_torchvision(gamma, alpha):
    logits, target = multilabel()
    wanted = sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma, reduction="none").mean(-1)
    close(Focal(gamma=gamma, alpha=alpha)(logits, target), wanted)


def test_focal_of_saturated_logits():
    # right: 0. Wrong: the modulating factor is 1, so alpha_t * 100
    z = torch.tensor([[100.0], [-100.0], [100.0]], dtype=torch.float64)
    close(Focal()(z, torch.tensor([[1.0], [1.0], [0.0]]).double()), [0, 25, 75])


def test_a_target_with_a_column_axis_is_refused():
    with pytest.raises(InvalidValue, match=r"one class index per prediction, shape \(4,\).*Got \(4, 1\)"):
        CrossEntropy()(torch.zeros(4, C), torch.zeros(4, 1, dtype=torch.long))


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -4.0], [30.0, -20.0, 5.0], [-3.0, -2.5, -6.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1])


@pytest.mark.parametrize(
    ("gamma", "wanted"),
    [
        # computed using kornia.losses.focal_loss(alpha=None) v0.9.0, the target's column; keras'
        # categorical_focal_crossentropy(alpha=1) v3.15.1 agrees but for the third, where it clips p at 1e-7
        (2.0, [0.0110927500914, 4.88170016139, 50.0, 0.0745652922501]),
        (0.5, [0.11173598123, 4.93395300926, 50.0, 0.307305648567]),
    ],
)
def test_focal_softmax_against_kornia_and_keras(gamma, wanted):
    close(FocalSoftmax(gamma=gamma)(LOGITS, CLASSES), wanted, rtol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_focal_softmax_of_sure_predictions(gamma, dtype):
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0], [0.0, 1e-4], [1e4, -1e4]], dtype=dtype, requires_grad=True)
    losses = FocalSoftmax(gamma=gamma)(logits, torch.zeros(4, dtype=torch.long))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert losses[[0, 3]].tolist() == [0, 0]
    assert losses[1].item() == pytest.approx(200, rel=1e-2)
    assert logits.grad.isfinite().all()
    assert logits.grad[[0, 3]].abs().max() == 0


@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "smoothing", "wanted"),
    [
        # computed using timm.loss.AsymmetricLossSingleLabel v1.0.31
        (1, 4, 0.1, [0.0483437208258, 4.59155170949, 46.6666666667, 0.179518151513]),
        (0.0, 0.0, 0.1, [0.391311296657, 4.6681612876, 47.5, 0.626032486666]),
        (2.0, 1.0, 0.3, [0.0520753166344, 3.97476541085, 40.0, 0.103805661892]),
    ],
)
def test_asymmetric_softmax_against_timm(gamma_pos, gamma_neg, smoothing, wanted):
    loss = AsymmetricSoftmax(gamma_pos=gamma_pos, gamma_neg=gamma_neg, label_smoothing=smoothing)
    close(loss(LOGITS, CLASSES), wanted, rtol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 5.0])
def test_asymmetric_softmax_of_sure_predictions(gamma):
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0], [1e4, -1e4]], requires_grad=True)
    losses = AsymmetricSoftmax(gamma_pos=gamma, gamma_neg=gamma)(logits, torch.zeros(3, dtype=torch.long))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("epsilon", "wanted"),
    [
        # computed using optax.losses.poly_loss_cross_entropy v0.2.8
        (2.0, [0.670117227479, 6.93734896128, 52.0, 1.27074905088]),
        (-0.5, [0.134109813952, 4.45503103584, 49.5, 0.298186678946]),
    ],
)
def test_poly1_against_optax(epsilon, wanted):
    close(Poly1(epsilon=epsilon)(LOGITS, CLASSES), wanted)


@pytest.mark.parametrize("epsilon", [-1, 0.0, 1.0, 4.5])
def test_poly1_bce_in_numpy(epsilon):
    z = 3 * torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (z.flip(0) > 0.5).double()
    p = 1 / (1 + np.exp(-z.numpy()))
    p_t = np.where(y == 1, p, 1 - p)
    close(Poly1BCE(epsilon=epsilon)(z, y), (-np.log(p_t) + epsilon * (1 - p_t)).mean(-1))


@pytest.mark.parametrize("kind", [Poly1, Poly1BCE])
def test_epsilon_of_poly1_is_at_least_minus_one(kind):
    with pytest.raises(InvalidValue, match=rf"'epsilon' parameter of {kind.__name__} must be .* \[-1, inf\). Got -1.1"):
        kind(epsilon=-1.1)
    kind(epsilon=-1)


def test_gamma_of_focal_softmax_is_not_negative():
    with pytest.raises(InvalidValue, match=r"The 'gamma' parameter of FocalSoftmax must be .* Got -1"):
        FocalSoftmax(gamma=-1)


def drawn(n=40, spread=3.0):
    logits = spread * torch.randn(n, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits, torch.arange(n) % C


def hot(target, n_classes=C):
    return nn.functional.one_hot(target, n_classes).double()


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
        (CrossEntropy, {"label_smoothing": 1.5}),
        (Focal, {"gamma": -1}),
        (Focal, {"alpha": 2}),
        (AsymmetricSoftmax, {"gamma_pos": -1}),
        (AsymmetricSoftmax, {"gamma_neg": -0.5}),
        (AsymmetricSoftmax, {"label_smoothing": 1.1}),
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
