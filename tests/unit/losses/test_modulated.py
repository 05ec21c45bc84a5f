"""Focal and polynomial cross-entropies against keras, kornia, optax, timm and numpy."""

import numpy as np
import pytest
import torch

from lossbench.errors import InvalidValue
from lossbench.losses import AsymmetricSoftmax, FocalSoftmax, Poly1, Poly1BCE

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -4.0], [30.0, -20.0, 5.0], [-3.0, -2.5, -6.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1])


def close(got, wanted, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=atol)


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
def test_epsilon_is_at_least_minus_one(kind):
    with pytest.raises(InvalidValue, match=rf"'epsilon' parameter of {kind.__name__} must be .* \[-1, inf\). Got -1.1"):
        kind(epsilon=-1.1)
    kind(epsilon=-1)


@pytest.mark.parametrize("fields", [{"gamma_pos": -1}, {"gamma_neg": -0.5}, {"label_smoothing": 1.1}])
def test_fields_out_of_range(fields):
    (name,) = fields
    with pytest.raises(InvalidValue, match=f"The '{name}' parameter of AsymmetricSoftmax must be .* Got "):
        AsymmetricSoftmax(**fields)


def test_gamma_is_not_negative():
    with pytest.raises(InvalidValue, match=r"The 'gamma' parameter of FocalSoftmax must be .* Got -1"):
        FocalSoftmax(gamma=-1)
