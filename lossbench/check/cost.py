"""Checks that tell: how a loss goes through a stack, and what it costs."""

import time

import torch

from lossbench.check.batches import R, differing_rows
from lossbench.check.contract import CheckFailed, NotApplicable, built_in
from lossbench.check.samples import call_for, stack
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import B
from lossbench.training.groups import choose

LOOPING = frozenset({"External", "StandIn"})
"""Classes of built-in losses that call one row at a time, reviewed: nothing faster is known, or it is not ours."""
EXAMPLES = 8192
BATCH_LEVEL_EXAMPLES = 120  # some take all triples, or want halves or thirds
REPEATS = 3


def route_through_a_stack(loss: Loss) -> str:
    """Rows that differ share a call: broadcast, fold, vmap, or else one call per row (loop)."""
    equal = _route([loss] * R)
    try:
        rows = differing_rows(loss)
    except NotApplicable:
        return equal
    different = _route(rows)
    return equal if different == equal else f"{equal}; {different} where fields differ"


def _route(rows: list[Loss]) -> str:
    together = stack([call_for(row, seed) for seed, row in enumerate(rows)])
    route = choose(rows, together.prediction, together.target, together.requires)
    if route == "loop" and built_in(rows[0]) and type(rows[0]).__name__ not in LOOPING:
        raise CheckFailed("found loop, one call per row, wanted broadcast, fold or vmap")
    return route


def time_per_element(loss: Loss) -> str:
    """Value and gradient in float32 on one batch: told, never failed."""
    n = BATCH_LEVEL_EXAMPLES if loss.batch_level else EXAMPLES
    call = call_for(loss).to(torch.float32).rows(torch.arange(n) % B)
    prediction = call.prediction.requires_grad_()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call.of(loss).sum().backward()
        seconds.append(time.perf_counter() - start)
    return f"{1e9 * min(seconds) / prediction.numel():.3g} ns per element"
