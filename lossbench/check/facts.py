"""Checks of what a loss claims of its shape: convex, bounded, robust, symmetric. True and False are both verified.

Numbers can refute a claim, and find the counterexample that `False` promises; they prove no theorem.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lossbench.check.comparison import has_shape
from lossbench.check.contract import CheckFailed, NotApplicable
from lossbench.check.samples import Call, call_for, in_space
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import C
from lossbench.interfaces.spaces import SPACES

SEEDS = range(8)
MIDDLE = (1e-6, 1e-3, 0.1, 1.0, 3.0, 10.0, 100.0, 1e4, 1e6)
"""Sizes of predictions among which the largest value, or slope, of a bounded one is found."""
NEAR, FAR = 1e-10, 1e12
SLACK = 1.01
ROUNDING = 1e-9


def convex_as_claimed(loss: Loss) -> None:
    """`convex`: half-way between two predictions the value is at most the mean of theirs."""
    claim = _claimed(loss, "convex")
    gaps = [gap for scale in MIDDLE for seed in SEEDS for gap in _gaps(loss, scale, seed)]
    worst = max(gaps)
    _verify(claim, worst <= 0, "convex", f"a value {worst:.3g} above the mean of its neighbours'")


def _gaps(loss: Loss, scale: float, seed: int) -> Iterator[float]:
    """By how much the value half-way is above the mean, relative to the values: at most 0 if convex."""
    for one, other in zip(_calls(loss, scale, seed), _calls(loss, scale, seed + 100), strict=True):
        half = one._replace(prediction=(one.prediction + other.prediction) / 2)
        ends = one.of(loss), one._replace(prediction=other.prediction).of(loss)
        size = 1 + ends[0].abs() + ends[1].abs()
        gap = (half.of(loss) - (ends[0] + ends[1]) / 2) / size - ROUNDING
        yield float(gap.nan_to_num(neginf=-1.0).max())


def bounded_as_claimed(loss: Loss) -> None:
    """`bounded`: the value does not grow beyond a bound, however wrong the prediction."""
    claim = _claimed(loss, "bounded")
    largest = max(_largest(loss, scale, values=True) for scale in MIDDLE)
    farthest = _largest(loss, FAR, values=True)
    found = f"{farthest:.4g} at predictions of size {FAR:g} and at most {largest:.4g} up to {MIDDLE[-1]:g}"
    _verify(claim, _within(farthest, largest), "bounded", found)


def robust_as_claimed(loss: Loss) -> None:
    """`robust`: the gradient is bounded, so that no example outweighs the others however wrong it is."""
    claim = _claimed(loss, "robust")
    largest = max(_largest(loss, scale, values=False) for scale in MIDDLE)
    farthest = max(_largest(loss, scale, values=False) for scale in (NEAR, FAR))
    found = f"a slope of {farthest:.4g} at predictions of size {NEAR:g} or {FAR:g} and at most {largest:.4g} between"
    _verify(claim, _within(farthest, largest), "robust", found)


def _within(farthest: float, largest: float) -> bool:
    return farthest <= SLACK * largest < torch.inf


def _largest(loss: Loss, scale: float, values: bool) -> float:
    """The largest absolute value, or the largest gradient of one example; infinite where it is NaN."""
    return max(float(_size(loss, call, values).nan_to_num(torch.inf).max()) for call in _all(loss, scale))


def _size(loss: Loss, call: Call, values: bool) -> Tensor:
    prediction = call.prediction.requires_grad_(not values)
    losses = call.of(loss)
    if values:
        return losses.abs()
    (gradient,) = torch.autograd.grad(losses.sum(), prediction)
    return gradient.flatten(1).norm(dim=1)


def symmetric_as_claimed(loss: Loss) -> None:
    """`symmetric`: over all classes that the target could be, the values add up to a constant."""
    claim = _claimed(loss, "symmetric")
    totals = torch.cat([_total(loss, call).flatten() for scale in (0.1, 10.0, 1e3) for call in _all(loss, scale)])
    low, high = totals.min().item(), totals.max().item()
    constant = math.isfinite(high) and high - low <= ROUNDING * (1 + abs(high))
    _verify(claim, constant, "symmetric", f"sums over the classes from {low:.6g} to {high:.6g}")


def _total(loss: Loss, call: Call) -> Tensor:
    """The sum of the values over the classes, or over both answers for all labels."""
    encoding = ENCODINGS[loss.encoding]
    if encoding.hot is None:
        raise CheckFailed(f"symmetric says something of losses on classes only, found encoding {loss.encoding}")
    hot = encoding.hot(call.target)
    hots = list(torch.eye(C).to(call.prediction)) if encoding.exclusive else [hot, 1 - hot]
    sums = [call._replace(target=encoding.of_hot(h).expand_as(call.target)).of(loss) for h in hots]
    has_shape(sums[0], call.prediction.shape[: sums[0].ndim], "values")
    return torch.stack(sums).sum(0)


def _all(loss: Loss, scale: float) -> Iterator[Call]:
    return (call for seed in SEEDS for call in _calls(loss, scale, seed))


def _calls(loss: Loss, scale: float, seed: int) -> Iterator[Call]:
    """Predictions of one size, about 0 and, where they have its shape, about the target."""
    call = call_for(loss)
    space = SPACES[loss.space]
    raw = scale * space.draw(torch.Generator().manual_seed(seed))
    yield call._replace(prediction=in_space(raw, loss))
    if space.holds_targets and space.link is None and call.target.is_floating_point():
        yield call._replace(prediction=call.target + raw)


def _claimed(loss: Loss, fact: str) -> bool:
    claim: bool | None = getattr(loss, fact)
    if claim is None:
        raise NotApplicable("nothing is claimed")
    return claim


def _verify(claim: bool, holds: bool, fact: str, found: str) -> None:
    if claim and not holds:
        raise CheckFailed(f"{fact} is claimed, found {found}")
    if not claim and holds:
        raise CheckFailed(f"{fact} = False is claimed, found nothing against it: {found}")
