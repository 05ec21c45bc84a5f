"""Losses that learn from a teacher: torch's KL, scipy, and the formulas in numpy."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch.nn import functional

from lossbench.errors import InvalidValue
from lossbench.losses import DIST, DKD, Distillation, LogitMatching, get

NAMES = ["distillation", "dkd", "dist", "logit_matching"]


def close(got, wanted, rtol=1e-10):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), rtol=rtol, atol=1e-12)


def drawn(seed=0, n=7, n_classes=5, spread=2.0):
    """Student, teacher and classes in numpy, and the target in torch."""
    draw = np.random.default_rng(seed)
    student, teacher = spread * draw.normal(size=(2, n, n_classes))
    y = draw.integers(n_classes, size=n)
    target = np.stack([teacher, np.eye(n_classes)[y]], 1)
    return student, teacher, y, torch.from_numpy(student), torch.from_numpy(target)


def hard(student, y):
    return -log_softmax(student, -1)[range(len(y)), y]


@pytest.mark.parametrize("spread", [0.1, 2.0, 50.0])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.9, 4.0), (0.5, 1), (1, 2.0), (0, 3.0)])
def test_distillation_by_scipy(alpha, temperature, spread):
    student, teacher, y, prediction, target = drawn(spread=spread)
    divergence = rel_entr(softmax(teacher / temperature, -1), softmax(student / temperature, -1)).sum(-1)
    wanted = (1 - alpha) * hard(student, y) + alpha * temperature**2 * divergence
    close(Distillation(alpha=alpha, temperature=temperature)(prediction, target), wanted, rtol=1e-8)


def test_distillation_against_torch():
    _, teacher, y, prediction, target = drawn(1)
    t = 3.0
    soft = functional.kl_div(
        (prediction / t).log_softmax(-1), (torch.from_numpy(teacher) / t).softmax(-1), reduction="batchmean"
    )
    wanted = 0.3 * functional.cross_entropy(prediction, torch.from_numpy(y)) + 0.7 * t**2 * soft
    close(Distillation(alpha=0.7, temperature=t)(prediction, target).mean(), wanted)


def test_the_teacher_s_gradient_keeps_its_size_as_the_temperature_grows():
    _, _, _, prediction, target = drawn(2)
    sizes = []
    for t in (10.0, 100.0, 1000.0):
        z = prediction.clone().requires_grad_()
        Distillation(alpha=1, temperature=t)(z, target).sum().backward()
        sizes.append(z.grad.norm().item())
    assert sizes == pytest.approx([sizes[-1]] * 3, rel=0.2)


@pytest.mark.parametrize("fields", [{}, {"alpha": 0.5, "beta": 2, "temperature": 1, "label_weight": 0}])
@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_dkd_in_numpy(fields, spread):
    # Zhao et al. 2022, equations 5 to 7
    loss = DKD(**fields)
    student, teacher, y, prediction, target = drawn(3, spread=spread)
    wanted = []
    for s, t, c in zip(student / loss.temperature, teacher / loss.temperature, y, strict=True):
        ours, theirs = softmax(s), softmax(t)
        pair = rel_entr([theirs[c], 1 - theirs[c]], [ours[c], 1 - ours[c]]).sum()
        rest = rel_entr(softmax(np.delete(t, c)), softmax(np.delete(s, c))).sum()
        wanted.append(loss.temperature**2 * (loss.alpha * pair + loss.beta * rest))
    close(loss(prediction, target), np.array(wanted) + loss.label_weight * hard(student, y), rtol=1e-8)


@pytest.mark.parametrize("fields", [{}, {"beta": 2, "gamma": 0.5, "temperature": 4}])
def test_dist_by_numpy_s_correlation(fields):
    loss = DIST(**fields)
    student, teacher, y, prediction, target = drawn(4, n=9)
    ours, theirs = softmax(student / loss.temperature, -1), softmax(teacher / loss.temperature, -1)
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)])
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)])
    soft = loss.temperature**2 * (loss.beta * rows + loss.gamma * columns)
    close(loss(prediction, target), hard(student, y).mean() + soft, rtol=1e-6)  # the authors add 1e-8 to lengths


def test_logit_matching_against_torch():
    _, teacher, _, prediction, target = drawn(5)
    wanted = functional.mse_loss(prediction, torch.from_numpy(teacher), reduction="none").mean(-1)
    close(LogitMatching()(prediction, target), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_student_that_is_the_teacher(name):
    _, teacher, y, _, target = drawn(6)
    prediction = torch.from_numpy(teacher).requires_grad_()
    loss = get(name)
    label = {"distillation": 0.1, "dkd": 1.0, "dist": 1.0, "logit_matching": 0.0}[name] * hard(teacher, y)
    value = loss(prediction, target)
    close(value.detach(), label.mean() if loss.batch_level else label, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_certain_students_and_teachers_are_finite(name, dtype):
    sure = 100 * (2 * torch.eye(4) - 1)
    prediction = sure.repeat_interleave(16, 0).to(dtype).requires_grad_()
    target = torch.stack([sure.repeat_interleave(4, 0).repeat(4, 1), torch.eye(4).repeat(16, 1)], 1).to(dtype)
    value = get(name)(prediction, target)
    value.sum().backward()
    assert value.isfinite().all()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["dist"])
def test_what_does_not_vary_has_no_direction(name):
    # one example, and logits that are all equal: variances of 0
    prediction = torch.zeros(1, 4, requires_grad=True)
    target = torch.stack([torch.zeros(1, 4), torch.eye(4)[:1]], 1)
    value = get(name)(prediction, target)
    value.backward()
    close(value.detach().double(), math.log(4) + 2, rtol=1e-6)
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_two_rows_of_target(name):
    for shape in [(3, 4), (3, 2), (3, 4, 2), (3, 1, 4), (2, 4)]:
        with pytest.raises(InvalidValue, match=r"teacher's logits and a one-hot class, shape \[3, 2, 4\].* Got"):
            get(name)(torch.zeros(3, 4), torch.zeros(shape))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Distillation, {"alpha": 1.5}),
        (Distillation, {"temperature": 0}),
        (DKD, {"beta": -1}),
        (DKD, {"alpha": math.nan}),
        (DKD, {"label_weight": -0.1}),
        (DKD, {"temperature": -4}),
        (DIST, {"gamma": -1}),
        (DIST, {"temperature": 0}),
    ],
)
def test_fields_out_of_range(kind, fields):
    with pytest.raises(InvalidValue, match=f"The '{next(iter(fields))}' parameter of {kind.__name__} must be .* Got "):
        kind(**fields)
