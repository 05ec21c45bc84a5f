"""Checks of the mathematical properties that a loss claims: convex, bounded, robust, symmetric.

True and False are both checked. Numbers can refute a claim, and find the counterexample that `False` promises; they
prove no theorem.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lossbench.check.assertions import assert_shape
from lossbench.check.calls import Call, draw_call, map_to_space
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import C
from lossbench.interfaces.spaces import SPACES

SEEDS = range(8)
SCALES = (1e-6, 1e-3, 0.1, 1.0, 3.0, 10.0, 100.0, 1e4, 1e6)
"""Sizes of predictions among which a bounded value, or slope, reaches its largest."""
NEAR, FAR = 1e-10, 1e12
"""Sizes of predictions beyond both ends of `SCALES`, where a bounded value is no larger than in between."""
SLACK = 1.01
ROUNDING = 1e-9


def convex_as_claimed(loss: Loss) -> None:
    """`convex`: half-way between two predictions the value is at most the mean of theirs."""
    claim = _get_claim(loss, "convex")
    # Jensen's inequality at the midpoint: f((p + q) / 2) <= (f(p) + f(q)) / 2
    worst = -math.inf
    for scale in SCALES:
        for seed in SEEDS:
            for p, q in zip(_draw_calls(loss, scale, seed), _draw_calls(loss, scale, seed + 100), strict=True):
                middle = p._replace(prediction=(p.prediction + q.prediction) / 2).evaluate(loss)
                at_p, at_q = p.evaluate(loss), p._replace(prediction=q.prediction).evaluate(loss)
                # relative to the values; where an end is infinite this is -inf or NaN, which refutes nothing
                excess = (middle - (at_p + at_q) / 2) / (1 + at_p.abs() + at_q.abs()) - ROUNDING
                worst = max(worst, float(excess.nan_to_num(neginf=-1.0).max()))
    _compare(claim, worst <= 0, "convex", f"a value {worst:.3g} above the mean of its neighbours'")


def bounded_as_claimed(loss: Loss) -> None:
    """`bounded`: the value does not grow beyond a bound, however wrong the prediction."""
    claim = _get_claim(loss, "bounded")
    largest = max(_find_largest_value(loss, scale) for scale in SCALES)
    farthest = _find_largest_value(loss, FAR)
    evidence = f"{farthest:.4g} at predictions of size {FAR:g} and at most {largest:.4g} up to {SCALES[-1]:g}"
    _compare(claim, farthest <= SLACK * largest < torch.inf, "bounded", evidence)


def _find_largest_value(loss: Loss, scale: float) -> float:
    """Return the largest absolute value; infinite where one is NaN."""
    calls = _draw_all_calls(loss, scale)
    return max(float(call.evaluate(loss).abs().nan_to_num(torch.inf).max()) for call in calls)


def robust_as_claimed(loss: Loss) -> None:
    """`robust`: the gradient is bounded, so that no example outweighs the others however wrong it is."""
    claim = _get_claim(loss, "robust")
    largest = max(_find_largest_gradient(loss, scale) for scale in SCALES)
    farthest = max(_find_largest_gradient(loss, scale) for scale in (NEAR, FAR))
    evidence = f"a slope of {farthest:.4g} at predictions of size {NEAR:g} or {FAR:g} and at most {largest:.4g} between"
    _compare(claim, farthest <= SLACK * largest < torch.inf, "robust", evidence)


def _find_largest_gradient(loss: Loss, scale: float) -> float:
    """Return the largest norm of the gradient of one example; infinite where it is NaN."""
    norms = []
    for call in _draw_all_calls(loss, scale):
        prediction = call.prediction.requires_grad_()
        (gradient,) = torch.autograd.grad(call.evaluate(loss).sum(), prediction)
        norms.append(float(gradient.flatten(1).norm(dim=1).nan_to_num(torch.inf).max()))
    return max(norms)


def symmetric_as_claimed(loss: Loss) -> None:
    """`symmetric`: over all classes that the target could be, the values add up to a constant."""
    claim = _get_claim(loss, "symmetric")
    sums = torch.cat(
        [_sum_over_classes(loss, call).flatten() for scale in (0.1, 10.0, 1e3) for call in _draw_all_calls(loss, scale)]
    )
    low, high = sums.min().item(), sums.max().item()
    is_constant = math.isfinite(high) and high - low <= ROUNDING * (1 + abs(high))
    _compare(claim, is_constant, "symmetric", f"sums over the classes from {low:.6g} to {high:.6g}")


def _sum_over_classes(loss: Loss, call: Call) -> Tensor:
    """Return the sum of the values over the classes, or over both answers for all labels."""
    encoding = ENCODINGS[loss.encoding]
    if encoding.hot is None:
        raise CheckFailed(f"symmetric is a property of losses on classes only, got encoding {loss.encoding}")
    hot = encoding.hot(call.target)  # [B, C]
    hots = list(torch.eye(C).to(call.prediction)) if encoding.exclusive else [hot, 1 - hot]
    values = [call._replace(target=encoding.from_hot(h).expand_as(call.target)).evaluate(loss) for h in hots]
    assert_shape(values[0], call.prediction.shape[: values[0].ndim], "values")
    return torch.stack(values).sum(0)


def _draw_all_calls(loss: Loss, scale: float) -> Iterator[Call]:
    return (call for seed in SEEDS for call in _draw_calls(loss, scale, seed))


def _draw_calls(loss: Loss, scale: float, seed: int) -> Iterator[Call]:
    """Yield predictions of one size, around 0 and, where the target has their shape, around the target."""
    call = draw_call(loss)
    space = SPACES[loss.space]
    raw = scale * space.draw(torch.Generator().manual_seed(seed))
    yield call._replace(prediction=map_to_space(raw, loss))
    if space.holds_targets and space.link is None and call.target.is_floating_point():
        yield call._replace(prediction=call.target + raw)


def _get_claim(loss: Loss, fact: str) -> bool:
    claim: bool | None = getattr(loss, fact)
    if claim is None:
        raise NotApplicable("nothing is claimed")
    return claim


def _compare(claim: bool, holds: bool, fact: str, evidence: str) -> None:
    if claim and not holds:
        raise CheckFailed(f"{fact} is claimed, got {evidence}")
    if not claim and holds:
        raise CheckFailed(f"{fact} = False is claimed, got nothing against it: {evidence}")
