"""What tutorials get wrong: one test per item of docs/what-tutorials-get-wrong.md, of the name that is given there."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from registered import built_in
from sklearn.metrics import hinge_loss
from torch.nn import functional as F

from lossbench import losses, registry, tasks
from lossbench.errors import InvalidValue
from lossbench.interfaces import Scaling
from lossbench.types import Encoding, Problem, Space

NO_SCALING = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
same = torch.testing.assert_close


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def best_constant(name, targets, constants):
    """The one of `constants` that costs least as the prediction for all of `targets`, `[n, 1]`."""
    shape = (len(constants), *targets.shape)
    costs = losses.get(name)(constants[:, None, None].expand(shape), targets.expand(shape))
    return constants[costs.sum(-1).argmin()].item()


def slope(name, prediction, target, **fields):
    prediction = prediction.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses.get(name, **fields)(prediction, target).sum(), prediction)
    return gradient


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber(delta):
    r = torch.linspace(-9, 9, 37, dtype=torch.float64)[:, None]
    wanted = torch.from_numpy(scipy.special.huber(delta, r.squeeze(1).numpy()))
    same(losses.get("huber", delta=delta)(r, 0 * r), wanted)
    near, far = delta * (1 - 1e-9), delta * (1 + 1e-9)
    # value and slope have no jump at delta, as they do in each of the wrong formulas
    same(losses.get("huber", delta=delta)(column(near, far), column(0, 0)), column(1, 1)[:, 0] * delta**2 / 2)
    same(slope("huber", column(near, far), column(0, 0), delta=delta), column(delta, delta))


def test_smooth_l1():
    r = torch.linspace(-4, 4, 33, dtype=torch.float64)[:, None]
    for beta in (0.5, 1.0, 2.0):
        smooth = losses.get("smooth_l1", beta=beta)(r, 0 * r)
        same(smooth, F.smooth_l1_loss(r, 0 * r, reduction="none", beta=beta)[:, 0])
        equal = torch.allclose(smooth, losses.get("huber", delta=beta)(r, 0 * r))
        assert equal == (beta == 1)


def test_poisson():
    count = column(*[4.0] * 400)
    rate = torch.linspace(0.1, 9.9, 400, dtype=torch.float64)[:, None]
    costs = losses.get("poisson_nll")(rate.log(), count)
    log_likelihood = torch.from_numpy(scipy.stats.poisson.logpmf(4, rate.squeeze(1).numpy()))
    same(costs, -log_likelihood - math.log(math.factorial(4)))
    assert abs(rate[costs.argmin()].item() - 4) < 0.05
    # torch takes the logarithm by default, and a rate in its place without a word
    same(F.poisson_nll_loss(rate.log(), count, reduction="none")[:, 0], costs)
    assert not torch.allclose(F.poisson_nll_loss(rate, count, reduction="none")[:, 0], costs)


def test_contrastive():
    torch.manual_seed(1)
    embedding, target = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 0])
    pairs = [
        (d**2 if target[i] == target[j] else max(0, 1.5 - d) ** 2) / 2
        for i, j in itertools.combinations(range(6), 2)
        for d in [math.dist(embedding[i].tolist(), embedding[j].tolist())]
    ]
    same(losses.get("contrastive", margin=1.5)(embedding, target).item(), float(np.mean(pairs)))


def test_autoregressive():
    torch.manual_seed(1)
    logits, tokens = torch.randn(2, 5, 4, dtype=torch.float64), torch.randint(4, (2, 5))
    nll = losses.get("autoregressive_nll")
    wanted = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)
    same(nll(logits, tokens), wanted)
    assert (nll(logits, tokens) > 0).all()
    with pytest.raises(InvalidValue, match="shape"):
        nll(logits, tokens[:, 1:])


def test_categorical_cross_entropy():
    torch.manual_seed(1)
    z, y = torch.randn(7, 4, dtype=torch.float64), torch.randint(4, (7,))
    hot, p = F.one_hot(y, 4), z.softmax(-1)
    same(losses.get("cross_entropy")(z, y), -(hot * p.log()).sum(-1))
    # the gradient of each logit is p - y; a term of (1 - y) log(1 - p) would add to it
    same(slope("cross_entropy", z, y), p - hot)


def test_kl_divergence():
    torch.manual_seed(1)
    p, q = torch.rand(5, 4, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    p[:, 0] = 0
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    ours = losses.get("kl_divergence")(q.log(), p)
    same(ours, torch.from_numpy(scipy.special.rel_entr(p.numpy(), q.numpy()).sum(-1)))
    same(ours.mean(), F.kl_div(q.log(), p, reduction="batchmean"))
    with pytest.warns(UserWarning, match="batchmean"):
        same(ours.mean() / 4, F.kl_div(q.log(), p, reduction="mean"))


def test_hinge():
    torch.manual_seed(1)
    scores, labels = 2 * torch.randn(20, 1, dtype=torch.float64), torch.randint(2, (20,))
    signed = tasks.get("binary").encode(labels, Encoding.SIGNED, Problem((1,), 1, 20), NO_SCALING)
    assert set(signed.flatten().tolist()) == {-1.0, 1.0}
    mean = losses.get("hinge")(scores, signed.view(20, 1)).mean().item()
    same(mean, float(hinge_loss(labels, scores.squeeze(1).numpy())))
    assert (slope("hinge", scores, torch.zeros_like(scores)) == 0).all()


def test_cosine():
    torch.manual_seed(1)
    a, b = torch.randn(200, 2, dtype=torch.float64), torch.randn(200, 2, dtype=torch.float64)
    ours = losses.get("cosine_similarity")(a, b)
    same(ours, -F.cosine_similarity(a, b), rtol=1e-6, atol=1e-6)
    assert ours.min() < -0.99
    assert ours.max() > 0.99
    assert (ours.abs() <= 1).all()


def test_logits():
    sure, y = 1e3 * F.one_hot(torch.tensor([3]), 10).double(), torch.tensor([3])
    ce = losses.get("cross_entropy")
    assert ce(sure, y).item() == 0
    same(ce(sure.softmax(-1), y).item(), math.log(1 + 9 / math.e))
    assert F.nll_loss(sure, y) == -1e3  # without a word
    for name, target in (("nll", y), ("kl_divergence", F.one_hot(y, 10).double())):
        with pytest.raises(InvalidValue, match="log"):
            losses.get(name)(sure, target)
    converted = tasks.get("multiclass").convert(sure, Space.LOG_PROBABILITY, NO_SCALING)
    same(losses.get("nll")(converted, y), ce(sure, y))


def test_probabilities():
    z, y = torch.tensor([[20.0]], requires_grad=True), torch.zeros(1, 1)
    p = z.sigmoid()
    (dead,) = torch.autograd.grad(F.binary_cross_entropy(p, y), z)
    assert (p.item(), F.binary_cross_entropy(p, y).item(), dead.item()) == (1, 100, 0)
    same(losses.get("bce")(z, y), torch.tensor([20.0]))
    assert slope("bce", z.detach(), y).item() == 1


def test_gaussian():
    torch.manual_seed(1)
    mean, y, log_scale = torch.randn(3, 9, 1, dtype=torch.float64).unbind()
    ours = losses.get("gaussian_nll")(torch.cat([mean, log_scale], -1), y)
    density = scipy.stats.norm.logpdf(y.numpy(), mean.numpy(), log_scale.exp().numpy())
    same(ours, -torch.from_numpy(density).squeeze(1))
    same(ours, F.gaussian_nll_loss(mean, y, (2 * log_scale).exp(), full=True, reduction="none").squeeze(1))


def test_shapes():
    prediction, target = torch.zeros(8, 1), torch.arange(8.0)
    with pytest.warns(UserWarning, match="broadcasting"):
        everyone = F.mse_loss(prediction, target, reduction="none")
    assert everyone.shape == (8, 8)
    for name in built_in(registry.losses, "regression"):
        kind = registry.losses.find(name)
        if not registry.list_required(kind) and kind.space is Space.VALUE and not kind.requires:
            loss = losses.get(name)
            with pytest.raises(InvalidValue, match=r"\(8, 1\) and \(8,\)"):
                loss(prediction, target)


def test_multilabel_margin():
    scores, hot = torch.tensor([[0.1, 0.2, 0.4, 0.8]]), torch.tensor([[1, 0, 0, 1]])
    # torch's documentation: 0.25 * ((1-(0.1-0.2)) + (1-(0.1-0.4)) + (1-(0.8-0.2)) + (1-(0.8-0.4)))
    same(losses.get("multilabel_margin")(scores, hot), torch.tensor([0.85]))
    same(F.multilabel_margin_loss(scores, torch.tensor([[3, 0, -1, 1]])), torch.tensor(0.85))
    assert F.multilabel_margin_loss(scores, hot) > 1


def test_blank():
    logits = torch.zeros(1, 6, 3)
    with pytest.raises(InvalidValue, match="holds token 0, which is the blank"):
        losses.get("ctc")(logits, torch.tensor([[1, 0, 2]]))
    assert losses.get("ctc")(logits[:, :3], torch.tensor([[1, 1]])) > 0
    with pytest.raises(InvalidValue, match="needs more than the 2 steps"):
        losses.get("ctc")(logits[:, :2], torch.tensor([[1, 1]]))


def test_class_weights():
    torch.manual_seed(1)
    z, y, weight = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 0, 2, 0]), torch.tensor([1.0, 4, 9])
    weight = weight.double()
    per_example = losses.get("cross_entropy")(z, y)
    weighed = weight[y] * per_example
    same(F.cross_entropy(z, y, weight=weight), weighed.sum() / weight[y].sum())
    same(F.cross_entropy(z, F.one_hot(y, 3).double(), weight=weight), weighed.mean())
    # a weight per output would multiply every example's term, not only those of the class
    p = z.softmax(-1)
    per_output = -(weight * (F.one_hot(y, 3) * p.log() + (1 - F.one_hot(y, 3)) * (1 - p).log())).sum(-1)
    assert not torch.allclose(per_output, weighed)


def test_ctc_mean():
    torch.manual_seed(1)
    logits, target = torch.randn(2, 5, 3), torch.tensor([[1, 2], [1, -1]])
    arguments = (
        logits.log_softmax(-1).transpose(0, 1),
        target.clamp_min(0),
        torch.tensor([5, 5]),
        torch.tensor([2, 1]),
    )
    same(losses.get("ctc")(logits, target), F.ctc_loss(*arguments, reduction="none"))
    same(losses.get("ctc", per_token=True)(logits, target).mean(), F.ctc_loss(*arguments))
    assert not torch.allclose(losses.get("ctc")(logits, target).mean(), F.ctc_loss(*arguments))


def test_focal():
    import torchvision

    torch.manual_seed(1)
    z, y = torch.randn(9, 1, dtype=torch.float64), torch.randint(2, (9, 1)).double()
    bce = F.binary_cross_entropy_with_logits(z, y, reduction="none").squeeze(1)
    same(losses.get("focal")(z, y), torchvision.ops.sigmoid_focal_loss(z, y).squeeze(1))
    assert not torch.allclose(torchvision.ops.sigmoid_focal_loss(z, y, gamma=0).squeeze(1), bce)
    same(2 * losses.get("focal", gamma=0.0, alpha=0.5)(z, y), bce)


@pytest.mark.parametrize(("n_classes", "wanted"), [(2, 0.6931), (10, 2.3026), (1000, 6.9078)])
def test_even_guess(n_classes, wanted):
    for name in ("cross_entropy", "focal_softmax"):
        fields = {"gamma": 0.0} if name == "focal_softmax" else {}
        even = losses.get(name, **fields)(torch.zeros(1, n_classes, dtype=torch.float64), torch.tensor([0]))
        same(even.item(), wanted, rtol=0, atol=1e-4)


def test_outliers():
    target = column(0, 0, 0, 1e3)
    pulls = {name: slope(name, 0 * target, target)[3].item() for name in ("mse", "huber", "welsch")}
    assert pulls == {"mse": -2e3, "huber": -1.0, "welsch": 0.0}
    # the best constant: huber is moved by the one wrong target of four, welsch is not
    constants = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    # 3 c = 1 where the pull of three near targets is that of the far one
    assert best_constant("huber", target, constants) == pytest.approx(1 / 3, abs=1e-3)
    assert best_constant("welsch", target, constants) == pytest.approx(0, abs=1e-3)


def test_regularisation():
    targets = column(0, 0, 1, 10, 50)
    constants = torch.linspace(0, 50, 5001, dtype=torch.float64)
    for name, wanted in (("mse", np.mean), ("mae", np.median)):
        assert best_constant(name, targets, constants) == pytest.approx(wanted(targets.numpy()), abs=0.01)


def test_disjoint_boxes():
    box, target = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[5.0, 5, 6, 6]])
    assert losses.get("iou")(box, target).item() == 1
    assert not slope("iou", box, target).any()
    for name in ("giou", "diou", "ciou", "siou", "eiou"):
        step = box - 0.01 * slope(name, box, target)
        assert losses.get(name)(step, target) < losses.get(name)(box, target)


def test_acos():
    one = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (naive,) = torch.autograd.grad((one.acos() + 0.5).cos(), one)
    assert not naive.isfinite().all()
    weight = {"weight": torch.eye(2, dtype=torch.float64)}
    arcface = losses.get("arcface", scale=4.0, margin=0.5)
    for angle in (0.0, 0.3, 1.2):
        x = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64, requires_grad=True)
        cosines = torch.tensor([[math.cos(angle + 0.5), math.sin(angle)]], dtype=torch.float64)
        value = arcface(x, torch.tensor([0]), parameters=weight)
        same(value, F.cross_entropy(4 * cosines, torch.tensor([0]), reduction="none"), rtol=1e-5, atol=1e-6)
        assert torch.autograd.grad(value.sum(), x)[0].isfinite().all()
