"""Losses on sets of labels against torch, timm and NumPy, and at the extremes."""

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit, logsumexp
from torch import nn

from lossbench.errors import InvalidValue
from lossbench.losses import ZLPR, Asymmetric, MultilabelMargin, MultilabelSoftMargin, TwoWay

LOGITS = torch.tensor([[2.5, -1.0, 0.3, -4.0], [-0.7, 1.2, -3.0, 0.0], [6.0, -6.0, 0.5, -0.5]], dtype=torch.float64)
LABELS = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.float64)
EVERY = [Asymmetric(), MultilabelMargin(), MultilabelSoftMargin(), ZLPR(), TwoWay()]


def close(got, wanted, rtol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-13)


def drawn(*shape, seed=0, positives=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(*shape, generator=generator) < positives).double()


def indices(hot):
    """What torch's margin loss takes: the positive labels' numbers, then -1."""
    order = hot.argsort(descending=True, stable=True)
    return torch.where(torch.arange(hot.shape[1]) < hot.sum(1, keepdim=True), order, -1)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, [0.06061556295299362, 0.1716401720520625, 0.6179127796858482]),
        (
            {"gamma_neg": 2.5, "gamma_pos": 0.0, "clip": 0.2},
            [0.15833353109376094, 0.22472203470858984, 0.24337302222766558],
        ),
        (
            {"gamma_neg": 1.0, "gamma_pos": 0.5, "clip": 0.0},
            [0.11698398545919757, 0.4376960679570776, 1.6932366489947512],
        ),
    ],
)
def test_asymmetric_against_timm(fields, wanted):
    # computed using timm 1.0.31 AsymmetricLossMultiLabel(eps=1e-30, reduction="none"), the mean over labels, in float64
    close(Asymmetric(**fields)(LOGITS, LABELS), wanted)


@pytest.mark.parametrize("gamma_neg", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("gamma_pos", [0.0, 1.5])
@pytest.mark.parametrize("clip", [0.0, 0.05, 0.5, 1.0])
def test_asymmetric_by_its_formula(gamma_neg, gamma_pos, clip):
    logits, labels = drawn(50, 6)
    z, y = logits.numpy(), labels.numpy()
    p_m = np.maximum(expit(z) - clip, 0)
    negative = p_m**gamma_neg * (log_expit(-z) if clip == 0 else np.log1p(-p_m))
    wanted = -(y * expit(-z) ** gamma_pos * log_expit(z) + (1 - y) * negative).mean(-1)
    close(Asymmetric(gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip)(logits, labels), wanted, rtol=1e-11)


def test_asymmetric_does_not_cost_negatives_below_its_clip():
    logits = torch.tensor([[-3.0, -10.0]], dtype=torch.float64, requires_grad=True)  # p = 0.047 and less
    loss = Asymmetric()(logits, torch.zeros(1, 2, dtype=torch.float64))
    loss.sum().backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_margin_against_torch():
    scores, labels = drawn(40, 7)
    labels[0], labels[1] = 0, 1
    scores[:5] *= 1e4
    wanted = nn.MultiLabelMarginLoss(reduction="none")(scores, indices(labels))
    close(MultilabelMargin()(scores, labels), wanted)


def test_margin_is_not_what_torch_makes_of_a_multi_hot_target():
    # the example of torch's documentation: labels 3 and 0
    scores, labels = torch.tensor([[0.1, 0.2, 0.4, 0.8]], dtype=torch.float64), torch.tensor([[1, 0, 0, 1]])
    close(MultilabelMargin()(scores, labels), [0.85])
    assert nn.MultiLabelMarginLoss()(scores, labels).item() == pytest.approx(2.9)


def test_soft_margin_against_torch():
    logits, labels = drawn(40, 7)
    logits[:3] *= 100
    close(MultilabelSoftMargin()(logits, labels), nn.MultiLabelSoftMarginLoss(reduction="none")(logits, labels))


def test_zlpr_against_timm():
    # computed using timm 1.0.31 ZlprLoss, one example at a time, in float64
    close(ZLPR()(LOGITS, LABELS), [0.9269930468578775, 2.275519973687662, 6.0080426778063725])


def with_zero(values):
    return float(logsumexp([0.0, *values]))


def test_zlpr_by_its_formula():
    logits, labels = drawn(30, 6)
    labels[0], labels[1] = 0, 1
    logits[2:5] *= 100
    rows = zip(logits.numpy(), labels.numpy(), strict=True)
    close(ZLPR()(logits, labels), [with_zero(z[y == 0]) + with_zero(-z[y == 1]) for z, y in rows])


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [({}, 2.9107964367366677), ({"positive_temperature": 1.0, "negative_temperature": 2.5}, 3.349488930297696)],
)
def test_two_way_against_timm_and_the_authors(fields, wanted):
    # computed using timm 1.0.31 TwoWayLoss in float64; by github.com/tk1980/TwoWayMultiLabelLoss it is the same
    close(TwoWay(**fields)(LOGITS, LABELS), wanted)


def lines(logits, labels, t_pos, t_neg):
    """The loss of each row that has a positive."""
    values = []
    for z, y in zip(logits, labels, strict=True):
        if y.any():
            hard_negative = t_neg * logsumexp(z[y == 0] / t_neg) if (y == 0).any() else -np.inf
            values.append(np.logaddexp(0, hard_negative + t_pos * logsumexp(-z[y == 1] / t_pos)))
    return np.mean(values) if values else 0.0


@pytest.mark.parametrize("positives", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperatures", [(4.0, 1.0), (0.5, 3.0)])
def test_two_way_by_its_formula(positives, temperatures):
    logits, labels = drawn(9, 5, positives=positives)
    logits[:2] *= 25
    z, y = logits.numpy(), labels.numpy()
    wanted = lines(z, y, *temperatures) + lines(z.T, y.T, *temperatures)
    close(TwoWay(*temperatures)(logits, labels), wanted)


def every_pair(size, dtype):
    """Each label of an example at -size, 0 or size, with each set of labels."""
    logits = size * torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)
    labels = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    return logits.repeat_interleave(8, 0).to(dtype).requires_grad_(), labels.repeat(27, 1).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [5.0, 20.0, 90.0, 100.0, 1000.0])
@pytest.mark.parametrize("loss", [*EVERY, Asymmetric(0.0, 0.0, 0.0), Asymmetric(0.1, 0.1, 0.0), Asymmetric(0.3, 0.3)])
def test_extremes_and_their_gradients_are_finite(loss, size, dtype):
    logits, labels = every_pair(size, dtype)
    losses = loss(logits, labels)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert (losses >= -1e-6).all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("labels", [torch.zeros(3, 4), torch.ones(3, 4)])
@pytest.mark.parametrize("loss", EVERY)
def test_all_labels_or_none(loss, labels):
    logits = (100 * LOGITS.float()).requires_grad_()
    losses = loss(logits, labels)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Asymmetric, {"gamma_neg": -1.0}),
        (Asymmetric, {"gamma_pos": float("inf")}),
        (Asymmetric, {"clip": 1.1}),
        (TwoWay, {"positive_temperature": 0.0}),
        (TwoWay, {"negative_temperature": -1.0}),
    ],
)
def test_fields_out_of_range(kind, fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
