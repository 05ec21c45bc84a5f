"""One contract for every loss: whoever writes one only registers it."""

import pickle
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from contract.samples import PAIRS, PROBLEM, B, C, Call, N, call_for, extremes, stack
from torch import Tensor

from lossbench import registry
from lossbench.interfaces.loss import Loss, replicated
from lossbench.types import Encoding, Head, Need, Space

SETTINGS: dict[str, dict[str, Any]] = {"external": {"target": "torch.nn.HuberLoss"}}
"""Fields without a default."""
ONE_BATCH = {"external"}
"""Losses that take `[N, ...]` only; the engine folds."""
HELD_STILL = {"ciou", "wiou_v1", "circle", "adaface"}
"""Losses with a factor that has no gradient, which gradcheck would miss; their own tests check the gradient."""
FREE = {"elr": {"beta": 1.0}, "focal_eiou": {"gamma": 0.0}, "beta_nll": {"beta": 0.0}}
"""Fields at which what is held still does not depend on the prediction (elr's targets, the weight of focal_eiou)."""
NO_WHOLE_NUMBER = {("arcface", "scale"), ("jensen_shannon", "pi"), ("anl_ce", "p_min")}
NO_WHOLE_NUMBER |= {("quantile", "tau"), ("expectile", "tau"), ("tweedie", "power")}
NO_WHOLE_NUMBER |= {(n, "margin") for n in ("cosface", "adaface", "cosine_embedding", "circle")}
NO_WHOLE_NUMBER |= {("magface", "lower"), ("multi_similarity", "base")}
"""Fields that cannot be 1, or for which 1 is no sensible value."""
STEPS = {"bi_tempered": (1.0, 1.1, 1.25), "tweedie": (0.8, 0.9, 1.0)}
"""Factors from a field's default to the values of three rows, where halving it leaves its range."""

NAMES = [n for n, entry in registry.losses.entries().items() if entry.kind.__module__.startswith("lossbench.")]
EXAMPLEWISE = [n for n in NAMES if not registry.losses.find(n).coupled]
CLASS_VECTORS = [n for n in EXAMPLEWISE if registry.losses.find(n).space == Space.EMBEDDING]
STACKING = [n for n in NAMES if n not in ONE_BATCH]


def build(name: str, **given: Any) -> Loss:
    return registry.losses.get(name, **SETTINGS.get(name, {}), **given)


def float_fields(loss: Loss) -> list[str]:
    return [f.name for f in fields(loss) if f.type is float and f.name not in loss.scalar_fields]


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_is_filled_in(name: str) -> None:
    loss = build(name)
    doc = type(loss).__doc__ or ""
    assert all(part in doc for part in (".. math::", "Returns", "Raises", "Reference:", "https://")), doc
    for line in (loss.use_when, loss.beware, *loss.known_as):
        assert 2 < len(line) < 160
    assert loss.known_as
    assert loss.tasks
    assert isinstance(loss.space, Space)
    assert isinstance(loss.encoding, Encoding)
    assert isinstance(loss.head, Head)
    assert all(isinstance(n, Need) for n in loss.needs)
    assert (loss.space == Space.EMBEDDING) == (loss.head == Head.EMBEDDING)
    assert (loss.space in PAIRS) == (loss.head == Head.MEAN_SCALE)


