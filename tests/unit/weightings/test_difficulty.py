"""Weightings from predictions and losses, against their authors' procedures written as loops."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.special import softmax as scipy_softmax

from lossbench import weightings
from lossbench.errors import InvalidValue

DRAW = np.random.default_rng(0)
LOGITS = 3 * DRAW.normal(size=(60, 4))
INDEX = DRAW.integers(4, size=60)
HOT = DRAW.integers(2, size=(60, 4)).astype(float)
LABELS = (torch.from_numpy(LOGITS), torch.from_numpy(HOT))
CLASSES = (torch.from_numpy(LOGITS), torch.from_numpy(INDEX))


def lengths(kind):
    """|p - y| of what each loss is of."""
    if kind is LABELS:
        return np.abs(expit(LOGITS) - HOT)
    return 1 - scipy_softmax(LOGITS, axis=1)[np.arange(60), INDEX]


def weigh(name, given, **fields):
    prediction, target = given
    losses = torch.ones(target.shape, dtype=torch.float64)
    return weightings.get(name, **fields)(losses, prediction, target)


@pytest.mark.parametrize("kind", [LABELS, CLASSES], ids=["labels", "classes"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_a_power_of_the_error(kind, gamma):
    np.testing.assert_allclose(weigh("focal", kind, gamma=gamma), lengths(kind) ** gamma, rtol=1e-9)


def as_mmdetection(g, bins):
    """GHMC of mmdetection 3.3 at momentum 0, in which all labels are valid, as a loop."""
    total, weights, in_use = g.size, np.zeros_like(g), 0
    edges = np.arange(bins + 1) / bins
    edges[-1] += 1e-6
    for low, high in pairwise(edges):
        inside = (g >= low) & (g < high)
        if inside.sum() > 0:
            weights[inside] = total / inside.sum()
            in_use += 1
    return weights / in_use


@pytest.mark.parametrize("kind", [LABELS, CLASSES], ids=["labels", "classes"])
@pytest.mark.parametrize("bins", [1, 7, 10, 30])
def test_ghm_is_mmdetections(kind, bins):
    weights = weigh("ghm", kind, bins=bins)
    np.testing.assert_allclose(weights, as_mmdetection(lengths(kind), bins), rtol=1e-9)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-12)


def test_ghm_fades_what_is_many():
    logits = torch.tensor([9.0] * 8 + [-9.0] * 3 + [0.3])[:, None]  # easy, wrong, unsure; all are positive
    weights = weigh("ghm", (logits, torch.ones_like(logits)))[:, 0]
    np.testing.assert_allclose(weights, [12 / 8 / 3] * 8 + [12 / 3 / 3] * 3 + [12 / 3])


@pytest.mark.parametrize("scale", [1e2, 1e4, torch.inf])
def test_extreme_logits_give_finite_weights(scale):
    for prediction, target in (LABELS, CLASSES):
        logits = scale * prediction if scale < torch.inf else prediction.sign() * 1e30
        for name in ("focal", "ghm"):
            assert weigh(name, (logits.float(), target)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("focal", {"gamma": -1}, "'gamma' parameter of Focal"),
        ("ghm", {"bins": 0}, "'bins' parameter of GHM"),
        ("ghm", {"bins": 2.5}, "'bins' parameter of GHM"),
        ("trimmed", {"tau": 1.0}, "'tau' parameter of Trimmed"),
        ("trimmed", {"tau": -0.1}, "'tau' parameter of Trimmed"),
        ("trimmed", {"ramp": 0.0}, "'ramp' parameter of Trimmed"),
        ("trimmed", {"ramp": 1.1}, "'ramp' parameter of Trimmed"),
        ("self_paced", {"start": 0.0}, "'start' parameter of SelfPaced"),
        ("self_paced", {"full": 2.0}, "'full' parameter of SelfPaced"),
    ],
)
def test_refuses(name, fields, said):
    with pytest.raises(InvalidValue, match=said):
        weightings.get(name, **fields)


def kept(name, n, progress, **fields):
    losses = torch.from_numpy(DRAW.permutation(n).astype(float))
    weights = weightings.get(name, **fields)(losses, None, None, progress=progress)
    chosen = set(losses[weights > 0].long().tolist())
    assert weights[weights > 0].unique().tolist() == pytest.approx([n / len(chosen)])
    assert chosen == set(range(len(chosen)))  # the smallest
    return len(chosen)


@pytest.mark.parametrize(
    ("tau", "progress", "n_kept"),
    # Han 2018, R(T) = 1 - min(T / T_k, 1) tau with T_k at a tenth of training
    [(0.2, 1.0, 40), (0.2, 0.1, 40), (0.2, 0.05, 45), (0.2, 0.0, 50), (0.0, 1.0, 50), (0.99, 1.0, 1), (0.5, 0.02, 45)],
)
def test_trimmed_keeps_the_smallest_losses(tau, progress, n_kept):
    assert kept("trimmed", 50, progress, tau=tau, ramp=0.1) == n_kept


@pytest.mark.parametrize(("n", "tau", "n_kept"), [(64, 0.2, 51), (10, 0.1, 9), (7, 0.3, 5), (1, 0.9, 1), (3, 0.99, 1)])
def test_trimmed_rounds_to_whole_examples(n, tau, n_kept):
    assert kept("trimmed", n, 1.0, tau=tau) == n_kept


def test_trimmed_with_mse_is_least_trimmed_squares():
    residuals = torch.tensor([[0.1], [-5.0], [0.3], [2.0]], dtype=torch.float64)
    losses = residuals.square().mean(-1)
    weights = weightings.get("trimmed", tau=0.5)(losses, None, None, progress=1.0)
    np.testing.assert_allclose((weights * losses).mean(), (0.1**2 + 0.3**2) / 2)


def test_trimmed_keeps_as_many_of_equal_losses():
    weights = weightings.get("trimmed", tau=0.25)(torch.zeros(2, 8), None, None, progress=1.0)
    assert (weights > 0).sum(-1).tolist() == [6, 6]


@pytest.mark.parametrize(("progress", "n_kept"), [(0.0, 25), (0.4, 38), (0.8, 50), (1.0, 50)])
def test_self_paced_lets_more_in_as_training_goes(progress, n_kept):
    assert kept("self_paced", 50, progress, start=0.5, full=0.8) == n_kept


def test_a_broken_row_is_left_out_and_hurts_no_other():
    losses = torch.tensor([[1.0, 2.0, 3.0, torch.nan], [1.0, 2.0, 3.0, 4.0]])
    weights = weightings.get("trimmed", tau=0.25)(losses, None, None, progress=1.0)
    torch.testing.assert_close(weights, torch.tensor([[4 / 3, 4 / 3, 4 / 3, 0]] * 2))