@pytest.mark.parametrize("name", NAMES)
def test_is_a_value(name: str) -> None:
    loss, same = build(name), build(name)
    assert loss == same
    assert hash(loss) == hash(same)
    call_for(loss).of(loss)
    again = pickle.loads(pickle.dumps(loss))
    assert again == loss == same
    assert hash(again) == hash(loss)
    torch.testing.assert_close(call_for(loss).of(again), call_for(loss).of(loss), rtol=0, atol=0)
    with pytest.raises(AttributeError):
        loss.anything = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_fields_take_whole_numbers_for_floats(name: str) -> None:
    loss = build(name)
    whole = {n: 1 for n in float_fields(loss) if (name, n) not in NO_WHOLE_NUMBER}
    call = call_for(loss)
    torch.testing.assert_close(
        call.of(replace(loss, **whole)), call.of(replace(loss, **{n: float(v) for n, v in whole.items()}))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_one_value_per_example_in_the_type_of_the_prediction(name: str, dtype: torch.dtype) -> None:
    loss = build(name)
    losses = call_for(loss).to(dtype).of(loss)
    assert losses.shape == (() if loss.coupled else (B,))
    assert losses.isfinite().all()
    # a loss may widen bfloat16, which keeps three digits
    assert losses.dtype == dtype or (dtype, losses.dtype) == (torch.bfloat16, torch.float32)
    # bfloat16 rounds each term by up to 0.4 %
    tolerance = {torch.float32: 1e-5, torch.float64: 0.0, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(losses.double(), call_for(loss).of(loss), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", STACKING)
def test_leading_axes_are_free(name: str) -> None:
    loss = build(name)
    calls = [call_for(loss, seed) for seed in range(3)]
    alone = torch.stack([call.of(loss) for call in calls])
    torch.testing.assert_close(stack(calls).of(loss), alone, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(stack([stack(calls)]).of(loss), alone[None], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", EXAMPLEWISE)
def test_one_example_at_a_time(name: str) -> None:
    loss = build(name)
    call = call_for(loss)
    alone = torch.cat([call.rows(slice(i, i + 1)).of(loss) for i in range(B)])
    torch.testing.assert_close(alone, call.of(loss), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [n for n in EXAMPLEWISE if n in STACKING and not registry.losses.find(n).needs])
def test_no_leading_axis_at_all(name: str) -> None:
    loss = build(name)
    call = call_for(loss)
    torch.testing.assert_close(loss(call.prediction[0], call.target[0]), call.of(loss)[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    loss = build(name)
    call, order = call_for(loss), torch.randperm(B, generator=torch.Generator().manual_seed(1))
    losses = call.of(loss)
    torch.testing.assert_close(call.rows(order).of(loss), losses if loss.coupled else losses[order])


@pytest.mark.parametrize("name", [n for n in STACKING if float_fields(build(n))])
def test_fields_may_be_tensors_with_one_value_per_row(name: str) -> None:
    loss = build(name)
    steps = STEPS.get(name, (0.5, 0.75, 1.0))
    rows = [
        replace(loss, **{n: s * (getattr(loss, n) or 0.2) for n in float_fields(loss)}) for s in steps
    ]  # a default of 0 stands for "off", so it is replaced
    calls = [call_for(loss, seed) for seed in range(3)]
    axes = [1] * calls[0].prediction.ndim
    tensors = {
        n: torch.tensor([getattr(r, n) for r in rows], dtype=torch.float64).view(-1, *axes) for n in float_fields(loss)
    }
    stacked = stack(calls).of(replicated(loss, **tensors))
    alone = torch.stack([call.of(row) for call, row in zip(calls, rows, strict=True)])
    torch.testing.assert_close(stacked, alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in HELD_STILL])
def test_gradient_is_that_of_the_value(name: str) -> None:
    loss = build(name, **FREE.get(name, {}))
    call = call_for(loss)
    trainable = call.needs.get("parameters", {})

    def losses(prediction: Tensor, *values: Tensor) -> Tensor:
        needs = call.needs | ({"parameters": dict(zip(trainable, values, strict=True))} if trainable else {})
        return Call(prediction, call.target, needs).of(loss)

    inputs = [x.detach().requires_grad_() for x in (call.prediction, *trainable.values())]
    assert torch.autograd.gradcheck(losses, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_extremes_are_finite(name: str) -> None:
    loss = build(name)
    prediction, target, _ = extremes(loss)
    needs = call_for(loss).to(torch.float32).needs
    if "index" in needs:
        needs["index"] = torch.arange(len(prediction)) % N
    if "residual_scale" in needs:
        needs["residual_scale"] = torch.tensor([[1e-6, 1e-3, 1.0, 1e4]])
    if "weight" in needs.get("parameters", {}):  # embeddings along, against and across their class vectors
        needs["parameters"]["weight"] = prediction[::C][:C]
    prediction = prediction.clone().requires_grad_()
    losses = Call(prediction, target, needs).of(loss)
    assert losses.isfinite().all()
    losses.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5])
def test_extremes_of_a_weak_focus_are_finite(gamma: float) -> None:
    loss = build("focal", gamma=gamma)
    prediction, target, _ = extremes(loss)
    prediction = prediction.clone().requires_grad_()
    loss(prediction, target).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ONE_BATCH])
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    loss = build(name)
    call = call_for(loss)
    wrong = call.target[..., :1]
    if loss.encoding == Encoding.INDEX:
        wrong = call.target[..., None]
    if loss.encoding == Encoding.TOKENS:
        wrong = call.target[:1]  # one transcript for all examples
    with pytest.raises(registry.LossbenchError, match=r"shape.*Got"):
        Call(call.prediction, wrong, call.needs).of(loss)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_as_a_module(name: str, reduction: str) -> None:
    loss = build(name)
    call = call_for(loss).to(torch.float32)
    held = {n: call.needs[n] for n in ("class_counts", "residual_scale") if n in call.needs}
    problem = {"problem": PROBLEM} if {Need.PARAMETERS, Need.STATE} & set(loss.needs) else {}
    module = loss.module(reduction, **held, **problem)
    if "state" in call.needs:
        module.state = call.needs["state"]
    if "parameters" in call.needs:
        module.trainable.load_state_dict(call.needs["parameters"])
    given = {n: call.needs[n] for n in ("index", "progress") if n in call.needs}
    losses = call.of(loss)
    wanted = losses if reduction == "none" else getattr(losses, reduction)()
    torch.testing.assert_close(module(call.prediction, call.target, **given), wanted)


@pytest.mark.parametrize("name", CLASS_VECTORS)
def test_scores_of_embeddings(name: str) -> None:
    loss = build(name)
    calls = [call_for(loss, seed) for seed in range(2)]
    scores = [loss.scores(c.prediction, c.needs["parameters"]) for c in calls]
    assert scores[0].shape == (B, C)
    both = stack(calls)
    torch.testing.assert_close(loss.scores(both.prediction, both.needs["parameters"]), torch.stack(scores))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in CLASS_VECTORS])
def test_other_spaces_have_no_scores(name: str) -> None:
    with pytest.raises(NotImplementedError, match="needs no scores"):
        build(name).scores(torch.zeros(1, 1), {})
